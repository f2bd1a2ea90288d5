"""A real person in four views: what keypoints alone and the picture's depth cues make of each, against 3D points.

python benchmarks/four_view.py [--frames 25] [--part report|choice|all] [--truth corrected|given] [--json FILE]

The points are triangulated with corrected cameras (four_view_calibration.py). Settings were chosen on the even blocks
of ten frames and are reported on the odd ones. Keypoints are those of OpenPose, which came with the recording, and of
the detector.
"""

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
import tyro
from four_view_recording import Recording, corrected_centers, read_recording, video_frames
from four_view_scores import BLOCK, Errors, Scene, Scorer, corrected_scene, given_scene, paired_gain
from torch import Tensor

import vitruvian as vt
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.estimation.picture_posterior import given_cues
from vitruvian.estimation.regress import FLOW_FIT, IN_VIEWS, flow_prior, placed_mode, regress
from vitruvian.fitting.directions import cue_terms
from vitruvian.fitting.fit import fit_keypoints
from vitruvian.fitting.fit_views import ViewsConfig, fit_views
from vitruvian.fitting.parts import body_prior
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.depth_cues import DepthCues
from vitruvian.keypoints.detectors import DetectorConfig, MediaPipeDetector
from vitruvian.keypoints.images import Photograph
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.people import People
from vitruvian.keypoints.picture_cues import SeenPeople, cues_in_picture
from vitruvian.recovery.estimates import place
from vitruvian.recovery.posterior import BodyPosterior
from vitruvian.recovery.weights import pose_network
from vitruvian.tensors import concatenate_records

NUM_SAMPLES = 25
KNEE_BINS = (0.0, 15.0, 30.0, 60.0, 180.0)
MIN_POINTS = 8
"""Pictures with fewer keypoints of the person are left out."""
SAME_PERSON = 0.15
"""A detection whose points lie further from OpenPose's, as a share of the person's size, is somebody else."""


@dataclass(frozen=True)
class FourViewConfig:
    """The real four-view benchmark.

    Attributes:
        frames: frames, spread evenly over the part.
        part: blocks of ten frames: those on which settings were chosen, the others, or both.
        truth: the corrected calibration, or the one that came with the recording.
        detected: also with keypoints of the detector.
        json: file for the figures.
    """

    frames: int = 25
    part: Literal["report", "choice", "all"] = "report"
    truth: Literal["corrected", "given"] = "corrected"
    detected: bool = True
    json: Path | None = None


@dataclass(frozen=True, eq=False)
class Sight:
    """The person in some pictures: keypoints, cues, cameras and truth, one row a picture."""

    people: SeenPeople
    camera: Camera
    scene: Scene


@dataclass(frozen=True, eq=False)
class Estimate:
    """What one kind of evidence makes of every picture; samples `(sample, row)`, the mode first."""

    mode: BodyParams
    samples: BodyParams
    fit: BodyParams


