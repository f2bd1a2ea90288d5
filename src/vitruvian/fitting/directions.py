"""Depth cues as a term of the fit: bones point the way that the picture says."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.points import SkinnedPoints
from vitruvian.fitting.kinematics import PointKinematics
from vitruvian.fitting.observed import Observations
from vitruvian.fitting.parts import BodyPrior
from vitruvian.fitting.problem import BodyEvaluation, ResidualBlock
from vitruvian.fitting.residuals import geman_mcclure
from vitruvian.fitting.term_makers import StageSetting, TermMaker
from vitruvian.keypoints.depth_cues import BONE_NAMES, BONES, DepthCues
from vitruvian.keypoints.targets import Combination, combined_points, find_target
from vitruvian.tensors import BatchRecord, TensorRecord

SIGMA: Mapping[str, float] = MappingProxyType(
    {"upper_arm": 0.35, "forearm": 0.35, "shin": 0.3, "thigh": 0.25, "flank": 0.25, "hips": 0.25, "shoulders": 0.25}
)
"""Expected error of the direction of each kind of bone: of the difference of two vectors of length one.

Root mean squares measured on a real person (benchmarks/four_view.py, the blocks of frames for choices), rounded up.
"""
ROBUST_SCALE = 6.0
"""Scale of Geman-McClure, in units of `SIGMA`."""


def expected_errors(rows: Iterable[int] = range(len(BONE_NAMES))) -> tuple[float, ...]:
    """`SIGMA` of bones by their rows in `BONE_NAMES`."""
    kinds = (BONE_NAMES[row].removeprefix("left_").removeprefix("right_") for row in rows)
    return tuple(SIGMA[kind] for kind in kinds)


@dataclass(frozen=True, eq=False)
class BoneVectors(TensorRecord):
    """Vectors along bones of a body, each the difference of two of its points; `rows` are theirs in `BONE_NAMES`."""

    points: SkinnedPoints
    rows: tuple[int, ...]


@lru_cache(maxsize=16)
def bone_vectors(body: BodyModel) -> BoneVectors:
    """The bones of depth cues that a body has both ends of."""
    rows, vectors = [], []
    for row, name in enumerate(BONE_NAMES):
        start, end = (find_target(body, f"mediapipe:{place}") for place in BONES[name])
        if start is not None and end is not None:
            rows.append(row)
            vectors.append(_difference(end, start))
    return BoneVectors(combined_points(body, vectors), tuple(rows))


def _difference(end: Combination, start: Combination) -> Combination:
    return Combination(_subtracted(end.vertices, start.vertices), _subtracted(end.joints, start.joints))


def _subtracted(
    plus: tuple[tuple[int, float], ...], minus: tuple[tuple[int, float], ...]
) -> tuple[tuple[int, float], ...]:
    total: dict[int, float] = dict(plus)
    for index, weight in minus:
        total[index] = total.get(index, 0.0) - weight
    return tuple(total.items())


@lru_cache(maxsize=16)
def bone_kinematics(
    body: BodyModel, moving_joints: tuple[int, ...], num_shape: int, num_expression: int
) -> PointKinematics:
    """Structure of the derivatives of the bone vectors, kept because building it costs more than a step of a fit."""
    return PointKinematics.build(
        body,
        bone_vectors(body).points,
        moving_joints=moving_joints,
        num_shape=num_shape,
        num_expression=num_expression,
    )


def prior_strength(prior: BodyPrior | None) -> Float[Tensor, "person"] | float:
    """How strongly a fit holds its pose prior, per person.

    A fit in the latent of the flow holds |z|² more strongly than the flow says, because the flow has read the very
    keypoints that are fitted. Cues are news to it, so they count as strongly as the prior that they correct.
    """
    if prior is None or not isinstance(prior.space, HeldSpace) or prior.space.strength is None:
        return 1.0
    return prior.space.strength


@runtime_checkable
class HeldSpace(Protocol):
    """A pose space that holds its prior by more or less than one."""

    @property
    def strength(self) -> Float[Tensor, "person"] | None: ...


@dataclass(frozen=True, eq=False)
class BoneDirections(BatchRecord):
    """½ Σ_b ω_b ρ(|v_b/|v_b| − d_b| / σ_b), ρ Geman-McClure, over the vectors v_b of the bones, wherever the body is.

    Args:
        kinematics: the vectors v_b, as points of the body whose attachments sum to zero (`bone_vectors`).
        directions: d_b, length one; any value, NaN too, where there is none.
        weights: ω_b, zero where there is no direction.
        sigma: σ of each bone.
        robust_scale: scale of Geman-McClure in units of σ.
    """

    kinematics: PointKinematics
    directions: Float[Tensor, "batch bone 3"]
    weights: Float[Tensor, "batch bone"]
    sigma: Float[Tensor, "bone"]
    robust_scale: float = ROBUST_SCALE

    @staticmethod
    def of(
        cues: DepthCues,
        body: BodyModel,
        moving_joints: tuple[int, ...],
        num_shape: int,
        num_expression: int,
        *,
        spread: float = 1.0,
        robust_scale: float = ROBUST_SCALE,
    ) -> "BoneDirections":
        """The term for cues of a batch of people on a body, in a problem with these variables; σ = spread · `SIGMA`."""
        rows = list(bone_vectors(body).rows)
        kinematics = bone_kinematics(body, moving_joints, num_shape, num_expression)
        cues = cues.to(dtype=body.dtype, device=body.device)
        sigma = spread * body.template.new_tensor(expected_errors(rows))
        return BoneDirections(kinematics, cues.directions[:, rows], cues.confidence[:, rows], sigma, robust_scale)

    def times(self, factor: Float[Tensor, "batch"] | float) -> "BoneDirections":
        """The term with its residual times a factor, for all or per person."""
        squared = torch.as_tensor(factor, dtype=self.weights.dtype, device=self.weights.device).square()
        return replace(self, weights=self.weights * squared[..., None])

    def __getitem__(self, index: Tensor) -> "BoneDirections":
        return BoneDirections(
            self.kinematics, self.directions[index], self.weights[index], self.sigma, self.robust_scale
        )

    def evaluate(self, body: BodyEvaluation, *, with_jacobian: bool) -> ResidualBlock:
        kinematics, points, state = self.kinematics, self.kinematics.points, body.state
        features = body.pose_features if points.pose_dirs is not None else None
        offsets = points.offsets(state.betas, state.expression, features)
        sums = kinematics.group_sums(body.world_rotations, body.joints, offsets)
        v = sums[:, : kinematics.num_points]
        length = v.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(v.dtype).eps)
        along = v / length
        error = torch.where(self.weights[..., None] > 0, (along - self.directions) / self.sigma[:, None], 0.0)
        value, reweight = geman_mcclure((error * error).sum(-1), self.robust_scale)
        cost = 0.5 * (self.weights * value).sum(-1)
        root = (self.weights * reweight).sqrt()
        residual = (error * root[..., None]).flatten(1)
        columns = slice(0, body.problem.layout.transl.start)
        if not with_jacobian:
            return ResidualBlock(residual, columns, None, cost)
        # ∂(v/|v|) = (1 − d dᵀ) ∂v / |v|
        across = torch.eye(3, dtype=v.dtype, device=v.device) - along[..., :, None] * along[..., None, :]
        rows = across * (root / (self.sigma * length[..., 0]))[..., None, None]
        turned = kinematics.rotation_jacobian(rows, sums, body.world_rotations, body.joints)
        parts = [body.pull_back(turned.flatten(1, 2))]
        if body.problem.num_shape + body.problem.num_expression:
            parts.append(kinematics.shape_jacobian(rows, body.world_rotations).flatten(1, 2))
        return ResidualBlock(residual, columns, torch.cat(parts, dim=-1), cost)


@dataclass(frozen=True, eq=False)
class DirectionsMaker:
    """The term of depth cues in every stage, as strong as the pose prior in it, so that both keep their balance.

    Attributes:
        cues: one row per person given to the fit.
        strength: of the pose prior, for all or per person (`prior_strength`).
        spread: factor on the expected errors of directions.
    """

    cues: DepthCues
    strength: Float[Tensor, "person"] | float = 1.0
    spread: float = 1.0
    shared_by_views: bool = False

    def __call__(self, setting: StageSetting, observed: Observations) -> BoneDirections:
        moving, strength = setting.moving_joints, self.strength
        term = BoneDirections.of(
            self.cues[observed.rows],
            setting.body,
            moving,
            setting.num_shape,
            setting.num_expression,
            spread=self.spread,
        )
        return term.times(setting.stage.pose * (strength[observed.rows] if isinstance(strength, Tensor) else strength))


def cue_terms(cues: DepthCues | None, prior: BodyPrior | None = None, *, spread: float = 1.0) -> tuple[TermMaker, ...]:
    """Makers of the terms of depth cues, for `fit_keypoints`: none where nothing is known of anybody.

    Args:
        cues: one row per person; of several views, one row per (person, view), the views of a person side by side.
        prior: of the fit that they go into.
        spread: factor on the expected errors of directions.
    """
    return () if cues is None or not cues.present else (DirectionsMaker(cues, prior_strength(prior), spread),)
