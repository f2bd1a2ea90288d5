"""Pose spaces: what a solver moves instead of rotations, each with the differential of its decoder.

A pose space has a state per person. A step `d` of D numbers moves it (`retract`), and the rotations that it decodes to
follow `R_j(state ⊕ d) ≈ R_j(state) exp([(A d)_j]ₓ)`, where A, of shape (3k, D), is the `differential`. Its `residual` r
is scaled so that ½|r|² is the negative log-probability of the state up to a constant. The batch axis means independent
persons.
"""

from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitruvian.bodies.skeletons import SMPLX, Skeleton
from vitruvian.errors import InputError
from vitruvian.geometry.rotations import exp_so3, log_so3, orthonormalized, right_jacobian
from vitruvian.tensors import BatchRecord, TensorRecord, row_product


@dataclass(frozen=True, eq=False)
class PoseEvaluation(BatchRecord):
    """Rotations of the joints of a space, and how they change: `differential` is None where it is the identity."""

    rotations: Float[Tensor, "batch k 3 3"]
    differential: Float[Tensor, "batch three_k D"] | None


@runtime_checkable
class PoseSpace(Protocol):
    """What the solver needs to know of a parametrisation of the rotations of some joints."""

    @property
    def joints(self) -> tuple[int, ...]:
        """Rows of the skeleton that this space moves."""
        ...

    @property
    def num_parameters(self) -> int:
        """Dimension D of a step."""
        ...

    def select(self, index: Int[Tensor, "kept"]) -> Self:
        """The space of some of the people; an index may repeat, to follow several hypotheses of one person.

        A space that is the same for everybody returns itself.
        """
        ...

    def initial(self, batch: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """State of the mean pose for `batch` persons."""
        ...

    def decode(self, state: Tensor) -> Float[Tensor, "batch k 3 3"]:
        """Rotations of `joints`."""
        ...

    def differential(self, state: Tensor) -> Float[Tensor, "batch three_k D"] | None:
        """Right perturbations of the rotations per unit of step; None stands for the identity."""
        ...

    def evaluate(self, state: Tensor, *, with_jacobian: bool = True) -> PoseEvaluation:
        """`decode` and `differential` in one pass; without the differential where `with_jacobian` is false."""
        ...

    def retract(self, state: Tensor, step: Float[Tensor, "batch D"]) -> Tensor:
        """State after a step."""
        ...

    def encode(self, rotations: Float[Tensor, "batch k 3 3"]) -> Tensor:
        """State whose rotations are nearest to the given ones, to start a fit from a known pose."""
        ...

    def residual(self, state: Tensor) -> Float[Tensor, "batch r"]:
        """Prior residual with unit weight: ½|r|² is the negative log-probability up to a constant."""
        ...

    def residual_jacobian(self, state: Tensor) -> Float[Tensor, "batch r D"]:
        """Derivative of `residual` by the step, at zero step."""
        ...


@runtime_checkable
class RotationPrior(Protocol):
    """A prior that is a residual on rotations, whatever the space they come from."""

    @property
    def joints(self) -> tuple[int, ...]:
        """Rows of the skeleton whose rotations the prior looks at, in the order it expects them."""
        ...

    def residual(self, rotations: Float[Tensor, "batch k 3 3"]) -> Float[Tensor, "batch r"]:
        """Residual with unit weight: ½|r|² is the energy."""
        ...

    def jacobian(self, rotations: Float[Tensor, "batch k 3 3"]) -> Float[Tensor, "batch r three_k"]:
        """Derivative of `residual` by right perturbations R_j exp([δ_j]ₓ), at zero."""
        ...


class PlainRotations:
    """Free rotation matrices of some joints, moved on SO(3), with at most one prior on them.

    Args:
        joints: rows of the skeleton that are moved.
        prior: residual on these rotations; its joints must be among `joints`.
    """

    def __init__(self, joints: tuple[int, ...] | range, *, prior: RotationPrior | None = None) -> None:
        self._joints = tuple(joints)
        self._prior = prior
        self._prior_rows: tuple[int, ...] = ()
        if prior is not None:
            missing = [j for j in prior.joints if j not in self._joints]
            if missing:
                raise InputError(
                    "the prior looks at joints outside the pose space", seen=missing, expected=self._joints
                )
            self._prior_rows = tuple(self._joints.index(j) for j in prior.joints)

    @property
    def joints(self) -> tuple[int, ...]:
        return self._joints

    @property
    def num_parameters(self) -> int:
        return 3 * len(self._joints)

    def select(self, index: Int[Tensor, "kept"]) -> Self:
        return self

    def initial(self, batch: int, *, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "batch k 3 3"]:
        """The mean pose of the prior where it has one (`mean_rotations`), else the rest pose."""
        rotations = torch.eye(3, dtype=dtype, device=device).repeat(batch, len(self._joints), 1, 1)
        mean = getattr(self._prior, "mean_rotations", None)
        if mean is not None:
            rotations[:, self._prior_rows] = mean.to(rotations)
        return rotations

    def decode(self, state: Float[Tensor, "batch k 3 3"]) -> Float[Tensor, "batch k 3 3"]:
        return state

    def differential(self, state: Float[Tensor, "batch k 3 3"]) -> None:
        return None

    def evaluate(self, state: Float[Tensor, "batch k 3 3"], *, with_jacobian: bool = True) -> PoseEvaluation:
        return PoseEvaluation(state, None)

    def retract(
        self, state: Float[Tensor, "batch k 3 3"], step: Float[Tensor, "batch D"]
    ) -> Float[Tensor, "batch k 3 3"]:
        return state @ exp_so3(step.unflatten(-1, (-1, 3)))

    def encode(self, rotations: Float[Tensor, "batch k 3 3"]) -> Float[Tensor, "batch k 3 3"]:
        return orthonormalized(rotations)

    def residual(self, state: Float[Tensor, "batch k 3 3"]) -> Float[Tensor, "batch r"]:
        if self._prior is None:
            return state.new_zeros(state.shape[0], 0)
        return self._prior.residual(state[:, self._prior_rows])

    def residual_jacobian(self, state: Float[Tensor, "batch k 3 3"]) -> Float[Tensor, "batch r D"]:
        if self._prior is None:
            return state.new_zeros(state.shape[0], 0, self.num_parameters)
        local = self._prior.jacobian(state[:, self._prior_rows])
        if self._prior_rows == tuple(range(len(self._joints))):
            return local
        full = local.new_zeros(*local.shape[:2], len(self._joints), 3)
        full[:, :, self._prior_rows] = local.unflatten(-1, (-1, 3))
        return full.flatten(-2)


@dataclass(frozen=True, eq=False)
class HandPCA(TensorRecord):
    """The 15 finger joints of one hand as coefficients of principal components, in standard deviations.

    axis-angle = mean + (state · std) @ components; the prior on the state is the unit Gaussian.

    Args:
        mean: mean axis-angle of the 15 joints, radians.
        components: rows are principal directions of the 45 numbers, orthonormal.
        std: standard deviation along each, radians.
        hand_joints: the 15 rows of the skeleton.
    """

    mean: Float[Tensor, "45"]
    components: Float[Tensor, "component 45"]
    std: Float[Tensor, "component"]
    hand_joints: tuple[int, ...]

    @classmethod
    def learnt(cls, side: str, *, num_components: int = 12, skeleton: Skeleton = SMPLX) -> Self:
        """The space learnt by this project, read from the package (see resources/priors/card.md).

        Args:
            side: "left" or "right".
            num_components: 1 to 45 of the leading components.
            skeleton: tree whose hand block gives the rows.
        """
        from vitruvian.priors.hand_statistics import read_hand_statistics

        statistics = read_hand_statistics(side)
        if not 1 <= num_components <= len(statistics.std):
            raise InputError("number of hand components out of range", seen=num_components, expected="1 to 45")
        return cls(
            statistics.mean,
            statistics.components[:num_components],
            statistics.std[:num_components],
            tuple(skeleton.block(f"{side}_hand_pose").joints),
        )

    @property
    def joints(self) -> tuple[int, ...]:
        return self.hand_joints

    @property
    def num_parameters(self) -> int:
        return len(self.std)

    def select(self, index: Int[Tensor, "kept"]) -> Self:
        return self

    def initial(self, batch: int, *, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "batch D"]:
        return torch.zeros(batch, self.num_parameters, dtype=dtype, device=device)

    def _axis_angle(self, state: Float[Tensor, "batch D"]) -> Float[Tensor, "batch 15 3"]:
        vectors = self.mean.to(state) + row_product(state * self.std.to(state), self.components.to(state))
        return vectors.unflatten(-1, (-1, 3))

    def decode(self, state: Float[Tensor, "batch D"]) -> Float[Tensor, "batch 15 3 3"]:
        return exp_so3(self._axis_angle(state))

    def differential(self, state: Float[Tensor, "batch D"]) -> Float[Tensor, "batch 45 D"]:
        scaled = (self.components * self.std[:, None]).to(state).T.unflatten(0, (-1, 3))
        return (right_jacobian(self._axis_angle(state)) @ scaled).flatten(-3, -2)

    def evaluate(self, state: Float[Tensor, "batch D"], *, with_jacobian: bool = True) -> PoseEvaluation:
        return PoseEvaluation(self.decode(state), self.differential(state) if with_jacobian else None)

    def retract(self, state: Float[Tensor, "batch D"], step: Float[Tensor, "batch D"]) -> Float[Tensor, "batch D"]:
        return state + step

    def encode(self, rotations: Float[Tensor, "batch 15 3 3"]) -> Float[Tensor, "batch D"]:
        """Orthogonal projection of the axis-angle vectors onto the components."""
        offset = log_so3(rotations).flatten(-2) - self.mean.to(rotations)
        return row_product(offset, self.components.to(rotations).T) / self.std.to(rotations)

    def residual(self, state: Float[Tensor, "batch D"]) -> Float[Tensor, "batch D"]:
        return state

    def residual_jacobian(self, state: Float[Tensor, "batch D"]) -> Float[Tensor, "batch D D"]:
        identity = torch.eye(self.num_parameters, dtype=state.dtype, device=state.device)
        return identity.expand(state.shape[0], -1, -1)
