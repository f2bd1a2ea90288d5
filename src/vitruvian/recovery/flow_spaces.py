"""The latents of each person's flows as pose spaces of the fitting engine, with their differentials in closed form."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitruvian.flows import FlowDistribution
from vitruvian.priors.pose_spaces import HandPCA, PoseEvaluation
from vitruvian.recovery.chart import NUM_BODY, chart_differential, chart_from_rotations, rotations_from_chart


@dataclass(frozen=True, eq=False)
class FlowPoseSpace:
    """The body's 22 rotations as a latent of the flow of each person (ProHMR, eq. 8): R(z), with prior ½|z|².

    The global orientation is among them, in the camera frame. Row i of a state belongs to person i.

    Args:
        distribution: of the chart coordinates of each person (see recovery/chart.py).
        base_world: origin of each chart.
        R_camera_view: rotation of each person's virtual camera.
        strength: factor on the residual z of each person; one if None.
    """

    distribution: FlowDistribution
    base_world: Float[Tensor, "person 22 3 3"]
    R_camera_view: Float[Tensor, "person 3 3"]
    strength: Float[Tensor, "person"] | None = None

    @property
    def joints(self) -> tuple[int, ...]:
        return tuple(range(NUM_BODY))

    @property
    def num_parameters(self) -> int:
        return self.distribution.num_features

    def select(self, index: Int[Tensor, "kept"]) -> "FlowPoseSpace":
        strength = None if self.strength is None else self.strength[index]
        return FlowPoseSpace(
            self.distribution.select(index), self.base_world[index], self.R_camera_view[index], strength
        )

    def initial(self, batch: int, *, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "batch 66"]:
        """The mode."""
        return torch.zeros(batch, self.num_parameters, dtype=dtype, device=device)

    def decode(self, state: Float[Tensor, "batch 66"]) -> Float[Tensor, "batch 22 3 3"]:
        return self.evaluate(state, with_jacobian=False).rotations

    def differential(self, state: Float[Tensor, "batch 66"]) -> Float[Tensor, "batch 66 66"]:
        differential = self.evaluate(state).differential
        assert differential is not None
        return differential

    def evaluate(self, state: Float[Tensor, "batch 66"], *, with_jacobian: bool = True) -> PoseEvaluation:
        base = self.base_world
        if not with_jacobian:
            view = rotations_from_chart(self.distribution.from_latent(state), base)
            return PoseEvaluation(self._in_camera(view), None)
        w, tangents = self.distribution.from_latent_with_differential(state)
        view = rotations_from_chart(w, base)
        # Turning the camera acts from the left, so right perturbations stay as they are.
        return PoseEvaluation(self._in_camera(view), chart_differential(w, base, view, tangents))

    def _in_camera(self, rotations: Float[Tensor, "batch 22 3 3"]) -> Float[Tensor, "batch 22 3 3"]:
        return torch.cat((self.R_camera_view[:, None] @ rotations[:, :1], rotations[:, 1:]), dim=1)

    def retract(self, state: Float[Tensor, "batch 66"], step: Float[Tensor, "batch 66"]) -> Float[Tensor, "batch 66"]:
        return state + step

    def encode(self, rotations: Float[Tensor, "batch 22 3 3"]) -> Float[Tensor, "batch 66"]:
        """Latent of the given rotations; exact, since the flow is invertible."""
        root = self.R_camera_view.transpose(-1, -2)[:, None] @ rotations[:, :1]
        chart = chart_from_rotations(torch.cat((root, rotations[:, 1:]), dim=1), self.base_world)
        return self.distribution.to_latent(chart)

    def residual(self, state: Float[Tensor, "batch 66"]) -> Float[Tensor, "batch 66"]:
        return state if self.strength is None else self.strength[:, None] * state

    def residual_jacobian(self, state: Float[Tensor, "batch 66"]) -> Float[Tensor, "batch 66 66"]:
        identity = torch.eye(self.num_parameters, dtype=state.dtype, device=state.device)
        if self.strength is not None:
            return self.strength[:, None, None] * identity
        return identity.expand(state.shape[0], -1, -1)


@dataclass(frozen=True, eq=False)
class FlowHandSpace:
    """The 15 joints of one hand as a latent of the hand flow of each person, with prior ½|z|².

    Args:
        distribution: of the coefficients of each person's hand.
        coefficients: what they mean.
    """

    distribution: FlowDistribution
    coefficients: HandPCA

    @property
    def joints(self) -> tuple[int, ...]:
        return self.coefficients.joints

    @property
    def num_parameters(self) -> int:
        return self.distribution.num_features

    def select(self, index: Int[Tensor, "kept"]) -> "FlowHandSpace":
        return FlowHandSpace(self.distribution.select(index), self.coefficients)

    def initial(self, batch: int, *, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "batch D"]:
        """The mode."""
        return torch.zeros(batch, self.num_parameters, dtype=dtype, device=device)

    def decode(self, state: Float[Tensor, "batch D"]) -> Float[Tensor, "batch 15 3 3"]:
        return self.coefficients.decode(self.distribution.from_latent(state))

    def differential(self, state: Float[Tensor, "batch D"]) -> Float[Tensor, "batch 45 D"]:
        differential = self.evaluate(state).differential
        assert differential is not None
        return differential

    def evaluate(self, state: Float[Tensor, "batch D"], *, with_jacobian: bool = True) -> PoseEvaluation:
        if not with_jacobian:
            return PoseEvaluation(self.decode(state), None)
        coefficients, tangents = self.distribution.from_latent_with_differential(state)
        inner = self.coefficients.evaluate(coefficients)
        assert inner.differential is not None
        return PoseEvaluation(inner.rotations, inner.differential @ tangents)

    def retract(self, state: Float[Tensor, "batch D"], step: Float[Tensor, "batch D"]) -> Float[Tensor, "batch D"]:
        return state + step

    def encode(self, rotations: Float[Tensor, "batch 15 3 3"]) -> Float[Tensor, "batch D"]:
        """Latent of the nearest rotations that the hand coefficients can make."""
        return self.distribution.to_latent(self.coefficients.encode(rotations))

    def residual(self, state: Float[Tensor, "batch D"]) -> Float[Tensor, "batch D"]:
        return state

    def residual_jacobian(self, state: Float[Tensor, "batch D"]) -> Float[Tensor, "batch D D"]:
        identity = torch.eye(self.num_parameters, dtype=state.dtype, device=state.device)
        return identity.expand(state.shape[0], -1, -1)
