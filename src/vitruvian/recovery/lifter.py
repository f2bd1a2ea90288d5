"""Lifting 2D skeletons to distributions of 3D skeletons: a small conditional flow per format (ProHMR, 4.4).

No body model takes part: the flow speaks of the positions of the keypoints themselves, relative to the middle of the
hips, in metres, along the axes of the virtual camera (see recovery/views.py).
"""

from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib.resources import as_file, files
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitruvian.assets.weights import build_strictly, config_from, read_weights
from vitruvian.errors import InputError
from vitruvian.flows import FlowConfig, FlowDistribution, Glow
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.formats import get_format
from vitruvian.keypoints.observations import Keypoints
from vitruvian.recovery.heads import KeypointEncoder
from vitruvian.recovery.views import points_view
from vitruvian.tensors import BatchRecord

LIFTED_FORMATS = ("h36m17", "openpose-body25")
_UNIT_M = 0.2
"""Metres that count as one in the coordinates of the flow."""


@dataclass(frozen=True)
class LifterConfig:
    """Sizes of a lifter."""

    format: str
    """Keypoint format, one of `LIFTED_FORMATS`."""
    hidden: int = 384
    num_blocks: int = 2
    num_context: int = 256
    flow: FlowConfig = field(
        default_factory=lambda: FlowConfig(
            num_features=2, context_features=256, num_layers=4, hidden=128, num_blocks=1, scale_hidden=128
        )
    )
    """Its dimension and context follow from the format and `num_context`."""

    def __post_init__(self) -> None:
        if self.format not in LIFTED_FORMATS:
            raise InputError("no lifter for this format", seen=self.format, expected=", ".join(LIFTED_FORMATS))
        features = 3 * (len(get_format(self.format)) - 1)
        flow = replace(self.flow, num_features=features, context_features=self.num_context)
        object.__setattr__(self, "flow", flow)


class Lifter(nn.Module):
    """2D keypoints of one format to the distribution of their 3D positions."""

    def __init__(self, config: LifterConfig) -> None:
        super().__init__()
        self.config = config
        points = len(get_format(config.format))
        self.root = get_format(config.format).index("hip_center")
        self.others = [k for k in range(points) if k != self.root]
        self.encoder = KeypointEncoder(
            4 * points + 1, hidden=config.hidden, num_blocks=config.num_blocks, num_context=config.num_context
        )
        self.flow = Glow(config.flow)

    def forward(
        self,
        points: Float[Tensor, "*batch point 2"],
        confidence: Float[Tensor, "*batch point"],
        half_size: Float[Tensor, "*batch"],
    ) -> FlowDistribution:
        """Distribution of flow coordinates for points in their virtual camera."""
        return self.flow(self.context(points, confidence, half_size))

    def context(
        self,
        points: Float[Tensor, "*batch point 2"],
        confidence: Float[Tensor, "*batch point"],
        half_size: Float[Tensor, "*batch"],
    ) -> Float[Tensor, "*batch context"]:
        """What the encoder makes of the points."""
        seen = (confidence > 0).to(points.dtype)
        parts = (points.flatten(-2), confidence, seen, torch.log(half_size)[..., None] + 1.0)
        return self.encoder(torch.cat(parts, dim=-1))

    def coordinates(self, skeleton: Float[Tensor, "*batch point 3"]) -> Float[Tensor, "*batch D"]:
        """Flow coordinates of a skeleton in the virtual camera."""
        relative = skeleton - skeleton[..., self.root : self.root + 1, :]
        return relative[..., self.others, :].flatten(-2) / _UNIT_M

    def skeleton(self, coordinates: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch point 3"]:
        """Positions about the middle of the hips, metres; the inverse of `coordinates`."""
        others = coordinates.unflatten(-1, (-1, 3)) * _UNIT_M
        root = torch.zeros_like(others[..., :1, :])
        return torch.cat((others[..., : self.root, :], root, others[..., self.root :, :]), dim=-2)


@dataclass(frozen=True, eq=False)
class LiftedSkeletons(BatchRecord):
    """Distribution of the 3D skeletons of a batch of people.

    Positions are metres along the axes of the camera, relative to the middle of the hips, in the order of `format`.
    """

    format: str
    lifter: Lifter
    context: Float[Tensor, "batch context"]
    R_camera_view: Float[Tensor, "batch 3 3"]

    @cached_property
    def distribution(self) -> FlowDistribution:
        """Distribution of the flow coordinates."""
        return self.lifter.flow(self.context)

    def mode(self) -> Float[Tensor, "batch point 3"]:
        """The most likely skeleton."""
        return self._in_camera(self.distribution.mode)

    def sample(
        self, num_samples: int, *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "sample batch point 3"]:
        """Independent skeletons."""
        return self._in_camera(self.distribution.sample(num_samples, generator=generator))

    def log_prob(self, skeleton: Float[Tensor, "*sample batch point 3"]) -> Float[Tensor, "*sample batch"]:
        """Log-likelihood in nats; density over the coordinates of the flow (units of 0.2 m)."""
        return self.distribution.log_prob(self.lifter.coordinates(skeleton @ self.R_camera_view))

    def _in_camera(self, coordinates: Tensor) -> Tensor:
        return self.lifter.skeleton(coordinates) @ self.R_camera_view.transpose(-1, -2)


@torch.no_grad()
def lift(keypoints: Keypoints, camera: Camera, *, lifter: Lifter | None = None) -> LiftedSkeletons:
    """Lift 2D skeletons.

    Args:
        keypoints: `(person, K)` in any format; one that no lifter speaks is converted to OpenPose's BODY_25 by name.
        camera: one per person.
        lifter: in place of the shipped one.
    """
    name = keypoints.definition.name
    wanted = lifter.config.format if lifter is not None else name if name in LIFTED_FORMATS else "openpose-body25"
    lifter = lifter or shipped_lifter(wanted)
    view = points_view(keypoints.evidence().to_format(wanted), camera)
    context = lifter.context(view.points, view.confidence, view.half_size)
    return LiftedSkeletons(wanted, lifter, context, view.R_camera_view)


def read_lifter(path: Path) -> Lifter:
    """The lifter of a file that `vitruvian train lifter` wrote.

    Raises:
        WeightsError: no such file, a file of another kind, or tensors that do not fit the lifter it describes.
    """
    weights = read_weights(path, hint="vitruvian train lifter")
    config = config_from(LifterConfig, weights.described("lifter"), name=weights.name)
    return build_strictly(lambda: Lifter(config), weights)


@cache
def shipped_lifter(format: str) -> Lifter:
    """The lifter of a format that lies inside the package."""
    if format not in LIFTED_FORMATS:
        raise InputError("no lifter for this format", seen=format, expected=", ".join(LIFTED_FORMATS))
    with as_file(files("vitruvian") / "resources" / "flow" / f"lifter-{format}.safetensors") as path:
        return read_lifter(path)
