"""The recording of a balancing person from four cameras (shared data, four_view_balancing.zip), as tensors.

Pose2Sim's demonstration data (BSD 3-Clause, © perfanalytics): OpenPose keypoints in the order BODY_25B, calibrated
cameras, videos, and the 3D points that came with them.
"""

import io
import json
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.rotations import exp_so3
from vitruvian.keypoints.images import Photograph
from vitruvian.keypoints.observations import Keypoints
from vitruvian.tensors import TensorRecord

ARCHIVE = Path(__file__).resolve().parents[2] / "shared" / "data" / "four_view_balancing.zip"
CENTERS = Path(__file__).with_name("four_view_centers.json")
"""Corrected principal points, written by four_view_calibration.py."""
FORMAT = "openpose-body25b"
NUM_VIEWS = 4
PLACES = {
    "Hip": "hip", "Knee": "knee", "Ankle": "ankle", "BigToe": "big_toe", "SmallToe": "small_toe", "Heel": "heel",
    "Shoulder": "shoulder", "Elbow": "elbow", "Wrist": "wrist",
}  # fmt: skip
SINGLE = {"Nose": "nose", "Neck": "upper_neck", "Head": "head_top"}


@dataclass(frozen=True, eq=False)
class Rig(TensorRecord):
    """Four calibrated cameras: x_camera = R x_world + t, then the pinhole `camera`; their lenses distort < 0.3 px."""

    R_camera_world: Float[Tensor, "view 3 3"]
    t_camera_world: Float[Tensor, "view 3"]
    camera: Camera

    def to_cameras(self, points: Float[Tensor, "*batch point 3"]) -> Float[Tensor, "*batch view point 3"]:
        """World points in the frame of every camera."""
        turned = points[..., None, :, :] @ self.R_camera_world.transpose(-1, -2)
        return turned + self.t_camera_world[:, None]

    def with_centers(self, centers: Float[Tensor, "view 2"]) -> "Rig":
        """The same cameras with other principal points."""
        return replace(self, camera=replace(self.camera, center_px=centers))


@dataclass(frozen=True, eq=False)
class Recording:
    """All frames: keypoints `(frame, view, 25)`, the cameras, and the points that came with the recording.

    `given (frame, marker, 3)` are in the world frame; `rows` are the keypoints that they belong to.
    """

    keypoints: Keypoints
    rig: Rig
    given: Float[Tensor, "frame marker 3"]
    rows: list[int]


def corrected_centers() -> Float[Tensor, "view 2"]:
    """The corrected principal points that are stored with the benchmark, pixels."""
    return torch.tensor(json.loads(CENTERS.read_text())["center_px"], dtype=torch.float64)


def read_recording(path: Path = ARCHIVE) -> Recording:
    """All frames of the recording, in double precision; cameras as they came."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        table, markers = _points_table(archive, names)
        seen = np.zeros((len(table), NUM_VIEWS, 25, 3))
        for view in range(NUM_VIEWS):
            for frame in range(len(table)):
                file = next(n for n in names if n.endswith(f"cam{view + 1:02d}.{frame:04d}.json"))
                people = json.loads(archive.read(file))["people"]
                if people and "pose_keypoints_2d" in people[0]:
                    seen[frame, view] = np.reshape(people[0]["pose_keypoints_2d"], (25, 3))
        rig = _read_rig(archive, names)
    keypoints = Keypoints(torch.from_numpy(seen[..., :2]), torch.from_numpy(seen[..., 2]), FORMAT).sanitized()
    places = [SINGLE.get(m) or f"{'left' if m[0] == 'L' else 'right'}_{PLACES[m[1:]]}" for m in markers]
    rows = [keypoints.definition.index(place) for place in places]
    # The calibration is Z up, the table of points Y up.
    return Recording(keypoints, rig, torch.from_numpy(table)[..., [2, 0, 1]], rows)


def _points_table(archive: zipfile.ZipFile, names: list[str]) -> tuple[np.ndarray, list[str]]:
    text = archive.read(next(n for n in names if n.endswith("_0-100.trc"))).decode().splitlines()
    markers = [name for name in text[3].split("\t")[2:] if name]
    table = np.genfromtxt(io.StringIO("\n".join(text[5:])), delimiter="\t")[:, 2 : 2 + 3 * len(markers)]
    return table.reshape(len(table), len(markers), 3), markers


def _read_rig(archive: zipfile.ZipFile, names: list[str]) -> Rig:
    text = archive.read(next(n for n in names if n.endswith(".toml") and "Calib" in n)).decode()
    cameras = [tomllib.loads(text)[f"cam_{view + 1:02d}"] for view in range(NUM_VIEWS)]

    def field(name: str) -> Tensor:
        return torch.tensor([camera[name] for camera in cameras], dtype=torch.float64)

    matrices = field("matrix")
    camera = Camera(matrices[:, [0, 1], [0, 1]], matrices[:, :2, 2], field("size"))
    return Rig(exp_so3(field("rotation")), field("translation"), camera)


def video_frames(view: int, frames: list[int], path: Path = ARCHIVE) -> Iterator[Photograph]:
    """Some frames of one camera's video, in ascending order."""
    import cv2  # comes with mediapipe

    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        name = next(n for n in archive.namelist() if n.endswith(f"cam{view + 1:02d}.mp4"))
        video = cv2.VideoCapture(archive.extract(name, folder))
        for frame in range(max(frames) + 1):
            _, pixels = video.read()
            if frame in frames:
                yield Photograph.from_array(
                    cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), name=f"cam{view + 1:02d}.{frame:04d}"
                )
        video.release()