def chosen_frames(scene: Scene, config: FourViewConfig) -> list[int]:
    """Frames of the part, evenly spread."""
    wanted = {"report": (1,), "choice": (0,), "all": (0, 1)}[config.part]
    frames = sorted({frame for frame in scene.frame if frame // BLOCK % 2 in wanted})
    picks = torch.linspace(0, len(frames) - 1, min(config.frames, len(frames))).round().long()
    return [frames[pick] for pick in picks.tolist()]


def openpose_sight(
    recording: Recording, scene: Scene, camera: Camera, frames: list[int], pictures: dict[tuple[int, int], Photograph]
) -> Sight:
    """OpenPose's keypoints with cues of their pictures."""
    usable = (recording.keypoints.confidence > 0).sum(-1) >= MIN_POINTS
    rows = [
        row
        for row, (frame, view) in enumerate(zip(scene.frame, scene.view, strict=True))
        if frame in frames and usable[frame, view]
    ]
    scene = scene[rows]
    keypoints = recording.keypoints.to(dtype=torch.float32)[scene.frame, scene.view]
    cues = [
        cues_in_picture(pictures[frame, view], keypoints[row : row + 1], camera[view])
        for row, (frame, view) in enumerate(zip(scene.frame, scene.view, strict=True))
    ]
    return Sight(SeenPeople(keypoints, concatenate_records(cues)), camera[scene.view], scene)


def detected_sight(openpose: Sight, camera: Camera, pictures: dict[tuple[int, int], Photograph]) -> Sight:
    """The same person as the detector sees them; pictures in which it does not find them are left out."""
    detector = MediaPipeDetector(DetectorConfig(tile_levels=0))  # the person fills the picture
    rows, people = [], []
    for row, key in enumerate(zip(openpose.scene.frame, openpose.scene.view, strict=True)):
        seen = detector.detect_with_cues(pictures[key], camera[key[1]])
        person = _same_person(seen.keypoints, openpose.people.keypoints[row])
        if person is not None:
            rows.append(row)
            people.append(seen[[person]])
    return Sight(concatenate_records(people), openpose.camera[rows], openpose.scene[rows])


def _same_person(found: Keypoints, keypoints: Keypoints) -> int | None:
    """Row of the detection that lies on given keypoints."""
    if not len(found.confidence):
        return None
    mine = found.to_format("coco17")
    other = keypoints.to_format("coco17")
    weight = mine.confidence * other.confidence
    apart = (mine.positions - other.positions).norm(dim=-1)
    box = other.bounding_box()
    share = (weight * apart).sum(-1) / weight.sum(-1).clamp_min(1e-6) / (box[2:] - box[:2]).amax()
    best = int(share.argmin())
    return best if float(share[best]) < SAME_PERSON and float(weight[best].sum()) > 1 else None


def estimate(
    body: BodyModel, posterior: BodyPosterior, sight: Sight, cues: DepthCues | None, generator: torch.Generator
) -> Estimate:
    """Mode, samples and fit of every picture, from keypoints alone or with cues."""
    keypoints, camera = sight.people.keypoints, sight.camera
    given = posterior if cues is None else given_cues(posterior, body, cues, generator=generator)
    mode = given.mode()
    samples = concatenate_records([mode[None], given.sample(NUM_SAMPLES - 1, generator=generator)])
    people = People.in_picture(keypoints, camera)
    placed = placed_mode(posterior, body, people)
    prior, start = flow_prior(posterior, body, people, placed), placed.params
    terms = cue_terms(cues, prior, spread=FLOW_FIT.cue_spread)
    fit = fit_keypoints(body, keypoints, camera, config=FLOW_FIT, prior=prior, start=start, terms=terms)
    return Estimate(
        place(mode, body, keypoints, camera).params, place(samples, body, keypoints, camera).params, fit.params
    )


def compare(body: BodyModel, scorer: Scorer, sight: Sight) -> dict[str, object]:
    """Scores from keypoints and from the picture, and what the picture gains."""
    posterior = regress(sight.people.keypoints, sight.camera)
    scores: dict[str, dict[str, Errors]] = {}
    rows: dict[str, object] = {"pictures": len(sight.scene)}
    for name, cues in (("keypoints", None), ("picture", sight.people.cues)):
        found = estimate(body, posterior, sight, cues, torch.Generator().manual_seed(0))
        scores[name] = {
            "mode": scorer.errors(sight.scene, found.mode),
            "samples": scorer.errors(sight.scene, found.samples).best(),
            "fit": scorer.errors(sight.scene, found.fit),
        }
        rows[name] = {
            **{estimate: errors.means() for estimate, errors in scores[name].items()},
            "coverage": scorer.coverage(sight.scene, found.samples[1:]),
            "knees": {"mode": knee_bias(scorer, sight.scene, found.mode),
                      "fit": knee_bias(scorer, sight.scene, found.fit)},
        }  # fmt: skip
    rows["gain"] = {
        name: {
            metric: paired_gain(
                getattr(scores["keypoints"][name], metric), getattr(scores["picture"][name], metric), sight.scene.frame
            )
            for metric in ("mpjpe_mm", "pa_mpjpe_mm")
        }
        for name in scores["keypoints"]
    }
    return rows


def knee_bias(scorer: Scorer, scene: Scene, params: BodyParams) -> dict[str, dict[str, float]]:
    """Mean of estimated − true flexion by true flexion, degrees, and how many knees that is."""
    true, known = scorer.knees(scene.points), scorer.known_knees(scene)
    difference = scorer.knees(scorer.points(params)) - true
    out = {}
    for low, high in pairwise(KNEE_BINS):
        rows = known & (true >= low) & (true < high)
        if rows.any():
            out[f"{low:.0f}-{high:.0f}"] = {"bias_deg": float(difference[rows].mean()), "knees": int(rows.sum())}
    return out


def several_views(body: BodyModel, scorer: Scorer, sight: Sight) -> dict[str, object]:
    """Two and four uncalibrated views together, of the frames in which all four see the person."""
    frames = [frame for frame in dict.fromkeys(sight.scene.frame) if sight.scene.frame.count(frame) == 4]
    out: dict[str, object] = {}
    for views in (2, 4):
        pairs = list(zip(sight.scene.frame, sight.scene.view, strict=True))
        rows = [pairs.index((frame, view)) for frame in frames for view in range(views)]
        keypoints, camera = sight.people.keypoints[rows], sight.camera[rows]
        people = People.in_picture(keypoints, camera)
        posterior = regress(people)
        placed = placed_mode(posterior, body, people)
        prior = flow_prior(posterior, body, people, placed, strength=IN_VIEWS)

        def split(x: Tensor, views: int = views) -> Tensor:
            return x.unflatten(0, (-1, views))

        for name, cues in (("keypoints", None), ("picture", sight.people.cues[rows])):
            found = fit_views(
                body,
                keypoints.map(split),
                camera.map(split),
                config=ViewsConfig(fit=FLOW_FIT),
                prior=prior,
                start=placed.params,
                terms=cue_terms(cues, prior, spread=FLOW_FIT.cue_spread),
            )
            params = found.params.map(lambda x: x.flatten(0, 1))
            out[f"{views} views, {name}"] = scorer.errors(sight.scene[rows], params).means()
    return out


def main(config: FourViewConfig) -> None:
    recording = read_recording()
    rig = recording.rig if config.truth == "given" else recording.rig.with_centers(corrected_centers())
    scene = given_scene(recording) if config.truth == "given" else corrected_scene(recording, rig)
    frames = chosen_frames(scene, config)
    pictures = {
        (frame, view): picture
        for view in range(4)
        for frame, picture in zip(frames, video_frames(view, frames), strict=True)
    }
    camera = rig.camera.to(dtype=torch.float32)
    network = pose_network()
    body = vt.open_body(num_shape=network.config.num_shape, num_expression=network.config.num_expression)
    scorer = Scorer(body)
    openpose = openpose_sight(recording, scene, camera, frames, pictures)
    out: dict[str, object] = {"openpose": compare(body, scorer, openpose)}
    if config.detected:
        out["detected"] = compare(body, scorer, detected_sight(openpose, camera, pictures))
    vposer = fit_keypoints(
        body, openpose.people.keypoints, openpose.camera, prior=body_prior("vposer", body.skeleton)
    ).params
    out["VPoser, keypoints"] = scorer.errors(openpose.scene, vposer).means()
    out |= several_views(body, scorer, openpose)
    print(json.dumps(out, indent=1))
    if config.json is not None:
        config.json.write_text(json.dumps(out, indent=1))


if __name__ == "__main__":
    main(tyro.cli(FourViewConfig))
