"""Errors of bodies against the triangulated points of the four-view recording, per picture and by block of frames."""

from dataclasses import dataclass
from itertools import product

import torch
from four_view_calibration import AGREEMENT, agreed
from four_view_recording import Recording, Rig
from jaxtyping import Bool, Float
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.evaluation.metrics import MM, coverage, procrustes_align
from vitruvian.keypoints.formats import get_format
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.places import SIDES
from vitruvian.keypoints.targets import keypoint_targets

BLOCK = 10
"""Frames in a block: errors of neighbouring frames hang together, those of blocks hardly."""
HIPS_AGREEMENT = 0.02
"""As `AGREEMENT`, for the middle of the hips, which lies inside the body and which every camera places otherwise."""
LEFT_OUT = ("nose", "eye", "ear", "upper_neck", "head_top")
"""Places that BODY_25B defines otherwise than the body: its neck and head top are 27 cm apart, ours 15."""
LEVELS = (0.5, 0.8, 0.95)


@dataclass(frozen=True, eq=False)
class Scene:
    """What is known of each picture, one row each, in the frame of its camera.

    Attributes:
        points: the 25 points of BODY_25B, metres; anything where not known.
        known: which points are known and scored.
        hips: middle of the hips, the origin of errors.
        frame, view: of the picture.
    """

    points: Float[Tensor, "row 25 3"]
    known: Bool[Tensor, "row 25"]
    hips: Float[Tensor, "row 3"]
    frame: list[int]
    view: list[int]

    def __getitem__(self, rows: list[int]) -> "Scene":
        return Scene(
            self.points[rows],
            self.known[rows],
            self.hips[rows],
            [self.frame[row] for row in rows],
            [self.view[row] for row in rows],
        )

    def __len__(self) -> int:
        return len(self.frame)


def corrected_scene(recording: Recording, rig: Rig) -> Scene:
    """Points that three cameras agree on; frames in which they do not agree on the middle of the hips are left out."""
    keypoints = recording.keypoints
    truth = agreed(rig, keypoints, limit=AGREEMENT)
    definition = keypoints.definition
    hips = [definition.index(f"{side}_hip") for side in SIDES]
    # The middle of the hips takes the place of both, beside the others, which say how large the person is.
    positions, confidence = keypoints.positions.clone(), keypoints.confidence.clone()
    positions[..., hips, :] = positions[..., hips, :].mean(-2, keepdim=True)
    confidence[..., hips] = confidence[..., hips].amin(-1, keepdim=True)
    middle = agreed(rig, Keypoints(positions, confidence, keypoints.format), limit=HIPS_AGREEMENT)
    return _scene(rig, truth.points, truth.known, middle.points[:, hips[0]], middle.known[:, hips[0]])


def given_scene(recording: Recording) -> Scene:
    """The points that came with the recording, all of them, in the cameras that came with it."""
    count = len(get_format(recording.keypoints.format))
    points = recording.given.new_zeros(len(recording.given), count, 3)
    points[:, recording.rows] = recording.given
    known = torch.zeros(points.shape[:2], dtype=torch.bool)
    known[:, recording.rows] = True
    hips = [recording.keypoints.definition.index(f"{side}_hip") for side in SIDES]
    every = torch.ones(len(points), dtype=torch.bool)
    return _scene(recording.rig, points, known, points[:, hips].mean(1), every, leave_out=("eye", "ear"))


def _scene(
    rig: Rig, points: Tensor, known: Tensor, hips: Tensor, usable: Tensor, *, leave_out: tuple[str, ...] = LEFT_OUT
) -> Scene:
    names = get_format("openpose-body25b").names
    scored = torch.tensor([not any(place in name for place in leave_out) for name in names])
    frames = usable.nonzero()[:, 0].tolist()
    pairs = list(product(frames, range(len(rig.t_camera_world))))
    frame, view = [f for f, _ in pairs], [v for _, v in pairs]
    seen = rig.to_cameras(points)[frame, view]
    origin = rig.to_cameras(hips[:, None])[frame, view, 0]
    return Scene(seen.float(), (known & scored)[frame], origin.float(), frame, view)


