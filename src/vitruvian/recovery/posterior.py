"""The distribution of poses of each person given their keypoints: mode, samples, likelihoods, and a space to fit in."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitruvian.bodies.skeletons import SMPLX
from vitruvian.errors import ShapeError
from vitruvian.flows import FlowDistribution, Glow
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.rotations import exp_so3
from vitruvian.keypoints.observations import Keypoints
from vitruvian.priors.pose_spaces import HandPCA, PoseEvaluation
from vitruvian.recovery.chart import (
    NUM_BODY,
    chart_differential,
    chart_from_rotations,
    rotations_from_chart,
)
from vitruvian.recovery.heads import pelvis_position
from vitruvian.recovery.network import PoseNetwork
from vitruvian.recovery.views import view_of
from vitruvian.tensors import TensorRecord

_HANDS = ("left", "right")
NUM_COMMON = 25
"""The first canonical keypoints are those of BODY_25."""


@dataclass(frozen=True, eq=False)
class PoseSamples(TensorRecord):
    """Poses in the camera frame; a sample axis may lead the batch.

    Attributes:
        rotations: local rotations of the 55 joints of SMPL-X; the root turns the body into the camera frame.
        betas, expression: shape and expression in standard deviations.
        pelvis: position of the pelvis in the camera frame, metres.
        latent: z of the body's flow.
        hand_latent: z of the hands' flow, left and right.
        log_prob: log-likelihood of the poses of body and hands together, in nats (see `BodyPosterior.log_prob`).
    """

    rotations: Float[Tensor, "*batch 55 3 3"]
    betas: Float[Tensor, "*batch shape"]
    expression: Float[Tensor, "*batch expression"]
    pelvis: Float[Tensor, "*batch 3"]
    latent: Float[Tensor, "*batch 66"]
    hand_latent: Float[Tensor, "*batch 2 component"]
    log_prob: Float[Tensor, "*batch"]


@dataclass(frozen=True, eq=False)
class BodyPosterior(TensorRecord):
    """Poses of a batch of people given what was seen of each.

    Density is that of chart coordinates (recovery/chart.py): rotation vectors of the 22 bones about the axes of the
    person's virtual camera, radians, and of hand coefficients in standard deviations. The mode is exact.

    Attributes:
        network: the flows; shared by all people.
        context: context of the body flow.
        hand_context: context of the hand flow, left and right.
        T_camera_view: rotation of each person's virtual camera.
        base_world: base pose of each person in the virtual camera.
        betas, expression, jaw: point estimates.
        pelvis: estimated position in the camera frame, metres.
        seen: share of the 25 body keypoints that were seen.
    """

    network: PoseNetwork
    context: Float[Tensor, "batch context"]
    hand_context: Float[Tensor, "batch 2 hand_context"]
    T_camera_view: Float[Tensor, "batch 3 3"]
    base_world: Float[Tensor, "batch 22 3 3"]
    betas: Float[Tensor, "batch shape"]
    expression: Float[Tensor, "batch expression"]
    jaw: Float[Tensor, "batch 3"]
    pelvis: Float[Tensor, "batch 3"]
    seen: Float[Tensor, "batch"]

    def __len__(self) -> int:
        return self.context.shape[0]

    @cached_property
    def body(self) -> FlowDistribution:
        """Distribution of the chart coordinates."""
        return self.network.flow(self.context)

    @cached_property
    def hands(self) -> FlowDistribution:
        """Distribution of the hand coefficients, batch `(people, 2)`."""
        return self.network.hand_flow(self.hand_context)

    @property
    def entropy(self) -> Float[Tensor, "batch"]:
        """Entropy of the body pose in nats: how unsure the network is."""
        return self.body.entropy

    def mode(self) -> PoseSamples:
        """The most likely pose of each person, exactly: z = 0 of both flows."""
        latent = self.context.new_zeros(len(self), self.body.num_features)
        return self.decode(latent, self.context.new_zeros(len(self), 2, self.hands.num_features))

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> PoseSamples:
        """Independent poses of body and hands, and shapes; fields are `(num_samples, batch, …)`."""
        latent = self.body.sample_latent(num_samples, generator=generator)
        hands = self.hands.sample_latent(num_samples, generator=generator)
        noise = self.betas.new_empty(num_samples, *self.betas.shape).normal_(generator=generator)
        return self.decode(latent, hands, betas=self.betas + self.network.shape_std * noise)

    def decode(
        self,
        latent: Float[Tensor, "*sample batch 66"],
        hand_latent: Float[Tensor, "*sample batch 2 component"],
        *,
        betas: Float[Tensor, "*sample batch shape"] | None = None,
    ) -> PoseSamples:
        """Poses of given latents, with the estimated shapes unless others are given."""
        body = rotations_from_chart(self.body.from_latent(latent), self.base_world)
        body = torch.cat((self.T_camera_view[:, None] @ body[..., :1, :, :], body[..., 1:, :, :]), dim=-3)
        hands = self.hands.from_latent(hand_latent)
        fingers = [
            space.decode(hands[..., side, :].reshape(-1, hands.shape[-1])).view(*hands.shape[:-2], 15, 3, 3)
            for side, space in enumerate(hand_spaces(hands.shape[-1]))
        ]
        lead = latent.shape[:-1]
        eyes = torch.eye(3, dtype=latent.dtype, device=latent.device).expand(*lead, 2, 3, 3)
        jaw = exp_so3(self.jaw).expand(*lead, 3, 3)[..., None, :, :]
        return PoseSamples(
            rotations=torch.cat((body, jaw, eyes, *fingers), dim=-3),
            betas=(self.betas if betas is None else betas).expand(*lead, -1),
            expression=self.expression.expand(*lead, -1),
            pelvis=self.pelvis.expand(*lead, 3),
            latent=latent,
            hand_latent=hand_latent,
            log_prob=self.body.log_prob_of_latent(latent) + self.hands.log_prob_of_latent(hand_latent).sum(-1),
        )

    def log_prob(self, rotations: Float[Tensor, "*sample batch joint 3 3"]) -> Float[Tensor, "*sample batch"]:
        """Log-likelihood of body poses: local rotations of 22 joints or more, of which the first 22 count.

        Nats, density over the 66 chart coordinates in radians.
        """
        if rotations.shape[-3] < NUM_BODY or rotations.shape[-4:-3] != self.context.shape[:1]:
            raise ShapeError(
                "rotations do not match the people of the posterior",
                seen=tuple(rotations.shape),
                expected=f"(…, {len(self)}, 22 or more, 3, 3)",
            )
        return self.body.log_prob(self._chart(rotations[..., :NUM_BODY, :, :]))

    def log_prob_of_hands(
        self, coefficients: Float[Tensor, "*sample batch 2 component"]
    ) -> Float[Tensor, "*sample batch 2"]:
        """Log-likelihood of the coefficients of left and right hand, in nats."""
        return self.hands.log_prob(coefficients)

    def _chart(self, rotations: Float[Tensor, "*sample batch 22 3 3"]) -> Float[Tensor, "*sample batch 66"]:
        root = self.T_camera_view.transpose(-1, -2)[:, None] @ rotations[..., :1, :, :]
        return chart_from_rotations(torch.cat((root, rotations[..., 1:, :, :]), dim=-3), self.base_world)

    def pose_space(self, *, strength: Float[Tensor, "batch"] | None = None) -> "FlowPoseSpace":
        """The latent space of the body flow, for the solver: its unit Gaussian is the prior, times `strength`."""
        return FlowPoseSpace(self, strength=strength)

    def hand_pose_space(self, side: str) -> "FlowHandSpace":
        """The latent space of one hand's flow; `side` is "left" or "right"."""
        return FlowHandSpace(self, side)


