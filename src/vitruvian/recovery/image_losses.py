"""All losses of ProHMR for batches in which only some things are known of some people."""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.errors import InputError
from vitruvian.keypoints.canonical import CANONICAL
from vitruvian.keypoints.targets import keypoint_targets
from vitruvian.recovery.crop_view import CropView
from vitruvian.recovery.image_critic import ImageCritic, adversarial_loss
from vitruvian.recovery.image_network import ImagePrediction
from vitruvian.recovery.pose_coordinates import PoseCoordinates, SixD
from vitruvian.tensors import BatchRecord


@dataclass(frozen=True)
class ImageLossWeights:
    """Factor of each loss; the defaults are those of ProHMR.

    Losses are sums over joints, numbers or outputs and means over people; 3D in metres, 2D in sides of the crop,
    likelihood in nats.
    """

    keypoints_3d: float = 0.05
    keypoints_2d: float = 0.01
    sample_keypoints_2d: float = 0.001
    pose: float = 0.001
    shape: float = 0.0005
    orthonormality: float = 0.1
    likelihood: float = 0.001
    adversarial: float = 0.0005


@dataclass(frozen=True, eq=False)
class ImageTargets(BatchRecord):
    """What is known of people, in the camera of their crop; the rest is masked out.

    Attributes:
        rotations, has_pose: local rotations, and whether they are known.
        betas, has_shape: shape, and whether it is known.
        joints, joints_confidence: 3D joints, metres, of which only distances from the root count.
        keypoints, confidence: canonical 2D keypoints in units of half a side.
    """

    rotations: Float[Tensor, "batch joint 3 3"]
    has_pose: Bool[Tensor, "batch"]
    betas: Float[Tensor, "batch shape"]
    has_shape: Bool[Tensor, "batch"]
    joints: Float[Tensor, "batch joint 3"]
    joints_confidence: Float[Tensor, "batch joint"]
    keypoints: Float[Tensor, "batch point 2"]
    confidence: Float[Tensor, "batch point"]


@dataclass(frozen=True, eq=False)
class PosedFigure:
    """Joints and keypoints of poses in the crop's camera frame, metres."""

    joints: Float[Tensor, "*batch joint 3"]
    keypoints: Float[Tensor, "*batch point 3"]


class Figure:
    """A body as the losses see it: joints, and those of the canonical 2D keypoints that it has.

    Args:
        body: the body.
        num_joints: leading joints that the network speaks of; the others stay at rest.
    """

    def __init__(self, body: BodyModel, num_joints: int) -> None:
        if not 22 <= num_joints <= body.num_joints:
            raise InputError(
                "the network's joints are not those of the body", seen=num_joints, expected=body.num_joints
            )
        self.body, self.num_joints = body, num_joints
        targets = keypoint_targets(body, CANONICAL)
        self.rows = targets.keypoint
        self._points = replace(targets.points, pose_dirs=None)

    def pose(
        self,
        rotations: Float[Tensor, "*#batch joint 3 3"],
        betas: Float[Tensor, "*#batch shape"],
        transl: Float[Tensor, "*#batch 3"] | None = None,
    ) -> PosedFigure:
        """Joints and keypoints; differentiable."""
        missing = self.body.num_joints - rotations.shape[-3]
        rest = torch.eye(3, dtype=rotations.dtype, device=rotations.device).expand(*rotations.shape[:-3], missing, 3, 3)
        shaped = self.body.with_shape(betas)
        posed = shaped.with_pose(torch.cat((rotations, rest), dim=-3), transl)
        points = self._points.place(posed.world_rotations, posed.joints, shaped.betas, shaped.expression, None)
        return PosedFigure(posed.joints[..., : self.num_joints, :], points)


@dataclass(frozen=True, eq=False)
class ImageLossTerms:
    """The losses before weighting, each a scalar; fields as in `ImageLossWeights`."""

    keypoints_3d: Tensor
    keypoints_2d: Tensor
    sample_keypoints_2d: Tensor
    pose: Tensor
    shape: Tensor
    orthonormality: Tensor
    likelihood: Tensor
    adversarial: Tensor

    def total(self, weights: ImageLossWeights) -> Tensor:
        """Weighted sum."""
        return torch.stack([getattr(self, f.name) * getattr(weights, f.name) for f in fields(weights)]).sum()

    def detached(self) -> dict[str, Tensor]:
        """Values by name, without gradient, for logs."""
        return {f.name: getattr(self, f.name).detach() for f in fields(self)}


