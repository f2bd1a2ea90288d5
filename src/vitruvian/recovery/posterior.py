"""The distribution of poses of each person given their keypoints: mode, samples, likelihoods, and a space to fit in."""

import copy
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitruvian.errors import ShapeError
from vitruvian.flows import FlowDistribution
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.rotations import exp_so3
from vitruvian.keypoints.observations import EVIDENCE_CONFIDENCE, Keypoints
from vitruvian.priors.pose_spaces import HandPCA
from vitruvian.recovery.chart import (
    NUM_BODY,
    chart_from_rotations,
    rotations_from_chart,
)
from vitruvian.recovery.flow_spaces import FlowHandSpace, FlowPoseSpace
from vitruvian.recovery.network import PoseNetwork
from vitruvian.recovery.symmetry import Mirror, read_both_ways
from vitruvian.recovery.views import view_of
from vitruvian.tensors import BatchRecord

_HANDS = ("left", "right")
NUM_COMMON = 25
"""The first canonical keypoints are those of BODY_25."""


@dataclass(frozen=True, eq=False)
class PoseSamples(BatchRecord):
    """Poses in the camera frame; a sample axis may lead the batch.

    Attributes:
        rotations: local rotations of the joints of the body (55 of SMPL-X); the root turns it into the camera frame.
        betas, expression: shape and expression in standard deviations.
        pelvis: position of the pelvis in the camera frame, metres.
        latent: z of the body's flow.
        hand_latent: z of the hands' flow, left and right.
        log_prob: log-density of the body pose, nats: what `BodyPosterior.log_prob` says of these rotations.
        log_prob_hands: log-density of the coefficients of left and right hand, nats, given the hands' keypoints.
        log_prob_shape: log-density of the shape, nats, over standard deviations.

    The three are densities over different numbers: they may be added, and must not be compared with each other.
    """

    rotations: Float[Tensor, "*batch joint 3 3"]
    betas: Float[Tensor, "*batch shape"]
    expression: Float[Tensor, "*batch expression"]
    pelvis: Float[Tensor, "*batch 3"]
    latent: Float[Tensor, "*batch D"]
    hand_latent: Float[Tensor, "*batch 2 component"]
    log_prob: Float[Tensor, "*batch"]
    log_prob_hands: Float[Tensor, "*batch 2"]
    log_prob_shape: Float[Tensor, "*batch"]


