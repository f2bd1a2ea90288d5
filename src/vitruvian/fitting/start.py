"""Where a fit starts: orientation, distance and place of the person in front of the camera."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.rotations import exp_so3
from vitruvian.tensors import TensorRecord, row_product

MIN_DEPTH_M = 0.2
MAX_DEPTH_M = 200.0

# How much the points of each part of the body say about where "up" is in the picture.
TRUNK_WEIGHT, HEAD_WEIGHT, LIMB_WEIGHT = 1.0, 0.5, 0.1
UPRIGHT_PRIOR = 0.15
TILT_COST = 0.1
"""Misfit that a turn in the picture plane by 90 degrees is worth."""
SHORTLIST = 64
BLOCKED_COST = 10.0


def camera_from_body(*, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "3 3"]:
    """Rotation that stands a body (y up, facing +z) upright in front of a level camera (y down), facing it."""
    return torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=dtype, device=device))


def turned_orientations(
    turns: tuple[float, ...], *, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "turn 3 3"]:
    """Global orientations for turns about the body's vertical, in radians; 0 faces the camera."""
    vectors = torch.tensor([(0.0, turn, 0.0) for turn in turns], dtype=dtype, device=device)
    return camera_from_body(dtype=dtype, device=device) @ exp_so3(vectors)


def place_in_view(
    points: Float[Tensor, "batch point 3"],
    positions: Float[Tensor, "batch point 2"],
    weights: Float[Tensor, "batch point"],
    camera: Camera,
    *,
    level: float = 1.0,
) -> tuple[Float[Tensor, "batch 3 3"], Float[Tensor, "batch 3"]]:
    """Turn in the picture plane and translation that lay oriented body points on their keypoints.

    The best similarity x ≈ a R X + b of the plane gives the turn R, the distance 1 / a and the place b. A prior for no
    turn decides where the weighted points say little.

    For poses that are only like the person's: all points count as equally far away, so that a wrong limb moves the
    person little. Where the pose and its turn are known, `recovery.estimates.solve_translation` is exact.

    Args:
        points: body points in the camera's orientation, about the root.
        positions: keypoints in pixels.
        weights: weight of each point, zero where unseen.
        level: strength of the prior for no turn; 0 treats all turns of the picture alike.

    Returns:
        Rotation to apply from the left, about the optical axis, and the translation of the root.
    """
    eps = torch.finfo(points.dtype).tiny ** 0.5
    x = (positions - camera.center_px[:, None]) / camera.focal_px[:, None]
    w = (weights / weights.sum(-1, keepdim=True).clamp_min(eps))[..., None]
    mean_X, mean_x = (w * points).sum(1), (w * x).sum(1)
    dX, dx = points[..., :2] - mean_X[:, None, :2], x - mean_x[:, None]
    spread_X = (w * dX * dX).sum((1, 2)).clamp_min(eps).sqrt()
    spread_x = (w * dx * dx).sum((1, 2)).sqrt()
    scale = (spread_X * spread_x).clamp_min(eps)
    along = (w * dX * dx).sum((1, 2)) / scale
    across = (w[..., 0] * (dX[..., 0] * dx[..., 1] - dX[..., 1] * dx[..., 0])).sum(1) / scale
    R = _about_the_axis(*_direction(along + level * UPRIGHT_PRIOR, across))
    depth = (spread_X / spread_x.clamp_min(1e-4)).clamp(MIN_DEPTH_M, MAX_DEPTH_M)
    one = torch.ones_like(mean_x[:, :1])
    return R, torch.cat((mean_x, one), dim=-1) * depth[:, None] - (R @ mean_X[..., None])[..., 0]


