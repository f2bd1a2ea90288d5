"""Training losses of the pose network: all those of ProHMR, in the units of this project."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.skinning import forward_kinematics
from vitruvian.recovery.chart import BODY, CHART_SIZE, NUM_BODY, chart_from_rotations, rotations_from_chart
from vitruvian.recovery.heads import pelvis_position, place_of_pelvis
from vitruvian.recovery.network import Prediction
from vitruvian.recovery.views import View
from vitruvian.tensors import BatchRecord, TensorRecord


@dataclass(frozen=True)
class LossWeights:
    """Factor of each loss. 3D in metres, 2D in half person sizes, likelihood in nats per dimension; all are means.

    ProHMR's own factors (3D 0.05, 2D of mode and samples 0.01 and 0.001, pose 0.001, shape 0.0005, orthonormality 0.1,
    likelihood 0.001, adversarial 0.0005) belong to sums over joints and to an image backbone; these are for means.
    """

    keypoints_3d: float = 6.0
    keypoints_2d: float = 1.0
    sample_keypoints_2d: float = 0.02
    pose: float = 0.5
    world_pose: float = 0.5
    shape: float = 0.02
    expression: float = 0.01
    jaw: float = 0.2
    place: float = 0.3
    orthonormality: float = 0.1
    likelihood: float = 0.3
    hand_likelihood: float = 0.1
    hand_mode: float = 0.05
    adversarial: float = 0.0005
    estimates: float = 0.3
    """Of the point estimates before and after each correction; their terms have the weights above."""


@dataclass(frozen=True, eq=False)
class Targets(BatchRecord):
    """Truth, in the virtual camera frame."""

    rotations: Float[Tensor, "batch 22 3 3"]
    jaw: Float[Tensor, "batch 3"]
    betas: Float[Tensor, "batch shape"]
    expression: Float[Tensor, "batch expression"]
    hands: Float[Tensor, "batch 2 component"]
    joints: Float[Tensor, "batch 22 3"]
    visible: Bool[Tensor, "batch 22"]


@dataclass(frozen=True, eq=False)
class LossTerms:
    """The losses before weighting, each a scalar; fields as in `LossWeights`."""

    keypoints_3d: Tensor
    keypoints_2d: Tensor
    sample_keypoints_2d: Tensor
    pose: Tensor
    world_pose: Tensor
    shape: Tensor
    expression: Tensor
    jaw: Tensor
    place: Tensor
    orthonormality: Tensor
    likelihood: Tensor
    hand_likelihood: Tensor
    hand_mode: Tensor
    adversarial: Tensor
    estimates: Tensor

    def total(self, weights: LossWeights) -> Tensor:
        """Weighted sum."""
        return torch.stack([getattr(self, f.name) * getattr(weights, f.name) for f in fields(weights)]).sum()

    def detached(self) -> dict[str, Tensor]:
        """Values by name, without gradient, for logs."""
        return {f.name: getattr(self, f.name).detach() for f in fields(self)}


@dataclass(frozen=True, eq=False)
class RestJoints(TensorRecord):
    """Rest positions of the 22 body joints as a linear function of shape."""

    template: Float[Tensor, "22 3"]
    shape_dirs: Float[Tensor, "22 3 shape"]

    @classmethod
    def of(cls, body: BodyModel, *, num_shape: int) -> "RestJoints":
        return cls(body.joint_template[:NUM_BODY], body.joint_shape_dirs[:NUM_BODY, :, :num_shape])

    def __call__(self, betas: Float[Tensor, "*batch shape"]) -> Float[Tensor, "*batch 22 3"]:
        flat = betas @ self.shape_dirs.flatten(0, 1).T
        return self.template + flat.unflatten(-1, (NUM_BODY, 3))


def joints_about_pelvis(
    rotations: Float[Tensor, "*batch 22 3 3"], rest: Float[Tensor, "*batch 22 3"]
) -> tuple[Float[Tensor, "*batch 22 3 3"], Float[Tensor, "*batch 22 3"]]:
    """World rotations, and positions relative to the pelvis."""
    return forward_kinematics(BODY, rotations, rest - rest[..., :1, :])


def losses(
    prediction: Prediction,
    view: View,
    targets: Targets,
    rest: RestJoints,
    critic: "PoseCritic",
    *,
    weights: LossWeights | None = None,
    noise: float = 0.005,
    half_precision: bool = False,
    generator: torch.Generator | None = None,
) -> tuple[LossTerms, Float[Tensor, "batch 22 3 3"]]:
    """The losses of a batch, and the rotations of the modes (for the critic's own step).

    Args:
        prediction: output of the network for `view`.
        view: what the network saw.
        targets: truth.
        rest: rest joints of the body.
        critic: the discriminator.
        weights: of the terms within the loss of the point estimates.
        noise: standard deviation (radians) added to the true chart coordinates before their likelihood is taken.
        half_precision: let the flows compute in bfloat16 where that is safe.
        generator: source of the noise and the samples.
    """
    head = prediction.head
    rest_joints = rest(head.betas)
    device = view.points.device
    with torch.no_grad():
        chart = chart_from_rotations(targets.rotations, prediction.base_world)
        chart = chart + noise * torch.randn(chart.shape, generator=generator).to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=half_precision):
        body_nll = limited(-prediction.body.log_prob(chart) / CHART_SIZE).mean()
        hand_nll = limited(-prediction.hands.log_prob(targets.hands) / targets.hands.shape[-1]).mean()
        latent = torch.cat(
            (chart.new_zeros(1, *chart.shape), torch.randn(1, *chart.shape, generator=generator).to(device))
        )
        body_mode, sample = prediction.body.from_latent(latent)
        hand_mode = prediction.hands.mode
    mode = rotations_from_chart(body_mode, prediction.base_world)
    G_mode, joints = joints_about_pelvis(mode, rest_joints)
    with torch.no_grad():
        G_true, _ = joints_about_pelvis(targets.rotations, rest_joints.detach())
        pelvis_true = targets.joints[:, :1]
        pixels_true = view.project(targets.joints)
    pelvis = pelvis_position(head.place, view.half_size)[:, None]
    visible = targets.visible.to(joints.dtype)
    weight_2d = 0.1 + 0.9 * visible

    def estimates(weights: LossWeights) -> Tensor:
        total = G_true.new_zeros(())
        for one, posed in zip(prediction.estimate.heads, prediction.estimate.posed, strict=True):
            at = pelvis_position(one.place, view.half_size)[:, None]
            total = total + (
                weights.keypoints_3d * (posed.joints - (targets.joints - pelvis_true)).abs().mean()
                + weights.keypoints_2d * _error_2d(view, posed.joints + at, pixels_true, weight_2d)
                + weights.world_pose * (posed.G - G_true).square().sum((-1, -2)).mean()
            )
        return total / len(prediction.estimate.heads)

    sample_rotations = rotations_from_chart(sample, prediction.base_world)
    _, sample_joints = joints_about_pelvis(sample_rotations, rest_joints.detach())
    columns = head.six_d.unflatten(-1, (3, 2))
    gram = columns.transpose(-1, -2) @ columns - torch.eye(2, device=device)
    terms = LossTerms(
        keypoints_3d=(joints - (targets.joints - pelvis_true)).abs().mean(),
        keypoints_2d=_error_2d(view, joints + pelvis, pixels_true, weight_2d),
        sample_keypoints_2d=_error_2d(view, sample_joints + pelvis.detach(), pixels_true, visible),
        pose=(mode - targets.rotations).square().sum((-1, -2)).mean(),
        world_pose=(G_mode - G_true).square().sum((-1, -2)).mean(),
        shape=F.mse_loss(head.betas, targets.betas),
        expression=F.mse_loss(head.expression, targets.expression),
        jaw=F.l1_loss(head.jaw, targets.jaw),
        place=_place_error(head.place, place_of_pelvis(targets.joints[:, 0], view.half_size)),
        orthonormality=gram.square().sum((-1, -2)).mean(),
        likelihood=body_nll,
        hand_likelihood=hand_nll,
        hand_mode=F.mse_loss(hand_mode, targets.hands),
        adversarial=(critic(*_fakes(mode, sample_rotations, head.betas)) - 1).square().mean(),
        estimates=estimates(weights or LossWeights()),
    )
    return terms, mode


def limited(values: Tensor, limit: float = 4.0) -> Tensor:
    """The same up to `limit`, growing as a logarithm above it, so that single outliers cannot drive a step."""
    return torch.where(values > limit, limit + torch.log1p((values - limit).clamp_min(0)), values)


def _error_2d(view: View, joints: Tensor, pixels: Tensor, weight: Tensor) -> Tensor:
    error = (view.project(joints) - pixels).abs().sum(-1).clamp_max(2.0)
    return (weight * error).sum() / weight.sum().clamp_min(1.0)


def _place_error(place: Tensor, target: Tensor) -> Tensor:
    """Relative error of the pelvis: where only a face is seen it lies many sizes away, and is not known that well."""
    scale = torch.cat(
        (1 + target[..., :2].norm(dim=-1, keepdim=True).expand(-1, 2), torch.ones_like(target[..., :1])), -1
    )
    return F.smooth_l1_loss(place / scale, target / scale, beta=0.05)


def _fakes(mode: Tensor, sample: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
    """Modes and samples of a part of the batch, which is enough for the weak adversarial loss."""
    count = max(1, len(mode) // 8)
    return torch.cat((mode[:count], sample[:count])), betas[:count].repeat(2, 1)


class PoseCritic(nn.Module):
    """Discriminator of least-squares GANs with an output per joint, for the shape and for the whole pose (HMR).

    Args:
        num_shape: shape coefficients.
        hidden: features per joint.
    """

    def __init__(self, *, num_shape: int, hidden: int = 32) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(9, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.per_joint = nn.Parameter(torch.randn(NUM_BODY - 1, hidden) / hidden**0.5)
        self.per_joint_bias = nn.Parameter(torch.zeros(NUM_BODY - 1))
        self.whole = nn.Sequential(nn.Linear(hidden * (NUM_BODY - 1), 128), nn.ReLU(), nn.Linear(128, 1))
        self.shape = nn.Sequential(nn.Linear(num_shape, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(
        self, rotations: Float[Tensor, "batch 22 3 3"], betas: Float[Tensor, "batch shape"]
    ) -> Float[Tensor, "batch output"]:
        """Scores, 1 for real; the global orientation does not count."""
        features = self.embed(rotations[:, 1:].flatten(-2))
        joints = (features * self.per_joint).sum(-1) + self.per_joint_bias
        return torch.cat((joints, self.whole(features.flatten(1)), self.shape(betas)), dim=-1)

    def loss(
        self,
        fake: Float[Tensor, "batch 22 3 3"],
        real: Float[Tensor, "batch 22 3 3"],
        fake_betas: Tensor,
        betas: Tensor,
    ) -> Tensor:
        """Least-squares loss of the critic itself."""
        fakes, reals = self(fake.detach(), fake_betas.detach()), self(real, betas)
        return fakes.square().mean() + (reals - 1).square().mean()
