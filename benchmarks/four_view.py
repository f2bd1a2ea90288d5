"""Poses of a real person against triangulated 3D points: one view, two views, four views.

The recording (shared data, four_view_balancing.zip) has OpenPose keypoints in the order BODY_25B from four cameras, and
3D points triangulated from them. python benchmarks/four_view.py [--frames 25] [--json FILE]
"""

import io
import json
import tomllib
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor

import vitruvian as vt
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.estimation.regress import FLOW_FIT, IN_VIEWS, flow_prior, placed_mode
from vitruvian.evaluation.distribution_scores import Errors
from vitruvian.evaluation.metrics import MM, procrustes_align
from vitruvian.fitting.fit import fit_keypoints
from vitruvian.fitting.fit_views import ViewsConfig, fit_views
from vitruvian.fitting.parts import body_prior
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.rotations import exp_so3
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.people import People
from vitruvian.keypoints.targets import keypoint_targets
from vitruvian.recovery.posterior import infer
from vitruvian.recovery.weights import pose_network

ARCHIVE = Path(__file__).resolve().parents[2] / "shared" / "data" / "four_view_balancing.zip"
FORMAT = "openpose-body25b"
PLACES = {
    "Hip": "hip", "Knee": "knee", "Ankle": "ankle", "BigToe": "big_toe", "SmallToe": "small_toe", "Heel": "heel",
    "Shoulder": "shoulder", "Elbow": "elbow", "Wrist": "wrist",
}  # fmt: skip
SINGLE = {"Nose": "nose", "Neck": "upper_neck", "Head": "head_top"}


@dataclass(frozen=True)
class FourViewConfig:
    """The real four-view benchmark.

    Attributes:
        frames: frames, spread evenly over the recording.
        json: file for the figures.
    """

    frames: int = 25
    json: Path | None = None


@dataclass(frozen=True)
class Recording:
    """Keypoints `(frame, camera, K)` with cameras, and 3D points `(frame, camera, point, 3)` in each camera's frame.

    `rows` are the keypoints of the format that the 3D points belong to.
    """

    keypoints: Keypoints
    camera: Camera
    points: Tensor
    rows: list[int]


