"""Square windows around people, and the pixels inside them."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from vitruvian.errors import InputError
from vitruvian.tensors import BatchRecord

BOX_MARGIN = 1.2
"""Side of a crop over the larger side of the person's bounding box."""


@dataclass(frozen=True, eq=False)
class Crop(BatchRecord):
    """A square window of a picture, which may be turned and may reach outside.

    Attributes:
        center_px: middle of the window.
        side_px: length of its side.
        angle: of the window against the picture, radians, from the picture's x axis towards its y axis.
    """

    center_px: Float[Tensor, "*batch 2"]
    side_px: Float[Tensor, "*batch"]
    angle: Float[Tensor, "*batch"]

    def matrix(self, size_px: int) -> Float[Tensor, "*batch 2 3"]:
        """Affine map from pixels of the picture to those of the window resampled to `size_px`."""
        cos, sin = self.angle.cos(), self.angle.sin()
        turn = torch.stack((cos, sin, -sin, cos), dim=-1).unflatten(-1, (2, 2))
        linear = turn * (size_px / self.side_px)[..., None, None]
        offset = size_px / 2 - (linear @ self.center_px[..., None])[..., 0]
        return torch.cat((linear, offset[..., None]), dim=-1)

    def inverse_matrix(self, size_px: int) -> Float[Tensor, "*batch 2 3"]:
        """Affine map from pixels of the resampled window to those of the picture."""
        cos, sin = self.angle.cos(), self.angle.sin()
        turn = torch.stack((cos, -sin, sin, cos), dim=-1).unflatten(-1, (2, 2))
        linear = turn * (self.side_px / size_px)[..., None, None]
        offset = self.center_px - linear.sum(-1) * (size_px / 2)
        return torch.cat((linear, offset[..., None]), dim=-1)


def crop_of_box(box: Float[Tensor, "*batch 4"], *, margin: float = BOX_MARGIN) -> Crop:
    """The upright window around a bounding box (left, top, right, bottom), larger by `margin`."""
    side = (box[..., 2:] - box[..., :2]).amax(-1).clamp_min(1.0) * margin
    return Crop((box[..., :2] + box[..., 2:]) / 2, side, torch.zeros_like(side))


def crop_pixels(pixels: UInt8[np.ndarray, "height width 3"], crop: Crop, size_px: int) -> UInt8[Tensor, "3 size size"]:
    """The window resampled: bilinear, after averaging over blocks where the picture is finer; outside is black.

    Blocks of k × k pixels are averaged, k the whole number of picture pixels in one of the window; so no detail of the
    picture is skipped, and pixels of the window lie between the middles of the blocks.

    Args:
        pixels: the picture.
        crop: one window.
        size_px: side of the result.

    Raises:
        InputError: more than one window.
    """
    if crop.side_px.dim():
        raise InputError("one window at a time", seen=tuple(crop.side_px.shape), expected="()")
    block = max(1, math.floor(float(crop.side_px) / size_px))
    height, width = pixels.shape[:2]
    # Only the part of the picture around the window, in whole blocks, is averaged.
    reach = float(crop.side_px) * 0.5 * math.sqrt(2) + 2 * block
    x, y = (float(value) for value in crop.center_px)
    left, top = (max(0, math.floor((at - reach) / block) * block) for at in (x, y))
    right, bottom = max(left, min(width, math.ceil(x + reach))), max(top, min(height, math.ceil(y + reach)))
    if right <= left or bottom <= top:
        return torch.zeros(3, size_px, size_px, dtype=torch.uint8)
    part = torch.from_numpy(np.array(pixels[top:bottom, left:right])).permute(2, 0, 1).float()[None]
    if block > 1:
        part = F.avg_pool2d(part, block, ceil_mode=True, count_include_pad=False)
    matrix = crop.inverse_matrix(size_px).double()
    steps = torch.arange(size_px, dtype=torch.float64) + 0.5
    grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)
    at = grid @ matrix[:, :2].T + matrix[:, 2]
    at = (at - torch.tensor([left, top])) / block
    normalized = 2 * at / torch.tensor([part.shape[-1], part.shape[-2]]) - 1
    sampled = F.grid_sample(part, normalized[None].float(), mode="bilinear", padding_mode="zeros", align_corners=False)
    return sampled[0].round().clamp(0, 255).to(torch.uint8)


def normalized_pixels(
    pixels: UInt8[Tensor, "*batch 3 height width"], *, mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Tensor, "*batch 3 height width"]:
    """Pixels from 0 to 1, less a mean and over a standard deviation of each colour."""
    scale = torch.tensor(std, device=pixels.device)[:, None, None] * 255
    shift = torch.tensor(mean, device=pixels.device)[:, None, None] * 255
    return (pixels.float() - shift) / scale
