"""Turned squares of a picture: cutting them out for a network, and bringing what it finds back to the picture."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float
from PIL import Image


@dataclass(frozen=True)
class Region:
    """A square with its centre and side in pixels, turned clockwise by `angle` radians (in the picture, y down)."""

    x: float
    y: float
    side: float
    angle: float = 0.0

    def to_picture(self, points: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point 2"]:
        """Pixels of points whose coordinates run from 0 to 1 along the sides of the square."""
        return (np.asarray(points) - 0.5) * self.side @ self._turn.T + (self.x, self.y)

    def from_picture(self, pixels: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point 2"]:
        """Inverse of `to_picture`."""
        return (np.asarray(pixels) - (self.x, self.y)) @ self._turn / self.side + 0.5

    def turned_to_picture(self, vectors: Float[np.ndarray, "vector 3"]) -> Float[np.ndarray, "vector 3"]:
        """Vectors along the sides of the square and away from the camera, along the axes of the picture instead."""
        return np.column_stack((vectors[:, :2] @ self._turn.T, vectors[:, 2]))

    def grown(self, factor: float, *, shift_down: float = 0.0) -> "Region":
        """The square with its side times `factor`, after moving by `shift_down` of its old side along its own y."""
        dx, dy = self._turn @ np.array([0.0, shift_down * self.side])
        return replace(self, x=self.x + dx, y=self.y + dy, side=self.side * factor)

    @property
    def _turn(self) -> Float[np.ndarray, "2 2"]:
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return np.array([[cos, -sin], [sin, cos]])


def region_of_axis(base: Float[np.ndarray, "2"], tip: Float[np.ndarray, "2"], side: float) -> Region:
    """A square around `base`, turned so that `tip` lies straight above it."""
    dx, dy = float(tip[0] - base[0]), float(tip[1] - base[1])
    return Region(float(base[0]), float(base[1]), side, math.atan2(dx, -dy))


def region_of_box(points: Float[np.ndarray, "point 2"], angle: float) -> Region:
    """The smallest square, turned by `angle`, around points."""
    level = Region(0.0, 0.0, 1.0, angle)
    turned = level.from_picture(points)
    low, high = turned.min(0), turned.max(0)
    x, y = level.to_picture(((low + high) / 2)[None])[0]
    return Region(float(x), float(y), float((high - low).max()), angle)


class Pyramid:
    """A picture at halved sizes, from which regions are cut without aliasing."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.width, self.height = pixels.shape[1], pixels.shape[0]
        self._levels = [Image.fromarray(pixels)]

    def _level(self, number: int) -> Image.Image:
        while len(self._levels) <= number:
            self._levels.append(self._levels[-1].reduce(2))
        return self._levels[number]

    @cached_property
    def _num_levels(self) -> int:
        return max(1, int(math.log2(max(1, min(self.width, self.height)))))

    def cut(self, region: Region, size: int) -> Float[np.ndarray, "size size 3"]:
        """The region resampled to `size` × `size`, values 0 to 1; black outside the picture."""
        shrink = region.side / size
        number = min(max(0, math.floor(math.log2(max(shrink, 1.0)))), self._num_levels - 1)
        level = self._level(number)
        factor_x, factor_y = level.width / -(-self.width // 2**number), level.height / -(-self.height // 2**number)
        to_level = np.array([factor_x, factor_y]) / 2**number
        cos, sin = math.cos(region.angle) * shrink, math.sin(region.angle) * shrink
        corner = region.to_picture(np.zeros((1, 2)))[0]
        a, b, c = np.array([cos, -sin, corner[0]]) * to_level[0]
        d, e, f = np.array([sin, cos, corner[1]]) * to_level[1]
        cut = level.transform((size, size), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR)
        return np.asarray(cut, dtype=np.float32) / 255