def read_recording(path: Path, count: int) -> Recording:
    """Some frames of the recording."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        calibration = tomllib.loads(
            archive.read(next(n for n in names if n.endswith(".toml") and "Calib" in n)).decode()
        )
        cameras = [calibration[f"cam_{k:02d}"] for k in (1, 2, 3, 4)]
        trc = archive.read(next(n for n in names if n.endswith("_0-100.trc"))).decode().splitlines()
        markers = [name for name in trc[3].split("\t")[2:] if name]
        table = np.genfromtxt(io.StringIO("\n".join(trc[5:])), delimiter="\t")[:, 2 : 2 + 3 * len(markers)]
        frames = np.linspace(0, len(table) - 1, count).round().astype(int)
        seen = np.zeros((count, 4, 25, 3))
        for k in range(4):
            for row, frame in enumerate(frames):
                file = next(n for n in names if n.endswith(f"cam{k + 1:02d}.{frame:04d}.json"))
                people = json.loads(archive.read(file))["people"]
                if people and "pose_keypoints_2d" in people[0]:
                    seen[row, k] = np.reshape(people[0]["pose_keypoints_2d"], (25, 3))
    xyz = table[frames].reshape(count, -1, 3)[..., [2, 0, 1]]  # the calibration is Z up, the TRC Y up
    R = exp_so3(torch.tensor([c["rotation"] for c in cameras], dtype=torch.float64))
    t = torch.tensor([c["translation"] for c in cameras], dtype=torch.float64)
    points = torch.einsum("cij,fpj->fcpi", R, torch.from_numpy(xyz)) + t[:, None]
    matrices = torch.tensor([c["matrix"] for c in cameras], dtype=torch.float64)
    camera = Camera(
        matrices[:, [0, 1], [0, 1]], matrices[:, :2, 2], torch.tensor([c["size"] for c in cameras], dtype=torch.float64)
    )
    keypoints = Keypoints(torch.from_numpy(seen[..., :2]).float(), torch.from_numpy(seen[..., 2]).float(), FORMAT)
    places = [SINGLE.get(m) or f"{'left' if m[0] == 'L' else 'right'}_{PLACES[m[1:]]}" for m in markers]
    rows = [keypoints.definition.index(place) for place in places]
    camera = camera.map(lambda x: x.float().expand(count, 4, 2))
    return Recording(keypoints, camera, points.float(), rows)


def errors(body: BodyModel, params: BodyParams, recording: Recording, views: slice) -> Errors:
    """Errors of bodies `(frame, view)` at the points of the recording; the middle of the hips at the origin."""
    targets = keypoint_targets(body, FORMAT)
    columns = [targets.keypoint.tolist().index(row) for row in recording.rows]
    posed = body.with_shape(params.betas, params.expression).with_pose(params.rotations, params.transl)
    found = posed.points(targets.points)[..., columns, :]
    truth = recording.points[:, views].reshape(-1, *recording.points.shape[-2:])
    hips = [k for k, row in enumerate(recording.rows) if "hip" in recording.keypoints.definition.places[row]]
    moved = found - found[:, hips].mean(1, keepdim=True), truth - truth[:, hips].mean(1, keepdim=True)
    error = (moved[0] - moved[1]).norm(dim=-1).mean() * MM
    aligned = (procrustes_align(found, truth) - truth).norm(dim=-1).mean() * MM
    return Errors(float(error), float(aligned))


def main(config: FourViewConfig) -> None:
    recording = read_recording(ARCHIVE, config.frames)
    network = pose_network()
    body = vt.open_body(num_shape=network.config.num_shape, num_expression=network.config.num_expression)
    out: dict[str, dict[str, float]] = {}
    flat = recording.keypoints.map(lambda x: x.flatten(0, 1))
    camera = recording.camera.map(lambda x: x.flatten(0, 1))
    posterior = infer(network, flat, camera)
    everything = slice(0, 4)
    seen = People.in_picture(flat, camera)
    placed = placed_mode(posterior, body, seen)
    mode = start = placed.params
    out["mode"] = asdict(errors(body, mode, recording, everything))
    prior = flow_prior(posterior, body, seen, placed)
    single = fit_keypoints(body, flat, camera, config=FLOW_FIT, prior=prior, start=start).params
    out["fit, flow"] = asdict(errors(body, single, recording, everything))
    vposer = fit_keypoints(body, flat, camera, prior=body_prior("vposer", body.skeleton)).params
    out["fit, VPoser"] = asdict(errors(body, vposer, recording, everything))
    for views in (2, 4):
        some = slice(0, views)
        rows = (torch.arange(config.frames)[:, None] * 4 + torch.arange(views)).flatten()
        chosen = posterior[rows]
        keypoints = recording.keypoints[:, some]
        cameras = recording.camera[:, some]
        found = fit_views(
            body,
            keypoints,
            cameras,
            config=ViewsConfig(fit=FLOW_FIT),
            prior=flow_prior(chosen, body, seen[rows], placed[rows], strength=IN_VIEWS),
            start=start[rows],
        )
        params = found.params.map(lambda x: x.flatten(0, 1))
        out[f"{views} views"] = asdict(errors(body, params, recording, some))
        out[f"1 view, the same {views} cameras"] = asdict(errors(body, single[rows], recording, some))
    for name, row in out.items():
        print(f"{name:30s} MPJPE {row['mpjpe_mm']:6.1f} mm   PA-MPJPE {row['pa_mpjpe_mm']:6.1f} mm")
    if config.json is not None:
        config.json.write_text(json.dumps(out, indent=1))


if __name__ == "__main__":
    main(tyro.cli(FourViewConfig))