def hand_spaces(num_components: int) -> tuple[HandPCA, HandPCA]:
    """The left and right space of hand coefficients that the hand flow speaks of."""
    left, right = (HandPCA.learnt(side, num_components=num_components) for side in _HANDS)
    return left, right


class FlowPoseSpace:
    """The body's 22 rotations as a latent of the flow of each person (ProHMR, eq. 8): R(z), with prior ½|z|².

    The global orientation is among them, in the camera frame. Row i of a state belongs to person i of the posterior.

    Args:
        posterior: the distributions.
        distribution: the flows of the same people, if at hand.
        strength: factor on the residual z of each person; one if None.
    """

    def __init__(
        self,
        posterior: BodyPosterior,
        distribution: FlowDistribution | None = None,
        *,
        strength: Float[Tensor, "person"] | None = None,
    ) -> None:
        self.posterior = posterior
        self._distribution = distribution or posterior.body
        self._strength = strength

    @property
    def strength(self) -> Float[Tensor, "person"] | None:
        """Factor on the residual of each person; one if None."""
        return self._strength

    @property
    def joints(self) -> tuple[int, ...]:
        return tuple(range(NUM_BODY))

    @property
    def num_parameters(self) -> int:
        return self._distribution.num_features

    def select(self, index: Int[Tensor, "kept"]) -> "FlowPoseSpace":
        """The space of some of the people; an index may repeat, to follow several hypotheses of one person."""
        strength = None if self._strength is None else self._strength[index]
        return FlowPoseSpace(self.posterior[index], self._distribution.select(index), strength=strength)

    def initial(self, batch: int, *, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "batch 66"]:
        """The mode."""
        return torch.zeros(batch, self.num_parameters, dtype=dtype, device=device)

    def decode(self, state: Float[Tensor, "batch 66"]) -> Float[Tensor, "batch 22 3 3"]:
        return self.evaluate(state, with_jacobian=False).rotations

    def differential(self, state: Float[Tensor, "batch 66"]) -> Float[Tensor, "batch 66 66"]:
        differential = self.evaluate(state).differential
        assert differential is not None
        return differential

    @torch.no_grad()
    def evaluate(self, state: Float[Tensor, "batch 66"], *, with_jacobian: bool = True) -> PoseEvaluation:
        posterior = self.posterior
        base = posterior.base_world
        if not with_jacobian:
            view = rotations_from_chart(self._distribution.from_latent(state), base)
            return PoseEvaluation(self._in_camera(view), None)
        v, tangents = self._distribution.from_latent_with_differential(state)
        view = rotations_from_chart(v, base)
        # Turning the camera acts from the left, so right perturbations stay as they are.
        return PoseEvaluation(self._in_camera(view), chart_differential(v, base, view, tangents))

    def _in_camera(self, rotations: Float[Tensor, "batch 22 3 3"]) -> Float[Tensor, "batch 22 3 3"]:
        return torch.cat((self.posterior.T_camera_view[:, None] @ rotations[:, :1], rotations[:, 1:]), dim=1)

    def retract(self, state: Float[Tensor, "batch 66"], step: Float[Tensor, "batch 66"]) -> Float[Tensor, "batch 66"]:
        return state + step

    @torch.no_grad()
    def encode(self, rotations: Float[Tensor, "batch 22 3 3"]) -> Float[Tensor, "batch 66"]:
        """Latent of the given rotations; exact, since the flow is invertible."""
        return self._distribution.to_latent(self.posterior._chart(rotations))

    def residual(self, state: Float[Tensor, "batch 66"]) -> Float[Tensor, "batch 66"]:
        return state if self._strength is None else self._strength[:, None] * state

    def residual_jacobian(self, state: Float[Tensor, "batch 66"]) -> Float[Tensor, "batch 66 66"]:
        identity = torch.eye(self.num_parameters, dtype=state.dtype, device=state.device)
        if self._strength is not None:
            return self._strength[:, None, None] * identity
        return identity.expand(state.shape[0], -1, -1)


