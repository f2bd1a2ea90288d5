"""Where a fit starts: orientation, distance and place of the person in front of the camera."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.rotations import exp_so3

MIN_DEPTH_M = 0.2
MAX_DEPTH_M = 200.0

# How much the points of each part of the body say about where "up" is in the picture.
TRUNK_WEIGHT, HEAD_WEIGHT, LIMB_WEIGHT = 1.0, 0.5, 0.1
UPRIGHT_PRIOR = 0.15


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
) -> tuple[Float[Tensor, "batch 3 3"], Float[Tensor, "batch 3"]]:
    """Turn in the picture plane and translation that lay oriented body points on their keypoints.

    The best similarity x ≈ a X + b of the plane, in complex numbers, gives the turn (the angle of a), the distance (its
    modulus) and the place (b). A prior for no turn decides where the weighted points say little.

    Args:
        points: body points in the camera's orientation, about the root.
        positions: keypoints in pixels.
        weights: weight of each point, zero where unseen.

    Returns:
        Rotation to apply from the left, about the optical axis, and the translation of the root.
    """
    eps = torch.finfo(points.dtype).tiny ** 0.5
    rays = (positions - camera.center_px[:, None]) / camera.focal_px[:, None]
    w = weights / weights.sum(-1, keepdim=True).clamp_min(eps)
    X = torch.complex(points[..., 0], points[..., 1])
    x = torch.complex(rays[..., 0], rays[..., 1])
    mean_X, mean_x = (w * X).sum(-1), (w * x).sum(-1)
    dX, dx = X - mean_X[:, None], x - mean_x[:, None]
    spread_X = (w * dX.abs() ** 2).sum(-1).clamp_min(eps).sqrt()
    spread_x = (w * dx.abs() ** 2).sum(-1).sqrt()
    correlation = (w * dX.conj() * dx).sum(-1) / (spread_X * spread_x).clamp_min(eps)
    angle = torch.angle(correlation + UPRIGHT_PRIOR)
    depth = (spread_X / spread_x.clamp_min(1e-4)).clamp(MIN_DEPTH_M, MAX_DEPTH_M)
    turn = torch.polar(torch.ones_like(angle), angle)
    place = mean_x * depth - mean_X * turn
    vector = torch.stack((torch.zeros_like(angle), torch.zeros_like(angle), angle), dim=-1)
    mean_z = (w * points[..., 2]).sum(-1)
    return exp_so3(vector), torch.stack((place.real, place.imag, depth - mean_z), dim=-1)


def evenly_turned(count: int) -> tuple[float, ...]:
    """`count` turns about the vertical, the first facing the camera."""
    return tuple(2 * math.pi * k / count for k in range(count))