def _direction(along: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angle of the vectors (along, across); no turn where they are zero."""
    length = (along * along + across * across).sqrt()
    known = length > 0
    length = torch.where(known, length, 1.0)
    return torch.where(known, along / length, 1.0), across / length


def _about_the_axis(cos: Float[Tensor, "*batch"], sin: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotations about the optical axis."""
    zero = torch.zeros_like(cos)
    return torch.stack((cos, -sin, zero, sin, cos, zero, zero, zero, zero + 1), dim=-1).unflatten(-1, (3, 3))


def evenly_turned(count: int) -> tuple[float, ...]:
    """`count` turns about the vertical, the first facing the camera."""
    return tuple(2 * math.pi * k / count for k in range(count))


@dataclass(frozen=True, eq=False)
class StartBank(TensorRecord):
    """Poses of a bank, turned about the vertical, as flat pictures: what a fit compares keypoints with.

    `points (M, K, 3)` are those of candidate m about the root, x and y parallel to the picture; candidate m is pose
    `m // turns` turned by `m % turns`.
    """

    rotations: Float[Tensor, "pose joint 3 3"]
    turns: Float[Tensor, "turn 3 3"]
    points: Float[Tensor, "candidate point 3"]

    @staticmethod
    def of_points(
        rotations: Float[Tensor, "pose joint 3 3"],
        points: Float[Tensor, "pose point 3"],
        num_turns: int,
    ) -> "StartBank":
        """From the points of every pose about its root, in a world with y up."""
        turns = turned_orientations(evenly_turned(num_turns), dtype=points.dtype, device=points.device)
        seen = (points[:, None] @ turns.transpose(-1, -2)).flatten(0, 1)
        return StartBank(rotations, turns, seen)

    def nearest(
        self,
        positions: Float[Tensor, "batch point 2"],
        weights: Float[Tensor, "batch point"],
        camera: Camera,
        *,
        count: int,
        apart_m: float,
        level: float = 1.0,
    ) -> Int[Tensor, "batch count"]:
        """The candidates that explain the keypoints best under a similarity of the picture, unlike each other.

        Candidates are taken by their misfit, leaving out those within `apart_m` (mean distance of the points, in the
        camera's orientation) of one already taken, as long as there are others. With `level` 0 no turn of the picture
        counts against a candidate.
        """
        eps = torch.finfo(weights.dtype).tiny ** 0.5
        w = weights / weights.sum(-1, keepdim=True).clamp_min(eps)
        x = (positions - camera.center_px[:, None]) / camera.focal_px[:, None]
        dx = x - (w[..., None] * x).sum(1, keepdim=True)
        X, Y = self.points[..., 0].T, self.points[..., 1].T
        wx, wy = (w[..., None] * dx).unbind(-1)
        along = row_product(wx, X) + row_product(wy, Y)
        across = row_product(wy, X) - row_product(wx, Y)
        variance = row_product(w, X * X + Y * Y) - row_product(w, X).square() - row_product(w, Y).square()
        spread = (w[..., None] * dx * dx).sum((1, 2))[:, None]
        scale = variance.clamp_min(eps).sqrt() * spread.clamp_min(eps).sqrt()
        along, across = along / scale, across / scale
        cos, sin = _direction(along + level * UPRIGHT_PRIOR, across)
        correlation = (along * cos + across * sin).clamp(0, 1)
        misfit = 1 - correlation * correlation + level * TILT_COST * (1 - cos)
        shortlist = misfit.topk(min(SHORTLIST, misfit.shape[1]), dim=1, largest=False)
        return shortlist.indices.gather(1, self._spread(shortlist.indices, shortlist.values, w, count, apart_m))

    def _spread(self, indices: Tensor, misfit: Tensor, w: Tensor, count: int, apart_m: float) -> Tensor:
        candidates = self.points[indices]
        chosen = [misfit.argmin(1)]
        blocked = torch.zeros_like(misfit, dtype=torch.bool)
        for _ in range(count - 1):
            last = candidates.gather(1, chosen[-1][:, None, None, None].expand(-1, 1, *candidates.shape[2:]))
            distance = ((candidates - last).norm(dim=-1) * w[:, None]).sum(-1)
            blocked = blocked | (distance < apart_m)
            blocked.scatter_(1, chosen[-1][:, None], True)
            chosen.append((misfit + blocked * BLOCKED_COST).argmin(1))
        return torch.stack(chosen, dim=1)

    def start(self, candidates: Int[Tensor, "start"]) -> Float[Tensor, "start joint 3 3"]:
        """Rotations of candidates, the root turned and in the camera's orientation."""
        rotations = self.rotations[candidates // len(self.turns)].clone()
        rotations[:, 0] = self.turns[candidates % len(self.turns)] @ rotations[:, 0]
        return rotations