class FlowHandSpace:
    """The 15 joints of one hand as a latent of the hand flow of each person, with prior ½|z|²."""

    def __init__(self, posterior: BodyPosterior, side: str, distribution: FlowDistribution | None = None) -> None:
        self.posterior = posterior
        self.side = side
        self._row = _HANDS.index(side)
        self._coefficients = hand_spaces(posterior.network.config.num_hand)[self._row]
        flow: Glow = posterior.network.hand_flow
        self._distribution = distribution or flow(posterior.hand_context[:, self._row])

    @property
    def joints(self) -> tuple[int, ...]:
        return tuple(SMPLX.block(f"{self.side}_hand_pose").joints)

    @property
    def num_parameters(self) -> int:
        return self._distribution.num_features

    def select(self, index: Int[Tensor, "kept"]) -> "FlowHandSpace":
        """The space of some of the people."""
        return FlowHandSpace(self.posterior[index], self.side, self._distribution.select(index))

    def initial(self, batch: int, *, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "batch D"]:
        """The mode."""
        return torch.zeros(batch, self.num_parameters, dtype=dtype, device=device)

    @torch.no_grad()
    def decode(self, state: Float[Tensor, "batch D"]) -> Float[Tensor, "batch 15 3 3"]:
        return self._coefficients.decode(self._distribution.from_latent(state))

    def differential(self, state: Float[Tensor, "batch D"]) -> Float[Tensor, "batch 45 D"]:
        differential = self.evaluate(state).differential
        assert differential is not None
        return differential

    @torch.no_grad()
    def evaluate(self, state: Float[Tensor, "batch D"], *, with_jacobian: bool = True) -> PoseEvaluation:
        if not with_jacobian:
            return PoseEvaluation(self.decode(state), None)
        coefficients, tangents = self._distribution.from_latent_with_differential(state)
        inner = self._coefficients.evaluate(coefficients)
        assert inner.differential is not None
        return PoseEvaluation(inner.rotations, inner.differential @ tangents)

    def retract(self, state: Float[Tensor, "batch D"], step: Float[Tensor, "batch D"]) -> Float[Tensor, "batch D"]:
        return state + step

    @torch.no_grad()
    def encode(self, rotations: Float[Tensor, "batch 15 3 3"]) -> Float[Tensor, "batch D"]:
        """Latent of the nearest rotations that the hand coefficients can make."""
        return self._distribution.to_latent(self._coefficients.encode(rotations))

    def residual(self, state: Float[Tensor, "batch D"]) -> Float[Tensor, "batch D"]:
        return state

    def residual_jacobian(self, state: Float[Tensor, "batch D"]) -> Float[Tensor, "batch D D"]:
        identity = torch.eye(self.num_parameters, dtype=state.dtype, device=state.device)
        return identity.expand(state.shape[0], -1, -1)


@torch.no_grad()
def infer(network: PoseNetwork, keypoints: Keypoints, camera: Camera) -> BodyPosterior:
    """Posterior of a batch of people from their keypoints, in any registered format, and their cameras."""
    view = view_of(keypoints, camera)
    estimate = network.regressor(view)
    head = estimate.heads[-1]
    pelvis = pelvis_position(head.place, view.half_size)
    return BodyPosterior(
        network=network,
        context=estimate.context,
        hand_context=network.hand_context(view, estimate),
        T_camera_view=view.T_camera_view,
        base_world=estimate.posed[-1].G,
        betas=head.betas,
        expression=head.expression,
        jaw=head.jaw,
        pelvis=(view.T_camera_view @ pelvis[..., None])[..., 0],
        seen=(view.confidence[..., :NUM_COMMON] > 0).to(view.points.dtype).mean(-1),
    )