@dataclass(frozen=True, eq=False)
class ImageLosses:
    """The losses of a batch, and what the critic shall tell from real people: modes and samples, with their shapes."""

    terms: ImageLossTerms
    fakes: tuple[Float[Tensor, "fake joint 3 3"], Float[Tensor, "fake shape"]]


def image_losses(
    prediction: ImagePrediction,
    coordinates: PoseCoordinates,
    view: CropView,
    targets: ImageTargets,
    figure: Figure,
    critic: ImageCritic,
    *,
    num_samples: int = 2,
    noise: float = 0.005,
    half_precision: bool = False,
    generator: torch.Generator | None = None,
) -> ImageLosses:
    """The losses of a batch (ProHMR, section 3.3).

    Args:
        prediction: of the network for the crops.
        coordinates: what its flow speaks of.
        view: camera of each crop.
        targets: what is known of each person.
        figure: the body.
        critic: the discriminator, which gets no gradient here.
        num_samples: poses of each person: the mode and this many less one samples.
        noise: standard deviation added to the true coordinates before their likelihood is taken.
        half_precision: let the flow compute in bfloat16 where that is safe.
        generator: source of noise and samples, on the processor.
    """
    device = prediction.betas.device
    size = len(prediction.betas)
    base = prediction.base

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device=device, dtype=prediction.betas.dtype)

    with torch.no_grad():
        truth = coordinates.features(targets.rotations, base)
        truth = truth + noise * draw(*truth.shape)
    with torch.autocast(device.type, torch.bfloat16, enabled=half_precision):
        log_prob = prediction.flow.log_prob(truth)
        latent = torch.cat((draw(1, *truth.shape) * 0, draw(num_samples - 1, *truth.shape)))
        features = prediction.flow.from_latent(latent).to(truth.dtype)
    rotations = coordinates.rotations(features, base)
    transl = view.translation(prediction.camera)
    seen = figure.pose(rotations, prediction.betas, transl)
    error_3d = (_about_root(seen.joints[0]) - _about_root(targets.joints)).abs().sum(-1)
    error_2d = (view.project(seen.keypoints) - targets.keypoints[:, figure.rows]).abs().sum(-1) / 2
    error_2d = (targets.confidence[:, figure.rows] * error_2d.clamp_max(_FARTHEST)).sum(-1).mean(-1)
    pose = (rotations[0] - targets.rotations).square().sum((-1, -2, -3))
    if base is not None:
        pose = pose + (base - targets.rotations).square().sum((-1, -2, -3))
    fakes = (rotations.flatten(0, 1), prediction.betas.repeat(num_samples, 1))
    terms = ImageLossTerms(
        keypoints_3d=(targets.joints_confidence * error_3d).sum(-1).mean(),
        keypoints_2d=error_2d[0],
        sample_keypoints_2d=error_2d[1:].sum(),
        pose=_masked_mean(pose, targets.has_pose),
        shape=_masked_mean((prediction.betas - targets.betas).square().sum(-1), targets.has_shape),
        orthonormality=_orthonormality(features, coordinates, prediction.six_d, size),
        likelihood=_masked_mean(-log_prob, targets.has_pose),
        adversarial=adversarial_loss(critic, *fakes),
    )
    return ImageLosses(terms, (fakes[0].detach(), fakes[1].detach()))


_FARTHEST = 2.0
"""2D errors count at most as this many sides."""


def _about_root(joints: Float[Tensor, "batch joint 3"]) -> Float[Tensor, "batch joint 3"]:
    return joints - joints[..., :1, :]


def _masked_mean(values: Float[Tensor, "batch"], mask: Bool[Tensor, "batch"]) -> Tensor:
    """Mean over people of what is known, with nothing for those of whom it is not."""
    return torch.where(mask, values, 0.0).mean()


def _orthonormality(features: Tensor, coordinates: PoseCoordinates, six_d: Tensor | None, size: int) -> Tensor:
    """How far the pairs of columns of modes and samples (or of the base pose) are from orthonormal ones."""
    if six_d is None:
        assert isinstance(coordinates, SixD)
        six_d = coordinates.by_rows(features)
    columns = six_d.unflatten(-1, (3, 2))
    gram = columns.transpose(-1, -2) @ columns - torch.eye(2, dtype=six_d.dtype, device=six_d.device)
    return gram.square().sum() / size
