"""Networks from keypoint features to a context, and from a context to base pose, shape, face and camera."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vitruvian.geometry.rotations import matrix_to_six_d, six_d_to_matrix
from vitruvian.recovery.chart import NUM_BODY
from vitruvian.tensors import BatchRecord

FACE_ANGLES = 3
"""Rotation vector of the jaw."""


class KeypointEncoder(nn.Module):
    """Residual fully connected network from keypoint features to a context.

    Args:
        num_features: length of the input.
        hidden: width.
        num_blocks: residual blocks of two layers.
        num_context: length of the context.
        dropout: probability inside the blocks.
    """

    def __init__(
        self, num_features: int, *, hidden: int, num_blocks: int, num_context: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.enter = nn.Linear(num_features, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(hidden),
                nn.Linear(hidden, hidden),
                nn.SiLU(),
                nn.Dropout(dropout),
                nn.Linear(hidden, hidden),
            )
            for _ in range(num_blocks)
        )
        self.leave = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, num_context), nn.SiLU())

    def forward(self, features: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch context"]:
        # Pixel accuracy is finer than the steps of bfloat16, so the first layer stays exact under autocast.
        with torch.autocast(features.device.type, enabled=False):
            h = F.silu(self.enter(features))
        for block in self.blocks:
            h = h + block(h).to(h.dtype)
        return self.leave(h)


@dataclass(frozen=True, eq=False)
class HeadOutput(BatchRecord):
    """What the heads read from a context; rotations and place in the virtual camera frame."""

    six_d: Float[Tensor, "*batch 22 6"]
    rotations: Float[Tensor, "*batch 22 3 3"]
    betas: Float[Tensor, "*batch shape"]
    expression: Float[Tensor, "*batch expression"]
    jaw: Float[Tensor, "*batch 3"]
    place: Float[Tensor, "*batch 3"]
    """Pelvis: x and y in units of (half size · depth), and log(half size · depth in metres)."""


class PoseHead(nn.Module):
    """Base pose, shape, expression, jaw and place of the person, as offsets from mean values.

    Args:
        num_context: length of the context.
        hidden: width of the one hidden layer.
        num_shape, num_expression: numbers of coefficients.
    """

    mean_six_d: Tensor
    shape_std: Tensor

    def __init__(self, num_context: int, *, hidden: int, num_shape: int, num_expression: int) -> None:
        super().__init__()
        self.sizes = (NUM_BODY * 6, num_shape, num_expression, FACE_ANGLES, 3)
        self.body = nn.Sequential(nn.Linear(num_context, hidden), nn.SiLU(), nn.Linear(hidden, sum(self.sizes)))
        last = self.body[-1]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=0.01)
        nn.init.zeros_(last.bias)
        rest = torch.eye(3).repeat(NUM_BODY, 1, 1)
        rest[0] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
        self.register_buffer("mean_six_d", matrix_to_six_d(rest))
        # How far true shapes lie from the estimate, measured after training; samples of people vary by it.
        self.register_buffer("shape_std", torch.ones(num_shape))

    def forward(self, context: Float[Tensor, "*batch context"]) -> HeadOutput:
        out = self.body(context).to(self.mean_six_d.dtype)
        six_d, betas, expression, jaw, place = out.split(self.sizes, dim=-1)
        six_d = self.mean_six_d + six_d.unflatten(-1, (NUM_BODY, 6))
        return HeadOutput(six_d, six_d_to_matrix(six_d), betas, expression, jaw, place)


def pelvis_position(place: Float[Tensor, "*batch 3"], half_size: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 3"]:
    """Position in the virtual camera frame, metres."""
    size_m = place[..., 2].clamp(-5, 5).exp()
    depth = size_m / half_size
    return torch.cat((place[..., :2] * size_m[..., None], depth[..., None]), dim=-1)


def place_of_pelvis(
    position: Float[Tensor, "*batch 3"], half_size: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch 3"]:
    """Inverse of `pelvis_position`."""
    size_m = (position[..., 2] * half_size).clamp_min(1e-3)
    return torch.cat((position[..., :2] / size_m[..., None], size_m.log()[..., None]), dim=-1)
