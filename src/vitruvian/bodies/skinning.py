"""Forward kinematics and linear blend skinning as pure functions of tensors."""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.skeletons import Skeleton
from vitruvian.tensors import without_autocast


@lru_cache(maxsize=64)
def _level_indices(
    skeleton: Skeleton, device: torch.device
) -> tuple[tuple[tuple[Tensor, Tensor, Tensor], ...], Tensor]:
    """Per level below the root: its joints, their parents, the parents' rows in the level above; and the order."""
    levels = []
    with torch.inference_mode(False):  # the cached tensors outlive the caller's mode
        for above, level in zip(skeleton.levels, skeleton.levels[1:], strict=False):
            row_above = {joint: row for row, joint in enumerate(above)}
            parents = [skeleton.parents[joint] for joint in level]
            levels.append(
                (
                    torch.tensor(level, device=device),
                    torch.tensor(parents, device=device),
                    torch.tensor([row_above[parent] for parent in parents], device=device),
                )
            )
        order = [joint for level in skeleton.levels for joint in level]
        return tuple(levels), torch.tensor(order, device=device).argsort()


@without_autocast
def forward_kinematics(
    skeleton: Skeleton,
    rotations: Float[Tensor, "*batch joint 3 3"],
    rest_joints: Float[Tensor, "*batch joint 3"],
    transl: Float[Tensor, "*batch 3"] | None = None,
) -> tuple[Float[Tensor, "*batch joint 3 3"], Float[Tensor, "*batch joint 3"]]:
    """World rotations G and positions t of all joints.

    G_j = G_parent R_j and t_j = t_parent + G_parent (J_j − J_parent), level by level; the root turns about its own
    rest position, as in SMPL. `rotations` and `rest_joints` may have different batch shapes that broadcast.
    """
    levels, order = _level_indices(skeleton, rotations.device)
    R, t = rotations[..., :1, :, :], rest_joints[..., :1, :]
    if transl is not None:
        t = t + transl[..., None, :]
    all_R, all_t = [R], [t]
    for joints, parents, rows in levels:
        R_parent = R[..., rows, :, :]
        offset = rest_joints[..., joints, :] - rest_joints[..., parents, :]
        t = t[..., rows, :] + (R_parent @ offset[..., None])[..., 0]
        R = R_parent @ rotations[..., joints, :, :]
        all_R.append(R)
        all_t.append(t)
    batch = torch.broadcast_shapes(R.shape[:-3], t.shape[:-2])
    G = torch.cat(all_R, dim=-3)[..., order, :, :]
    positions = torch.cat([x.expand(*batch, *x.shape[-2:]) for x in all_t], dim=-2)[..., order, :]
    return G.expand(*batch, *G.shape[-3:]), positions


def pose_features(rotations: Float[Tensor, "*batch joint 3 3"]) -> Float[Tensor, "*batch feature"]:
    """R − I of all joints but the root, joint by joint and row by row (SMPL, eq. 6)."""
    identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    return (rotations[..., 1:, :, :] - identity).flatten(-3)


@without_autocast
def blend_skin(
    points: Float[Tensor, "*batch vertex 3"],
    weights: Float[Tensor, "vertex joint"],
    G: Float[Tensor, "*batch joint 3 3"],
    positions: Float[Tensor, "*batch joint 3"],
    rest_joints: Float[Tensor, "*batch joint 3"],
) -> Float[Tensor, "*batch vertex 3"]:
    """Linear blend skinning: v = Σ_j w_vj (G_j (v − J_j) + t_j).

    The work is one matrix product per block of people plus element-wise products on planes of coordinates, so that it
    stays in the cache and costs the same per person at any batch size.
    """
    batch = torch.broadcast_shapes(points.shape[:-2], G.shape[:-3])
    shift = positions - (G @ rest_joints[..., None])[..., 0]
    transforms = torch.cat((G, shift[..., None]), dim=-1)  # (*batch, joint, 3, 4)
    transforms = transforms.movedim(-3, -1).expand(*batch, 3, 4, G.shape[-3]).reshape(-1, 12, G.shape[-3])
    points = points.expand(*batch, *points.shape[-2:]).reshape(-1, *points.shape[-2:])
    block = 8
    out = [
        _skin_block(points[start : start + block], weights, transforms[start : start + block])
        for start in range(0, max(points.shape[0], 1), block)
    ]
    skinned = torch.cat(out) if len(out) != 1 else out[0]
    return skinned.reshape(*batch, *points.shape[-2:])


def _skin_block(points: Tensor, weights: Tensor, transforms: Tensor) -> Tensor:
    blended = (transforms.reshape(-1, transforms.shape[-1]) @ weights.T).view(-1, 3, 4, weights.shape[0])
    x, y, z = points.unbind(-1)
    planes = [
        torch.addcmul(torch.addcmul(torch.addcmul(row[:, 3], row[:, 0], x), row[:, 1], y), row[:, 2], z)
        for row in blended.unbind(1)
    ]
    return torch.stack(planes, dim=-1)
