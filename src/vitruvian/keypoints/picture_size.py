"""How large the picture is that keypoints were seen in, where nobody says; and coordinates that are shares of it."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitruvian.keypoints.observations import Keypoints

MAX_SIDE_PX = 65_536
"""No picture is larger; points beyond belong to none."""
_MARGIN = 1.05
_LEAST_SIDE_PX = 64
_REACH = 8.0
"""Points further from a person's middle than this many times the typical distance are none of theirs."""
_LEAST_POINTS = 3
_LARGEST_SHARE = 2.0
"""Coordinates of points outside the picture may lie beyond 1; a person within two pixels is none."""
_MOST = 0.9

Coordinates = Literal["pixels", "0..1", "-1..1"]


@dataclass(frozen=True)
class GuessedSize:
    """A guess of a picture's size in pixels, and what to tell the user about it."""

    width: int
    height: int
    note: str


def guess_image_size(keypoints: Keypoints) -> GuessedSize:
    """The smallest picture, with a margin, that holds the people.

    A point that lies far from the rest of its person, or where no picture reaches, does not count, so that one wrong
    point changes nothing for the others. Keypoints `(person, K)` or of one person; of nobody, the least size.
    """
    rows = keypoints if keypoints.batch_shape else keypoints[None]
    positions = rows.positions.detach().to(torch.float64).cpu()
    kept = _own_points(positions, rows.seen.cpu(), _body_rows(rows))
    extent = torch.where(kept[..., None], positions, 0.0).reshape(-1, 2)
    largest = extent.amax(0).clamp_min(0) if len(extent) else torch.zeros(2)
    width, height = (max(_LEAST_SIDE_PX, math.ceil(float(side) * _MARGIN)) for side in largest)
    note = (
        f"The size of the picture was not given; {width} × {height} pixels was guessed from the keypoints. "
        "With the true size, depth and perspective are true too."
    )
    return GuessedSize(width, height, note)


def _own_points(
    positions: Float[Tensor, "person keypoint 2"],
    seen: Bool[Tensor, "person keypoint"],
    body: Bool[Tensor, "keypoint"],
) -> Bool[Tensor, "person keypoint"]:
    """Seen points near the middle of their person: the median of the body's points, or of all where it has few."""
    seen = seen & positions.isfinite().all(-1) & (positions.abs() <= MAX_SIDE_PX).all(-1)
    main = seen & body
    main = torch.where((main.sum(-1) >= 4)[:, None], main, seen)
    nan = torch.full_like(positions, torch.nan)
    middle = torch.where(main[..., None], positions, nan).nanmedian(-2, keepdim=True).values
    distance = (positions - middle).norm(dim=-1)
    typical = torch.where(main, distance, nan[..., 0]).nanmedian(-1, keepdim=True).values.clamp_min(1.0)
    return seen & (distance <= _REACH * typical)


def _body_rows(keypoints: Keypoints) -> Bool[Tensor, "keypoint"]:
    rows = torch.zeros(len(keypoints.definition), dtype=torch.bool)
    rows[list(keypoints.definition.groups["body"])] = True
    return rows


def coordinates_of(keypoints: Keypoints) -> Coordinates:
    """What the coordinates are: pixels, or shares of the picture from 0 to 1 or from −1 to 1.

    All people of a picture are judged together. Few points are taken for pixels. Shares from −1 to 1 of people who are
    all in the right lower quarter look like shares from 0 to 1.
    """
    points = keypoints.positions[keypoints.seen & keypoints.positions.isfinite().all(-1)]
    if len(points) < _LEAST_POINTS:
        return "pixels"
    small = (points.abs() <= _LARGEST_SHARE).all(-1)
    if float(small.double().mean()) < _MOST:
        return "pixels"
    negative = (points[small] < -0.1).any(-1)
    return "-1..1" if float(negative.double().mean()) > 1 - _MOST else "0..1"


def scaled(keypoints: Keypoints, coordinates: Coordinates, *, width: float, height: float) -> Keypoints:
    """Keypoints in pixels, from shares of a picture of this size."""
    if coordinates == "pixels":
        return keypoints
    positions = keypoints.positions if coordinates == "0..1" else (keypoints.positions + 1) / 2
    size = positions.new_tensor([width, height])
    return replace(keypoints, positions=torch.where(keypoints.seen[..., None], positions * size, 0.0))
