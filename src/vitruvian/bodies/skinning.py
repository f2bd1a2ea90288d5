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
) -> tuple[Tensor, Tensor, tuple[tuple[int, int, Tensor], ...], Tensor]:
    """Joints by level, their parents, per level below the root its range and parent rows above, and the way back."""
    order = [joint for level in skeleton.levels for joint in level]
    levels, start = [], 1
    with torch.inference_mode(False):  # the cached tensors outlive the caller's mode
        for above, level in zip(skeleton.levels, skeleton.levels[1:], strict=False):
            row_above = {joint: row for row, joint in enumerate(above)}
            rows = torch.tensor([row_above[skeleton.parents[joint]] for joint in level], device=device)
            levels.append((start, start + len(level), rows))
            start += len(level)
        joints = torch.tensor(order, device=device)
        parents = torch.tensor([max(skeleton.parents[joint], 0) for joint in order], device=device)
        return joints, parents, tuple(levels), joints.argsort()


@without_autocast
def forward_kinematics(
    skeleton: Skeleton,
    rotations: Float[Tensor, "*#batch joint 3 3"],
    rest_joints: Float[Tensor, "*#batch joint 3"],
    transl: Float[Tensor, "*#batch 3"] | None = None,
) -> tuple[Float[Tensor, "*batch joint 3 3"], Float[Tensor, "*batch joint 3"]]:
    """World rotations G and positions t of all joints.

    G_j = G_parent R_j and t_j = t_parent + G_parent (J_j − J_parent), one product [G t] [R o; 0 1] per level; the root
    turns about its own rest position, as in SMPL. `rotations` and `rest_joints` may have batch shapes that broadcast.
    """
    joints, parents, levels, back = _level_indices(skeleton, rotations.device)
    offsets = rest_joints[..., joints, :] - rest_joints[..., parents, :]
    batch = torch.broadcast_shapes(rotations.shape[:-3], offsets.shape[:-2])
    count = len(skeleton)
    local = torch.cat(
        (
            rotations[..., joints, :, :].expand(*batch, count, 3, 3),
            offsets[..., None].expand(*batch, count, 3, 1),
        ),
        dim=-1,
    )
    root = rest_joints[..., :1, :]
    if transl is not None:
        root = root + transl[..., None, :]
        batch = torch.broadcast_shapes(batch, root.shape[:-2])
        local = local.expand(*batch, count, 3, 4)
    world = torch.cat((local[..., :1, :, :3], root[..., None].expand(*batch, 1, 3, 1)), dim=-1)
    local = torch.cat((local, local.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*batch, count, 1, 4)), dim=-2)
    all_levels = [world]
    for start, stop, rows in levels:
        world = world[..., rows, :, :] @ local[..., start:stop, :, :]
        all_levels.append(world)
    transforms = torch.cat(all_levels, dim=-3)[..., back, :, :]
    return transforms[..., :3], transforms[..., 3]


def pose_features(rotations: Float[Tensor, "*batch joint 3 3"]) -> Float[Tensor, "*batch feature"]:
    """R − I of all joints but the root, joint by joint and row by row (SMPL, eq. 6)."""
    identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    return (rotations[..., 1:, :, :] - identity).flatten(-3)


@without_autocast
def blend_skin(
    points: Float[Tensor, "*#batch vertex 3"],
    weights: Float[Tensor, "vertex joint"],
    G: Float[Tensor, "*batch joint 3 3"],
    positions: Float[Tensor, "*batch joint 3"],
    rest_joints: Float[Tensor, "*#batch joint 3"],
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
