"""Rotations as matrices, and their conversions at file and network borders.

Matrices are `(..., 3, 3)`; axis-angle vectors are radians; quaternions are `(x, y, z, w)`; the 6D form of Zhou et al.
2019 is the first two columns of the matrix, stored row by row: `R[..., :, :2].flatten(-2)`.
"""

from functools import lru_cache

import roma
import torch
from jaxtyping import Float
from torch import Tensor

HALF_TURN_COSINE = -0.9994


def axis_angle_to_matrix(axis_angle: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrix of an axis-angle vector; exact value and gradient at zero."""
    return exp_so3(axis_angle)


def matrix_to_axis_angle(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Axis-angle vector, of length at most π, of a rotation matrix."""
    return log_so3(matrix)


def quaternion_to_matrix(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrix of an `(x, y, z, w)` quaternion, which need not have length one."""
    return roma.unitquat_to_rotmat(roma.quat_normalize(quaternion))


def matrix_to_quaternion(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternion `(x, y, z, w)` of a rotation matrix."""
    return roma.rotmat_to_unitquat(matrix)


def matrix_to_six_d(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 6"]:
    """First two columns of a rotation matrix, row by row."""
    return matrix[..., :2].flatten(-2)


def six_d_to_matrix(six_d: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrix by Gram-Schmidt on the two columns of the 6D form (Zhou et al. 2019)."""
    columns = six_d.unflatten(-1, (3, 2))
    eps = torch.finfo(six_d.dtype).tiny ** 0.5
    a, b = columns[..., 0], columns[..., 1]
    x = a / a.norm(dim=-1, keepdim=True).clamp_min(eps)
    y = b - (x * b).sum(-1, keepdim=True) * x
    y = y / y.norm(dim=-1, keepdim=True).clamp_min(eps)
    z = torch.linalg.cross(x, y, dim=-1)
    return torch.stack((x, y, z), dim=-1)


def orthonormalized(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """One Newton step of the polar decomposition: takes away the rounding that products of rotations gather."""
    return 1.5 * matrix - 0.5 * matrix @ (matrix.transpose(-1, -2) @ matrix)


def rotation_to_direction(direction: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The smallest rotation that takes the z axis to a direction, of any length, with z > 0: the turn of a camera."""
    x, y, z = torch.nn.functional.normalize(direction, dim=-1).unbind(-1)
    k = 1 / (1 + z)
    rows = (1 - k * x * x, -k * x * y, x, -k * x * y, 1 - k * y * y, y, -x, -y, z)
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def skew(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Cross-product matrix: `skew(a) @ b = a × b`."""
    return (vector @ _generators(vector.dtype, vector.device)).unflatten(-1, (3, 3))


def exp_so3(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Exponential map of so(3) (Rodrigues): cos θ I + sin θ/θ [v]ₓ + (1 − cos θ)/θ² v vᵀ; series near zero."""
    theta2, sinc, cosc = _rodrigues_coefficients(vector)
    outer = (cosc[..., None] * vector)[..., None] * vector[..., None, :]
    matrix = outer + skew(sinc[..., None] * vector)
    identity = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return matrix + (1 - cosc * theta2)[..., None, None] * identity


def log_so3(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Logarithm of a rotation matrix: the axis-angle vector, of length at most π.

    Away from half turns v = θ/sin θ · vee(R − Rᵀ)/2 with θ = atan2(|vee|, (tr R − 1)/2), exact at zero by series. Items
    within about 2° of a half turn, where sin θ vanishes, go through quaternions. The arc tangent is taken of a quotient
    at most one, and not by `torch.atan2`, which gives the last few items of a batch other bits than the rest.
    """
    antisymmetric = matrix - matrix.transpose(-1, -2)
    vee = 0.5 * torch.stack((antisymmetric[..., 2, 1], antisymmetric[..., 0, 2], antisymmetric[..., 1, 0]), dim=-1)
    cos = 0.5 * (matrix.diagonal(dim1=-2, dim2=-1).sum(-1) - 1)
    sin2 = (vee * vee).sum(-1)
    small = (sin2 < torch.finfo(matrix.dtype).eps ** 0.5) & (cos > 0)
    sin = torch.where(small | (sin2 == 0), torch.ones_like(sin2), sin2).sqrt()
    half = torch.atan(sin / (torch.where(cos < 0, -cos, cos) + (sin * sin + cos * cos).sqrt()))
    angle = torch.where(cos < 0, torch.pi - 2 * half, 2 * half)
    factor = torch.where(small, 1 + sin2 / 6 + 3 * sin2 * sin2 / 40, angle / sin)
    vector = factor[..., None] * vee
    half_turn = cos < HALF_TURN_COSINE
    if bool(half_turn.any()):
        about_x = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=matrix.dtype, device=matrix.device))
        safe = torch.where(half_turn[..., None, None], matrix, about_x)
        vector = torch.where(half_turn[..., None], _log_near_half_turn(safe), vector)
    return vector


def _log_near_half_turn(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Rotation vector by the quaternion (u, w) with w ≥ 0: u/|u| times π − 2 atan(w/|u|)."""
    quaternion = roma.rotmat_to_unitquat(matrix)
    u, w = quaternion[..., :3], quaternion[..., 3:]
    u, w = torch.where(w < 0, -u, u), torch.where(w < 0, -w, w)
    length = u.norm(dim=-1, keepdim=True)
    return (torch.pi - 2 * torch.atan(w / length)) / length * u


def right_jacobian(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Right Jacobian of SO(3): exp(v + d) ≈ exp(v) exp(J_r(v) d)."""
    theta2, sinc, cosc = _rodrigues_coefficients(vector)
    small = theta2 < torch.finfo(vector.dtype).eps ** 0.25
    cubic = (1 - sinc) / torch.where(small, torch.ones_like(theta2), theta2)
    cubic = torch.where(small, 1 / 6 - theta2 / 120 * (1 - theta2 / 42), cubic)
    K = skew(vector)
    identity = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return identity - cosc[..., None, None] * K + cubic[..., None, None] * (K @ K)


def right_jacobian_inverse(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Inverse of the right Jacobian: log(exp(v) exp(d)) ≈ v + J_r(v)⁻¹ d, for angles below 2π."""
    theta2 = (vector * vector).sum(-1)
    small = theta2 < torch.finfo(vector.dtype).eps ** 0.25
    safe = torch.where(small, torch.ones_like(theta2), theta2)
    theta = safe.sqrt()
    half = 0.5 * theta
    exact = (1 - half * torch.cos(half) / torch.sin(half)) / safe
    coefficient = torch.where(small, 1 / 12 + theta2 / 720 + theta2 * theta2 / 30240, exact)
    K = skew(vector)
    identity = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return identity + 0.5 * K + coefficient[..., None, None] * (K @ K)


def geodesic_angle(a: Float[Tensor, "*#batch 3 3"], b: Float[Tensor, "*#batch 3 3"]) -> Float[Tensor, "*#batch"]:
    """Angle in radians of the rotation between `a` and `b`; accurate at 0 and at π."""
    return matrix_to_axis_angle(a.transpose(-1, -2) @ b).norm(dim=-1)


@lru_cache(maxsize=16)
def _generators(dtype: torch.dtype, device: torch.device) -> Float[Tensor, "3 9"]:
    """The three generators of so(3), flattened row by row."""
    with torch.inference_mode(False):
        generators = torch.zeros(3, 3, 3, dtype=dtype, device=device)
        for axis, (i, j) in enumerate(((2, 1), (0, 2), (1, 0))):
            generators[axis, i, j], generators[axis, j, i] = 1.0, -1.0
        return generators.flatten(1)


def _rodrigues_coefficients(vector: Float[Tensor, "*batch 3"]) -> tuple[Tensor, Tensor, Tensor]:
    """θ², sin θ/θ and (1 − cos θ)/θ², with series where θ is small."""
    theta2 = (vector * vector).sum(-1)
    small = theta2 < torch.finfo(vector.dtype).eps ** 0.25
    safe = torch.where(small, torch.ones_like(theta2), theta2)
    theta = safe.sqrt()
    half = torch.sin(0.5 * theta)
    sinc = torch.where(small, 1 - theta2 / 6 * (1 - theta2 / 20 * (1 - theta2 / 42)), torch.sin(theta) / theta)
    cosc = torch.where(small, 0.5 - theta2 / 24 * (1 - theta2 / 30 * (1 - theta2 / 56)), 2 * half * half / safe)
    return theta2, sinc, cosc


def rotation_onto(direction: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The smallest rotation that takes the z axis to a direction with z > 0."""
    x, y, z = torch.nn.functional.normalize(direction, dim=-1).unbind(-1)
    k = 1 / (1 + z)
    rows = (1 - k * x * x, -k * x * y, x, -k * x * y, 1 - k * y * y, y, -x, -y, z)
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))
