"""Body rotations as vectors about the camera's axes, away from a base pose: the coordinates of the flow.

A bone's rotation in the camera frame is G_j = exp([v_j]ₓ) Ḡ_j, where Ḡ_j is its rotation in the base pose; the chart
coordinates are w_j = v_j − v_parent, a linear map of determinant one. A picture tells turns about the optical axis
well and turns out of the image plane badly, bone by bone, and what a limb turns on top of its parent is nearly
independent of it: the posterior is near to a product, which a flow learns far more easily than one over 6D numbers.
"""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.skeletons import BODY_JOINTS, BODY_PARENTS, Skeleton
from vitruvian.geometry.rotations import exp_so3, log_so3, right_jacobian

BODY = Skeleton(BODY_JOINTS, BODY_PARENTS, ())
"""The 22 body joints that all families of whole bodies share."""
NUM_BODY = len(BODY)
CHART_SIZE = 3 * NUM_BODY


@lru_cache(maxsize=16)
def _chain_sums(device: torch.device, dtype: torch.dtype) -> Float[Tensor, "22 22"]:
    """Row j has ones at j and the joints above it."""
    matrix = torch.zeros(NUM_BODY, NUM_BODY, dtype=dtype)
    for joint, chain in enumerate(BODY.chains):
        matrix[joint, list(chain)] = 1
    return matrix.to(device)


def turns_of_chart(w: Float[Tensor, "*batch 66"]) -> Float[Tensor, "*batch 22 3"]:
    """The turns v_j of all bones: sums of the coordinates along the chains."""
    return _chain_sums(w.device, w.dtype) @ w.unflatten(-1, (NUM_BODY, 3))


@lru_cache(maxsize=8)
def _parent_rows(device: torch.device) -> Tensor:
    return torch.tensor(BODY_PARENTS[1:], device=device)


@lru_cache(maxsize=8)
def _levels(device: torch.device) -> tuple[tuple[tuple[Tensor, Tensor], ...], Tensor]:
    """Per level its joints and their parents' rows in the level above, and the order that undoes the sorting."""
    levels = []
    for above, level in zip(BODY.levels, BODY.levels[1:], strict=False):
        rows = {joint: row for row, joint in enumerate(above)}
        parents = torch.tensor([rows[BODY_PARENTS[j]] for j in level], device=device)
        levels.append((torch.tensor(level, device=device), parents))
    order = torch.tensor([j for level in BODY.levels for j in level], device=device).argsort()
    return tuple(levels), order


def world_rotations(rotations: Float[Tensor, "*batch 22 3 3"]) -> Float[Tensor, "*batch 22 3 3"]:
    """Rotation of every bone in the frame of the root's parent, the camera."""
    levels, order = _levels(rotations.device)
    G = rotations[..., :1, :, :]
    collected = [G]
    for joints, parents in levels:
        G = G[..., parents, :, :] @ rotations[..., joints, :, :]
        collected.append(G)
    return torch.cat(collected, dim=-3)[..., order, :, :]


def local_rotations(G: Float[Tensor, "*batch 22 3 3"]) -> Float[Tensor, "*batch 22 3 3"]:
    """Rotation of every bone in the frame of its parent bone; the inverse of `world_rotations`."""
    above = G[..., _parent_rows(G.device), :, :]
    return torch.cat((G[..., :1, :, :], above.transpose(-1, -2) @ G[..., 1:, :, :]), dim=-3)


def rotations_from_chart(
    w: Float[Tensor, "*batch 66"], base_world: Float[Tensor, "*#batch 22 3 3"]
) -> Float[Tensor, "*batch 22 3 3"]:
    """Local rotations of chart coordinates, for a base pose given by its world rotations."""
    return local_rotations(exp_so3(turns_of_chart(w)) @ base_world)


def chart_from_rotations(
    rotations: Float[Tensor, "*batch 22 3 3"], base_world: Float[Tensor, "*#batch 22 3 3"]
) -> Float[Tensor, "*batch 66"]:
    """Chart coordinates of local rotations; the inverse of `rotations_from_chart` for turns below 180°.

    Several vectors make one rotation, apart by whole turns about its axis. The shortest is given; the others are left
    out, also where a density over the coordinates is asked for that of a rotation.
    """
    v = log_so3(world_rotations(rotations) @ base_world.transpose(-1, -2))
    above = v[..., _parent_rows(v.device), :]
    return torch.cat((v[..., :1, :], v[..., 1:, :] - above), dim=-2).flatten(-2)


def chart_differential(
    w: Float[Tensor, "*batch 66"],
    base_world: Float[Tensor, "*batch 22 3 3"],
    rotations: Float[Tensor, "*batch 22 3 3"],
    tangents: Float[Tensor, "*batch 66 D"],
) -> Float[Tensor, "*batch 66 D"]:
    """Right perturbations of the local rotations for given derivatives of w.

    The bone turns by ω_j = Ḡ_jᵀ J_r(v_j) ∂v_j on its right, the local rotation by δ_j = ω_j − R_jᵀ ω_parent.
    """
    directions = tangents.shape[-1]
    dv = _chain_sums(w.device, w.dtype) @ tangents.unflatten(-2, (NUM_BODY, 3)).flatten(-2)
    J = base_world.transpose(-1, -2) @ right_jacobian(turns_of_chart(w))
    omega = J @ dv.unflatten(-1, (3, directions))
    above = omega[..., _parent_rows(w.device), :, :]
    delta = omega[..., 1:, :, :] - rotations[..., 1:, :, :].transpose(-1, -2) @ above
    return torch.cat((omega[..., :1, :, :], delta), dim=-3).flatten(-3, -2)