@dataclass(frozen=True, eq=False)
class BodyPosterior(BatchRecord):
    """Poses of a batch of people given what was seen of each.

    Density is that of chart coordinates (recovery/chart.py): rotation vectors of the 22 bones about the axes of the
    person's virtual camera, radians, and of hand coefficients in standard deviations. The mode is exact.

    Attributes:
        network: the flows; shared by all people.
        context: context of the body flow.
        hand_context: context of the hand flow, left and right.
        R_camera_view: rotation of each person's virtual camera.
        base_world: base pose of each person in the virtual camera.
        mirrored: people whose flow speaks of the mirrored pose (see recovery/symmetry.py).
        betas, expression, jaw: point estimates.
        pelvis: estimated position in the camera frame, metres.
        seen: share of the 25 body keypoints that were seen.
        min_confidence: least confidence of the keypoints that counted; what goes on with them holds to it.
    """

    network: PoseNetwork
    context: Float[Tensor, "batch context"]
    hand_context: Float[Tensor, "batch 2 hand_context"]
    R_camera_view: Float[Tensor, "batch 3 3"]
    base_world: Float[Tensor, "batch 22 3 3"]
    mirrored: Bool[Tensor, "batch"]
    betas: Float[Tensor, "batch shape"]
    expression: Float[Tensor, "batch expression"]
    jaw: Float[Tensor, "batch 3"]
    pelvis: Float[Tensor, "batch 3"]
    seen: Float[Tensor, "batch"]
    min_confidence: float = EVIDENCE_CONFIDENCE

    def __len__(self) -> int:
        return self.context.shape[0]

    def to(self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "BodyPosterior":
        """A copy elsewhere or in another precision, its network too; the shared network stays as it is."""
        network = copy.deepcopy(self.network).to(device=device, dtype=dtype)
        return replace(super().to(device=device, dtype=dtype), network=network)

    @cached_property
    def body(self) -> FlowDistribution:
        """Distribution of the chart coordinates."""
        return self.network.flow(self.context).behind(Mirror(self.mirrored))

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
        hands = torch.where(self.mirrored[:, None, None], hands.flip(-2), hands)
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
        body = torch.cat((self.R_camera_view[:, None] @ body[..., :1, :, :], body[..., 1:, :, :]), dim=-3)
        hands = self.hands.from_latent(hand_latent)
        fingers = [
            space.decode(hands[..., side, :].reshape(-1, hands.shape[-1])).view(*hands.shape[:-2], 15, 3, 3)
            for side, space in enumerate(hand_spaces(hands.shape[-1]))
        ]
        lead = latent.shape[:-1]
        shape = (self.betas if betas is None else betas).expand(*lead, -1)
        eyes = torch.eye(3, dtype=latent.dtype, device=latent.device).expand(*lead, 2, 3, 3)
        jaw = exp_so3(self.jaw).expand(*lead, 3, 3)[..., None, :, :]
        return PoseSamples(
            rotations=torch.cat((body, jaw, eyes, *fingers), dim=-3),
            betas=shape,
            expression=self.expression.expand(*lead, -1),
            pelvis=self.pelvis.expand(*lead, 3),
            latent=latent,
            hand_latent=hand_latent,
            log_prob=self.log_prob(body),
            log_prob_hands=self.hands.log_prob_of_latent(hand_latent),
            log_prob_shape=self.log_prob_of_shape(shape),
        )

    def log_prob(self, rotations: Float[Tensor, "*sample batch joint 3 3"]) -> Float[Tensor, "*sample batch"]:
        """Log-likelihood of body poses: local rotations of 22 joints or more, of which the first 22 count.

        Nats, density over the 66 chart coordinates in radians. A bone turned from its base by v stands as if turned by
        2π − |v| the other way; of these branches the one below half a turn counts and the others are left out. So this
        is a lower bound, far below the truth only for poses that the flow reaches by more than half a turn.
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

    def log_prob_of_shape(self, betas: Float[Tensor, "*sample batch shape"]) -> Float[Tensor, "*sample batch"]:
        """Log-likelihood of shapes, nats: independent Gaussians about the estimate, in standard deviations."""
        spread = self.network.shape_std.to(betas)
        return torch.distributions.Normal(self.betas, spread, validate_args=False).log_prob(betas).sum(-1)

    def _chart(self, rotations: Float[Tensor, "*sample batch 22 3 3"]) -> Float[Tensor, "*sample batch 66"]:
        root = self.R_camera_view.transpose(-1, -2)[:, None] @ rotations[..., :1, :, :]
        return chart_from_rotations(torch.cat((root, rotations[..., 1:, :, :]), dim=-3), self.base_world)

    def pose_space(self, *, strength: Float[Tensor, "batch"] | None = None) -> FlowPoseSpace:
        """The latent space of the body flow, for the solver: its unit Gaussian is the prior, times `strength`."""
        return FlowPoseSpace(self.body, self.base_world, self.R_camera_view, strength)

    def hand_pose_space(self, side: str) -> FlowHandSpace:
        """The latent space of one hand's flow; `side` is "left" or "right"."""
        row = _HANDS.index(side)
        coefficients = hand_spaces(self.network.config.num_hand)[row]
        return FlowHandSpace(self.network.hand_flow(self.hand_context[:, row]), coefficients)


def hand_spaces(num_components: int) -> tuple[HandPCA, HandPCA]:
    """The left and right space of hand coefficients that the hand flow speaks of."""
    left, right = (HandPCA.learnt(side, num_components=num_components) for side in _HANDS)
    return left, right


@torch.no_grad()
def infer(
    network: PoseNetwork,
    keypoints: Keypoints,
    camera: Camera,
    *,
    gravity: Float[Tensor, "batch 3"] | None = None,
    min_confidence: float = EVIDENCE_CONFIDENCE,
) -> BodyPosterior:
    """Posterior of a batch of people from their keypoints, in any registered format, and their cameras.

    Turning the picture about the optical axis turns the posterior, mirroring the picture mirrors it, and points of
    less than `min_confidence` change nothing.

    Args:
        network: the trained network.
        keypoints, camera: one row per person.
        gravity: direction of gravity in the camera frame, where known (see `view_of`).
        min_confidence: least confidence of points that count.
    """
    view = view_of(keypoints, camera, gravity=gravity, min_confidence=min_confidence)
    reading = read_both_ways(network, view)
    return BodyPosterior(
        network=network,
        context=reading.context,
        hand_context=reading.hand_context,
        R_camera_view=view.R_camera_view,
        base_world=reading.base_world,
        mirrored=reading.mirrored,
        betas=reading.betas,
        expression=reading.expression,
        jaw=reading.jaw,
        pelvis=(view.R_camera_view @ reading.pelvis[..., None])[..., 0],
        seen=(view.confidence[..., :NUM_COMMON] > 0).to(view.points.dtype).mean(-1),
        min_confidence=min_confidence,
    )