@dataclass(frozen=True, eq=False)
class Errors:
    """Errors of each picture in millimetres; a sample axis may lead."""

    mpjpe_mm: Float[Tensor, "*sample row"]
    pa_mpjpe_mm: Float[Tensor, "*sample row"]

    def means(self) -> dict[str, float]:
        return {"mpjpe_mm": float(self.mpjpe_mm.mean()), "pa_mpjpe_mm": float(self.pa_mpjpe_mm.mean())}

    def best(self) -> "Errors":
        """The least of each error over the samples, each chosen by itself."""
        return Errors(self.mpjpe_mm.amin(0), self.pa_mpjpe_mm.amin(0))


class Scorer:
    """Compares bodies with a scene at the points of BODY_25B."""

    def __init__(self, body: BodyModel) -> None:
        self._body = body
        self._targets = keypoint_targets(body, "openpose-body25b")
        self._definition = get_format("openpose-body25b")

    def points(self, params: BodyParams) -> Float[Tensor, "*batch 25 3"]:
        """The points of bodies; zeros for those that the body has no target for."""
        found = self._body.pose(params).points(self._targets.points)
        out = found.new_zeros(*found.shape[:-2], len(self._definition), 3)
        out[..., self._targets.keypoint, :] = found
        return out

    def about_hips(self, points: Float[Tensor, "*batch 25 3"]) -> Float[Tensor, "*batch 25 3"]:
        """Points with the middle of the hips at the origin."""
        hips = [self._definition.index(f"{side}_hip") for side in SIDES]
        return points - points[..., hips, :].mean(-2, keepdim=True)

    def errors(self, scene: Scene, params: BodyParams) -> Errors:
        """Mean distance over the known points of each picture, the hips together, and after Procrustes alignment."""
        found = self.points(params)
        distance = (self.about_hips(found) - scene.points + scene.hips[:, None]).norm(dim=-1)
        distance = torch.where(scene.known, distance, 0.0).sum(-1) / scene.known.sum(-1)
        aligned = []
        for row in range(len(scene)):
            true = scene.points[row, scene.known[row]]
            mine = found[..., row, :, :][..., scene.known[row], :]
            aligned.append((procrustes_align(mine, true.expand_as(mine)) - true).norm(dim=-1).mean(-1))
        return Errors(distance * MM, torch.stack(aligned, dim=-1) * MM)

    def coverage(self, scene: Scene, samples: BodyParams) -> dict[str, float]:
        """How often central intervals of samples `(sample, row)` hold a known coordinate, the hips at the origin."""
        found = self.about_hips(self.points(samples))[:, scene.known]
        truth = (scene.points - scene.hips[:, None])[scene.known]
        return {f"{level:.0%}": float(coverage(truth, found, level=level)) for level in LEVELS}

    def knees(self, points: Float[Tensor, "*batch 25 3"]) -> Float[Tensor, "*batch 2"]:
        """Flexion of left and right knee in degrees: how far the shin turns away from the line of the thigh."""
        bends = []
        for side in SIDES:
            hip, knee, ankle = (
                points[..., self._definition.index(f"{side}_{place}"), :] for place in ("hip", "knee", "ankle")
            )
            cosine = torch.nn.functional.cosine_similarity(knee - hip, ankle - knee, dim=-1)
            bends.append(torch.rad2deg(torch.arccos(cosine.clamp(-1, 1))))
        return torch.stack(bends, dim=-1)

    def known_knees(self, scene: Scene) -> Bool[Tensor, "row 2"]:
        """Knees whose hip, knee and ankle are known."""
        known = []
        for side in SIDES:
            rows = [self._definition.index(f"{side}_{place}") for place in ("hip", "knee", "ankle")]
            known.append(scene.known[:, rows].all(-1))
        return torch.stack(known, dim=-1)


def paired_gain(before: Float[Tensor, "row"], after: Float[Tensor, "row"], frame: list[int]) -> dict[str, float]:
    """Mean of before − after over pictures, and its standard error from the spread of the means of blocks of frames."""
    gain = before - after
    block = torch.tensor(frame) // BLOCK
    blocks = block.unique()
    counts = torch.stack([(block == b).sum() for b in blocks]).to(gain)
    sums = torch.stack([(gain - gain.mean())[block == b].sum() for b in blocks])
    spread = (len(blocks) / max(len(blocks) - 1, 1) * sums.square().sum()).sqrt() / counts.sum()
    return {"mean": float(gain.mean()), "standard_error": float(spread)}
