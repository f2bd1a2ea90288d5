"""Scores of pose distributions on synthetic people: errors of point estimates, best of n, spread, calibration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitruvian.bodies.skeletons import BODY_JOINTS, BODY_PARENTS
from vitruvian.evaluation.metrics import MM, coverage, mpjpe_mm, pa_error_mm
from vitruvian.recovery.chart import NUM_BODY
from vitruvian.recovery.losses import RestJoints, joints_about_pelvis

COUNTS = (1, 5, 10, 25, 100)
LEVELS = (0.5, 0.8, 0.95)
PARTS: Mapping[str, tuple[str, ...]] = {
    "torso": ("spine1", "spine2", "spine3", "neck", "left_shoulder", "right_shoulder"),
    "head": ("head",),
    "arms": ("left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    "legs": ("left_knee", "right_knee", "left_ankle", "right_ankle"),
}


@dataclass(frozen=True)
class Errors:
    """Mean errors over people, millimetres."""

    mpjpe_mm: float
    pa_mpjpe_mm: float


@dataclass(frozen=True)
class DistributionScores:
    """Scores of one model.

    Attributes:
        mode: errors of the point estimate.
        best_of: errors of the best of n samples, the point estimate among them, chosen by each error itself.
        spread_visible_mm, spread_hidden_mm: mean distance of samples from their mean, for joints that were seen or not.
        spread_limbs_mm: the same for hidden joints whose neighbour towards the pelvis is hidden too.
        coverage: share of true joint coordinates inside the central interval of the samples, by part and level.
    """

    mode: Errors
    best_of: Mapping[int, Errors]
    spread_visible_mm: float
    spread_hidden_mm: float
    spread_limbs_mm: float
    coverage: Mapping[str, Mapping[float, float]]


@dataclass(frozen=True, eq=False)
class SampleSet:
    """Rotations of a point estimate and of samples, in the frame of the truth that they are compared with.

    Attributes:
        point: point estimates.
        samples: samples.
        betas: estimated shapes.
        sample_betas: shapes of the samples.
    """

    point: Float[Tensor, "batch 22 3 3"]
    samples: Float[Tensor, "sample batch 22 3 3"]
    betas: Float[Tensor, "batch shape"]
    sample_betas: Float[Tensor, "sample batch shape"]


class DistributionScorer:
    """Collects the errors of a model over batches of people."""

    def __init__(self, rest: RestJoints, counts: Sequence[int] = COUNTS) -> None:
        self._rest = rest
        self._counts = tuple(counts)
        self._point: list[Tensor] = []
        self._best: dict[int, list[Tensor]] = {n: [] for n in self._counts}
        self._spread: list[Tensor] = []
        self._visible: list[Tensor] = []
        self._inside: dict[tuple[str, float], list[Tensor]] = {}

    def add(
        self, found: SampleSet, true_joints: Float[Tensor, "batch 22 3"], visible: Bool[Tensor, "batch 22"]
    ) -> None:
        """Add people; `true_joints` in the frame of the rotations, pelvis at the origin or not."""
        _, point = joints_about_pelvis(found.point, self._rest(found.betas))
        _, samples = joints_about_pelvis(found.samples, self._rest(found.sample_betas))
        truth = true_joints - true_joints[:, :1]
        self._point.append(_both_errors(point, truth))
        together = torch.cat((point[None], samples))
        errors = _both_errors(together, truth.expand_as(together))
        for n in self._counts:
            if n <= len(together):
                self._best[n].append(errors[:n].amin(0))
        center = samples.mean(0)
        self._spread.append((samples - center).norm(dim=-1).mean(0) * MM)
        self._visible.append(visible)
        for part, names in PARTS.items():
            rows = [BODY_JOINTS.index(name) for name in names]
            for level in LEVELS:
                inside = coverage(truth[:, rows], samples[:, :, rows], level=level)
                self._inside.setdefault((part, level), []).append(inside * len(truth))

    def scores(self) -> DistributionScores:
        """The means over all people added."""
        point = torch.cat(self._point)
        visible = torch.cat(self._visible)
        lost = (~visible & ~visible[:, [max(parent, 0) for parent in BODY_PARENTS]])[:, 1:]
        spread, visible = torch.cat(self._spread)[:, 1:], visible[:, 1:]
        people = len(point)
        return DistributionScores(
            mode=_mean_errors(point),
            best_of={n: _mean_errors(torch.cat(values)) for n, values in self._best.items() if values},
            spread_visible_mm=float(spread[visible].mean()),
            spread_hidden_mm=float(spread[~visible].mean()),
            spread_limbs_mm=float(spread[lost].mean()),
            coverage={
                part: {level: float(torch.stack(self._inside[part, level]).sum()) / people for level in LEVELS}
                for part in PARTS
            },
        )


def _both_errors(joints: Tensor, truth: Tensor) -> Float[Tensor, "*batch 2"]:
    return torch.stack((mpjpe_mm(joints, truth), pa_error_mm(joints, truth)), dim=-1)


def _mean_errors(errors: Float[Tensor, "person 2"]) -> Errors:
    return Errors(float(errors[:, 0].mean()), float(errors[:, 1].mean()))


def mean_errors(
    rotations: Float[Tensor, "batch joint 3 3"], betas: Tensor, rest: RestJoints, true_joints: Tensor
) -> Errors:
    """Mean errors of one pose per person."""
    _, joints = joints_about_pelvis(rotations[:, :NUM_BODY], rest(betas))
    return _mean_errors(_both_errors(joints, true_joints[:, :NUM_BODY] - true_joints[:, :1]))


def correlation(a: Float[Tensor, "person"], b: Float[Tensor, "person"]) -> float:
    """Pearson correlation."""
    return float(torch.corrcoef(torch.stack((a, b)))[0, 1])
