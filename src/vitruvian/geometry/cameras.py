"""Pinhole cameras without distortion: the record, its projection, and what crops, resizes and flips do to it.

Camera frame as OpenCV: x right, y down, z forward, metres. Pixels: origin at the top left corner of the image, pixel
centres at integers + 0.5, so an image of `width` pixels spans 0 … width.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.errors import InputError
from vitruvian.tensors import BatchRecord

MIN_DEPTH_M = 1e-3
MAX_PIXELS = 1e9
"""Larger sizes and focal lengths are none, and lose their last digits in float32."""
FILM_35MM_DIAGONAL_MM = math.hypot(36.0, 24.0)


@dataclass(frozen=True, eq=False)
class Camera(BatchRecord):
    """Intrinsics of a batch of pinhole cameras, in pixels; every field is `(*batch, 2)` in the order x, y.

    Attributes:
        focal_px: focal lengths.
        center_px: principal point.
        image_size: width and height of the image, as floating-point numbers.
    """

    focal_px: Float[Tensor, "*batch 2"]
    center_px: Float[Tensor, "*batch 2"]
    image_size: Float[Tensor, "*batch 2"]

    @classmethod
    def from_image_size(
        cls,
        width: float,
        height: float,
        *,
        focal_px: float | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Self:
        """One camera that looks through the middle of the image.

        Without `focal_px` the focal length is the image diagonal (a field of view of 53° across it). Raises InputError
        for a size or a focal length that is not positive and finite.
        """
        width, height = _pixels(width, "width of an image"), _pixels(height, "height of an image")
        focal = math.hypot(width, height) if focal_px is None else _pixels(focal_px, "focal length")
        size = torch.tensor([width, height], dtype=dtype, device=device)
        return cls(torch.full_like(size, focal), size / 2, size)

    def validated(self) -> Self:
        """The camera itself, if it can take pictures; for cameras that users make, before they are used.

        Raises:
            InputError: fields of different shapes, or values that are not finite; a focal length or an image size that
                is not positive.
        """
        fields = {"focal_px": self.focal_px, "center_px": self.center_px, "image_size": self.image_size}
        shapes = {name: tuple(value.shape) for name, value in fields.items()}
        if len(set(shapes.values())) > 1 or self.focal_px.shape[-1:] != (2,):
            raise InputError("the fields of the camera do not match", seen=shapes, expected="(*batch, 2) each")
        for name, value in fields.items():
            good = (value.abs() <= MAX_PIXELS) & ((value > 0) | (name == "center_px"))
            if not good.all():
                expected = "finite numbers" if name == "center_px" else "positive numbers of pixels"
                raise InputError(f"the camera has no usable {name}", seen=value[~good][:4].tolist(), expected=expected)
        return self

    def project(self, points: Float[Tensor, "*#batch point 3"]) -> Float[Tensor, "*#batch point 2"]:
        """Pixels of points in the camera frame.

        A point nearer than 1 mm, or behind the camera, has no image; its depth is taken as 1 mm, which sends it far
        outside the picture and keeps the result finite.
        """
        depth = points[..., 2:].clamp_min(MIN_DEPTH_M)
        return self.focal_px[..., None, :] * points[..., :2] / depth + self.center_px[..., None, :]

    def projection_jacobian(self, points: Float[Tensor, "*#batch point 3"]) -> Float[Tensor, "*#batch point 2 3"]:
        """Derivative ∂pixel/∂point of `project`: [f_x/z, 0, −f_x·x/z²; 0, f_y/z, −f_y·y/z²]."""
        depth = points[..., 2:].clamp_min(MIN_DEPTH_M)
        scale = self.focal_px[..., None, :] / depth
        by_depth = torch.where(
            points[..., 2:] >= MIN_DEPTH_M, -scale * points[..., :2] / depth, torch.zeros_like(scale)
        )
        return torch.cat((torch.diag_embed(scale), by_depth[..., None]), dim=-1)

    def unproject(
        self, pixels: Float[Tensor, "*batch point 2"], depth: Float[Tensor, "*batch point"]
    ) -> Float[Tensor, "*batch point 3"]:
        """Points of the camera frame seen at `pixels`, at `depth` metres along the optical axis."""
        xy = (pixels - self.center_px[..., None, :]) / self.focal_px[..., None, :]
        return torch.cat((xy * depth[..., None], depth[..., None]), dim=-1)

    @property
    def matrix(self) -> Float[Tensor, "*batch 3 3"]:
        """Calibration matrix K, as OpenCV writes it."""
        K = torch.diag_embed(torch.cat((self.focal_px, torch.ones_like(self.focal_px[..., :1])), dim=-1))
        K[..., :2, 2] = self.center_px
        return K

    def crop(self, *, left: float, top: float, width: float, height: float) -> Self:
        """The camera of the window that starts at pixel (`left`, `top`); the window may reach outside the image."""
        corner = self.center_px.new_tensor([left, top])
        width, height = _pixels(width, "width of a window"), _pixels(height, "height of a window")
        size = self.image_size.new_tensor([width, height]).expand_as(self.image_size)
        return replace(self, center_px=self.center_px - corner, image_size=size)

    def resize(self, *, width: float, height: float) -> Self:
        """The camera of the same picture resampled to another size."""
        width, height = _pixels(width, "width of an image"), _pixels(height, "height of an image")
        size = self.image_size.new_tensor([width, height]).expand_as(self.image_size)
        scale = size / self.image_size
        return replace(self, focal_px=self.focal_px * scale, center_px=self.center_px * scale, image_size=size)

    def flip(self) -> Self:
        """The camera of the picture mirrored left to right."""
        x = self.image_size[..., 0] - self.center_px[..., 0]
        return replace(self, center_px=torch.stack((x, self.center_px[..., 1]), dim=-1))


def _pixels(value: float, what: str) -> float:
    """A positive, finite number of pixels."""
    try:
        number = math.nan if isinstance(value, (str, bytes, bool)) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 < number <= MAX_PIXELS:
        raise InputError(f"not a {what}", seen=repr(value), expected="a positive number of pixels")
    return number


def focal_px_from_35mm(focal_35mm: float, *, width: float, height: float) -> float:
    """Focal length in pixels from the "35 mm equivalent" one, which compares image diagonals (CIPA DCG-001)."""
    return focal_35mm / FILM_35MM_DIAGONAL_MM * math.hypot(width, height)
