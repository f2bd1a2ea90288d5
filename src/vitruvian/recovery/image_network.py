"""ProHMR's image network (Kolotouros et al. 2021): an encoder, a flow over poses, a head for shape and camera."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vitruvian.errors import WeightsError
from vitruvian.flows import FlowConfig, FlowDistribution, Glow
from vitruvian.geometry.rotations import matrix_to_six_d, six_d_to_matrix
from vitruvian.recovery.encoders.efficientnet import EfficientNetLite0
from vitruvian.recovery.encoders.protocol import Encoder, ViewEncoder
from vitruvian.recovery.encoders.resnet import resnet18, resnet50
from vitruvian.recovery.pose_coordinates import CoordinatesName, pose_coordinates
from vitruvian.recovery.views import View

EncoderName = Literal["resnet50", "resnet18", "efficientnet-lite0", "keypoints"]
PUBLISHED_FLOW = FlowConfig(
    num_features=144,
    context_features=2048,
    num_layers=4,
    hidden=1024,
    num_blocks=2,
    dropout=0.5,
    context_scales=False,
    coupling="normalized",
)
"""The flow of ProHMR as published: 25.9 M parameters."""
MEAN_SCALE = 0.9
"""Scale of the weak-perspective camera from which the head's offset counts."""


@dataclass(frozen=True)
class ImageNetworkConfig:
    """Parts and sizes of an image network; the defaults are those of ProHMR as published."""

    encoder: EncoderName = "resnet50"
    """What makes the context: a network on pixels, or that of keypoints."""
    width: int = 64
    """Channels of the first stage of a residual network."""
    coordinates: CoordinatesName = "six-d"
    """What the flow speaks of: six numbers a joint, or turns away from an estimated base pose."""
    num_joints: int = 24
    """Joints of the pose: 24 for SMPL, 22 where no joints of hands follow (always 22 with the chart)."""
    num_shape: int = 10
    head_hidden: int = 1024
    """Width of the head of shape and camera."""
    flow: FlowConfig = field(default_factory=lambda: PUBLISHED_FLOW)
    """Its numbers of features and of context follow from the other fields."""
    crop_px: int = 224
    """Side of the crop of a person."""
    body: str = "smpl"
    """Family of the body whose shape coefficients the network gives."""

    def __post_init__(self) -> None:
        coordinates = pose_coordinates(self.coordinates, self.num_joints)
        context = {
            "resnet50": 32 * self.width, "resnet18": 8 * self.width, "efficientnet-lite0": 1280, "keypoints": 384,
        }[self.encoder]  # fmt: skip
        flow = replace(self.flow, num_features=coordinates.num_features, context_features=context)
        object.__setattr__(self, "flow", flow)
        object.__setattr__(self, "num_joints", coordinates.num_joints)

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which `image_network_config` makes the configuration again."""
        return asdict(self)


def image_network_config(values: dict[str, Any]) -> ImageNetworkConfig:
    """The configuration of plain values.

    Raises:
        WeightsError: names that this version does not know.
    """
    try:
        return ImageNetworkConfig(**{**values, "flow": FlowConfig(**values["flow"])})
    except (TypeError, KeyError) as error:
        raise WeightsError(
            "the description of the image network is not one of this version", seen=str(error)
        ) from error


@dataclass(frozen=True, eq=False)
class ImagePrediction:
    """What the network says of each person, in the camera of their crop (recovery/crop_view.py).

    Attributes:
        flow: distribution of the coordinates of the pose.
        betas: shape.
        camera: weak perspective: scale, and the body's origin to the right and down, in metres.
        six_d: six numbers a joint of the base pose, where the coordinates have one.
        base: its local rotations.
    """

    flow: FlowDistribution
    betas: Float[Tensor, "batch shape"]
    camera: Float[Tensor, "batch 3"]
    six_d: Float[Tensor, "batch joint 6"] | None
    base: Float[Tensor, "batch joint 3 3"] | None


class ImageHead(nn.Module):
    """Shape and camera, and where asked for a base pose, as offsets from mean values.

    Args:
        num_context: length of the context.
        hidden: width of the one hidden layer.
        num_shape: shape coefficients.
        base_joints: joints of the base pose, 0 for none.
    """

    mean_betas: Tensor
    mean_camera: Tensor
    shape_std: Tensor

    def __init__(self, num_context: int, *, hidden: int, num_shape: int, base_joints: int = 0) -> None:
        super().__init__()
        self.sizes = (num_shape, 3, 6 * base_joints)
        self.enter = nn.Linear(num_context, hidden)
        self.leave = nn.Linear(hidden, sum(self.sizes))
        nn.init.xavier_uniform_(self.leave.weight, gain=0.02)
        nn.init.zeros_(self.leave.bias)
        self.register_buffer("mean_betas", torch.zeros(num_shape))
        self.register_buffer("mean_camera", torch.tensor([MEAN_SCALE, 0.0, 0.0]))
        # How far true shapes lie from the estimate, in standard deviations of people; samples vary by it.
        self.register_buffer("shape_std", torch.ones(num_shape))

    def forward(
        self, context: Float[Tensor, "batch context"]
    ) -> tuple[Float[Tensor, "batch shape"], Float[Tensor, "batch 3"], Tensor | None]:
        """Shape, camera, and the six numbers a joint of the base pose."""
        offsets = self.leave(F.relu(self.enter(context))).to(self.mean_camera.dtype)
        betas, camera, six_d = offsets.split(self.sizes, dim=-1)
        base = None
        if self.sizes[2]:
            rest = torch.eye(3, dtype=offsets.dtype, device=offsets.device).repeat(self.sizes[2] // 6, 1, 1)
            rest[0] = torch.diag(rest.new_tensor([1.0, -1.0, -1.0]))  # upright before the camera
            base = matrix_to_six_d(rest) + six_d.unflatten(-1, (-1, 6))
        return self.mean_betas + betas, self.mean_camera + camera, base


class ImageNetwork(nn.Module):
    """From crops of people to the distribution of their poses.

    Args:
        config: parts and sizes.
    """

    def __init__(self, config: ImageNetworkConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ImageNetworkConfig()
        self.coordinates = pose_coordinates(config.coordinates, config.num_joints)
        self.encoder = _encoder(config)
        self.head = ImageHead(
            config.flow.context_features,
            hidden=config.head_hidden,
            num_shape=config.num_shape,
            base_joints=config.num_joints if self.coordinates.needs_base else 0,
        )
        self.flow = Glow(config.flow)

    @property
    def shape_std(self) -> Float[Tensor, "shape"]:
        """How far true shapes lie from the estimate, in standard deviations of people."""
        return self.head.shape_std

    def forward(self, view: View | None, pixels: Float[Tensor, "batch 3 height width"] | None) -> ImagePrediction:
        """Distribution and point estimates of each person.

        Args:
            view: their keypoints, for encoders that read them.
            pixels: normalised crops, for encoders that read them.
        """
        return self.predict(self.context(view, pixels))

    def context(self, view: View | None, pixels: Tensor | None) -> Float[Tensor, "batch context"]:
        """What the flow and the head are conditioned on."""
        return self.encoder(view, pixels)

    def predict(self, context: Float[Tensor, "batch context"]) -> ImagePrediction:
        """What follows from the contexts."""
        betas, camera, six_d = self.head(context)
        base = None
        if six_d is not None:
            with torch.autocast(six_d.device.type, enabled=False):
                base = six_d_to_matrix(six_d)
        return ImagePrediction(self.flow(context), betas, camera, six_d, base)


def _encoder(config: ImageNetworkConfig) -> Encoder:
    if config.encoder == "resnet50":
        return resnet50(width=config.width)
    if config.encoder == "resnet18":
        return resnet18(width=config.width)
    return EfficientNetLite0() if config.encoder == "efficientnet-lite0" else ViewEncoder()
