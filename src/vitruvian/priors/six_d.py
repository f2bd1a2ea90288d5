"""Differential of the Gram-Schmidt step that turns six numbers into a rotation."""

import torch
from jaxtyping import Float
from torch import Tensor


def six_d_differential(six_d: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 6"]:
    """Right perturbation of `six_d_to_matrix(d)` per unit of each of the six numbers.

    With columns a, b of d and R = [x y z], x = a/|a|, c = b − (x·b) x, y = c/|c|, z = x × y, the body-frame rate ω of
    R' = R [ω]ₓ is ω_z = y·a'/|a|, ω_y = −z·a'/|a|, ω_x = (z·b' − (x·b) z·a'/|a|)/|c|.
    """
    columns = six_d.unflatten(-1, (3, 2))
    a, b = columns.unbind(-1)
    eps = torch.finfo(six_d.dtype).tiny ** 0.5
    length_a = a.norm(dim=-1, keepdim=True).clamp_min(eps)
    x = a / length_a
    along = (x * b).sum(-1, keepdim=True)
    c = b - along * x
    length_c = c.norm(dim=-1, keepdim=True).clamp_min(eps)
    y = c / length_c
    z = torch.linalg.cross(x, y, dim=-1)
    zero = torch.zeros_like(x)
    by_a = torch.stack((-along / (length_a * length_c) * z, -z / length_a, y / length_a), dim=-2)
    by_b = torch.stack((z / length_c, zero, zero), dim=-2)
    return torch.stack((by_a, by_b), dim=-1).flatten(-2)
