"""Derivatives of body points by joint rotations, shape and translation, in closed form."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.points import SkinnedPoints
from vitruvian.tensors import TensorRecord, row_product


@dataclass(frozen=True, eq=False)
class SurfaceDirs(TensorRecord):
    """Shape derivatives of the points that lie on the surface, each padded to the same number of bones.

    `bones (S, m)` are the bones of each such point, padded with bone 0, whose `dirs (S, 3m, C)` are then zero.
    """

    points: Int[Tensor, "surface_point"]
    bones: Int[Tensor, "surface_point bone"]
    dirs: Float[Tensor, "surface_point three_bones coefficient"]


@dataclass(frozen=True, eq=False)
class PointKinematics(TensorRecord):
    """K points of a body, and which joints move them: the constant structure of their Jacobian.

    A point p = Σ_n x_n is a sum of attachments x_n = G_j o_n + b_n t_j (see `SkinnedPoints`). Turning joint i by
    R_i ← R_i exp([δ]ₓ) turns everything below it about t_i, so

        ∂p/∂δ_i = −[q]ₓ G_i,   q = Σ_{n below i} (x_n − b_n t_i).

    An *entry* is one such pair (point, joint). Entries whose attachments are the same share one *group*, whose sum
    s = Σ x_n is formed once; group k < K holds all attachments of point k, that is, the point itself.
    """

    points: SkinnedPoints
    surface: Int[Tensor, "surface"]
    """Attachments with an offset: those of surface points, not of joints."""
    attachment_groups: Float[Tensor, "attachment group"]
    entry_point: Int[Tensor, "entry"]
    entry_group: Int[Tensor, "entry"]
    entry_joint: Int[Tensor, "entry"]
    entry_weight: Float[Tensor, "entry"]
    """Σ b_n of the group of each entry."""
    entry_target: Int[Tensor, "entry"]
    """Position of each entry in the (point, moving joint) grid."""
    num_moving: int
    surface_dirs: SurfaceDirs
    joint_dirs: Float[Tensor, "joint 3 coefficient"]
    """Derivative of the offset of each joint from its parent by shape, then expression; of the root: its position."""
    point_chain: Float[Tensor, "point joint"]
    """Σ b_n of the attachments of a point below each joint: how far the point follows the growth of that bone."""
    parents: Int[Tensor, "joint"]
    """Parents, the root as its own."""

    @property
    def num_points(self) -> int:
        return self.points.num_points

    @staticmethod
    def build(
        model: BodyModel,
        points: SkinnedPoints,
        *,
        moving_joints: tuple[int, ...],
        num_shape: int,
        num_expression: int,
    ) -> "PointKinematics":
        """Work out the structure for some points, the joints that move, and the number of coefficients in use."""
        device, dtype = model.device, model.dtype
        chains = model.skeleton.chains
        members, entries = _groups_and_entries(points, chains, moving_joints)
        attachment_groups = torch.zeros(len(points.point), len(members), dtype=dtype, device=device)
        for column, rows in enumerate(members):
            attachment_groups[list(rows), column] = 1
        columns = torch.tensor(entries, dtype=torch.long, device=device).reshape(-1, 3)
        point, group, joint = (column.contiguous() for column in columns.unbind(1))
        moving = torch.full((model.num_joints,), -1, dtype=torch.long, device=device)
        moving[list(moving_joints)] = torch.arange(len(moving_joints), device=device)

        parents = torch.tensor([max(p, 0) for p in model.skeleton.parents], device=device)
        dirs = _joined(model.joint_shape_dirs, model.joint_expression_dirs, num_shape, num_expression)
        relative = dirs - dirs[parents]
        relative[0] = dirs[0]
        point_chain = torch.zeros(points.num_points, model.num_joints, dtype=dtype, device=device)
        for row, (k, bone) in enumerate(zip(points.point.tolist(), points.bone.tolist(), strict=True)):
            point_chain[k, list(chains[bone])] += points.weight[row]
        offset_dirs = _joined(points.offset_shape_dirs, points.offset_expression_dirs, num_shape, num_expression)
        surface = _has_offset(points).nonzero()[:, 0]
        return PointKinematics(
            points=points,
            surface=surface,
            attachment_groups=attachment_groups,
            entry_point=point,
            entry_group=group,
            entry_joint=joint,
            entry_weight=(points.weight @ attachment_groups)[group],
            entry_target=point * len(moving_joints) + moving[joint],
            num_moving=len(moving_joints),
            surface_dirs=_pad_surface(points, surface, offset_dirs),
            joint_dirs=relative,
            point_chain=point_chain,
            parents=parents,
        )

    def group_sums(
        self,
        G: Float[Tensor, "batch joint 3 3"],
        joints: Float[Tensor, "batch joint 3"],
        offsets: Float[Tensor, "batch attachment 3"],
    ) -> Float[Tensor, "batch group 3"]:
        """Sums of attachments for offsets o_n (`SkinnedPoints.offsets`); the first K rows are the points themselves."""
        points, surface = self.points, self.surface
        x = points.weight[:, None] * joints[:, points.bone]
        turned = (G[:, points.bone[surface]] * offsets[:, surface, None, :]).sum(-1)
        x = x.index_add(1, surface, turned)
        return row_product(x.transpose(1, 2), self.attachment_groups).transpose(1, 2)

    def rotation_jacobian(
        self,
        rows: Float[Tensor, "batch point row 3"],
        sums: Float[Tensor, "batch group 3"],
        G: Float[Tensor, "batch joint 3 3"],
        joints: Float[Tensor, "batch joint 3"],
    ) -> Float[Tensor, "batch point row three_moving"]:
        """Derivative of `rows · p` by the right perturbations of the moving joints.

        Each entry contributes the row vector r ↦ −rᵀ[q]ₓ G_i = (q × r)ᵀ G_i.
        """
        batch, num_points, num_rows = rows.shape[:3]
        q = sums[:, self.entry_group] - self.entry_weight[:, None] * joints[:, self.entry_joint]
        r = rows[:, self.entry_point]
        cross = torch.linalg.cross(q[:, :, None].expand_as(r), r, dim=-1)
        G = G[:, self.entry_joint]
        values = cross[..., :1] * G[:, :, None, 0]
        values.addcmul_(cross[..., 1:2], G[:, :, None, 1]).addcmul_(cross[..., 2:], G[:, :, None, 2])
        out = rows.new_zeros(batch, num_points * self.num_moving, num_rows, 3)
        out.index_copy_(1, self.entry_target, values)
        grid = out.view(batch, num_points, self.num_moving, num_rows, 3)
        return grid.transpose(2, 3).reshape(batch, num_points, num_rows, -1)

    def shape_jacobian(
        self, rows: Float[Tensor, "batch point row 3"], G: Float[Tensor, "batch joint 3 3"]
    ) -> Float[Tensor, "batch point row coefficient"]:
        """Derivative of `rows · p` by the shape and expression coefficients.

        Joints follow the recursion ∂t_j = ∂t_parent + G_parent ∂(J_j − J_parent); offsets turn with their bone.
        """
        batch, num_rows = rows.shape[0], rows.shape[2]
        above = G[:, self.parents]
        above[:, 0] = torch.eye(3, dtype=G.dtype, device=G.device)
        steps = above @ self.joint_dirs
        followed = (self.point_chain @ steps.flatten(2)).unflatten(2, steps.shape[2:])
        jacobian = rows @ followed
        surface = self.surface_dirs
        r = rows[:, surface.points, :, None, :, None] * G[:, surface.bones][:, :, None]
        # (batch, S, row, m, 3, 3) summed over the world axis, then one product per surface point.
        turned = r.sum(-2).flatten(3).permute(1, 0, 2, 3).flatten(1, 2)
        shape = (len(surface.points), batch, num_rows, jacobian.shape[-1])
        moved = row_product(turned, surface.dirs).view(shape).transpose(0, 1)
        return jacobian.index_add(1, surface.points, moved)


def _has_offset(points: SkinnedPoints) -> Bool[Tensor, "attachment"]:
    """Attachments that are off their joint at rest, or may leave it by shape, expression or pose."""
    parts = [points.offset, points.offset_shape_dirs, points.offset_expression_dirs, points.pose_dirs]
    return torch.stack([(part != 0).flatten(1).any(-1) for part in parts if part is not None]).any(0)


def _joined(shape: Tensor, expression: Tensor, num_shape: int, num_expression: int) -> Tensor:
    return torch.cat((shape[..., :num_shape], expression[..., :num_expression]), dim=-1)


def _groups_and_entries(
    points: SkinnedPoints, chains: tuple[tuple[int, ...], ...], moving_joints: tuple[int, ...]
) -> tuple[list[tuple[int, ...]], list[tuple[int, int, int]]]:
    """Members of each group of attachments, and the entries (point, group, joint)."""
    bones = points.bone.tolist()
    attachments: list[list[int]] = [[] for _ in range(points.num_points)]
    for row, point in enumerate(points.point.tolist()):
        attachments[point].append(row)
    members = [tuple(rows) for rows in attachments]
    group_of = {rows: group for group, rows in enumerate(members)}
    entries = []
    for point, rows in enumerate(attachments):
        below: dict[int, list[int]] = {}
        for row in rows:
            for joint in chains[bones[row]]:
                below.setdefault(joint, []).append(row)
        for joint in moving_joints:
            key = tuple(below.get(joint, ()))
            if not key:
                continue
            if key not in group_of:
                group_of[key] = len(members)
                members.append(key)
            entries.append((point, group_of[key], joint))
    return members, entries


def _pad_surface(points: SkinnedPoints, surface: Tensor, offset_dirs: Tensor) -> SurfaceDirs:
    """Collect the surface attachments by point."""
    by_point: dict[int, list[int]] = {}
    for row in surface.tolist():
        by_point.setdefault(int(points.point[row]), []).append(row)
    width = max((len(rows) for rows in by_point.values()), default=1)
    bones = torch.zeros(len(by_point), width, dtype=torch.long, device=surface.device)
    dirs = offset_dirs.new_zeros(len(by_point), width, *offset_dirs.shape[1:])
    for k, rows in enumerate(by_point.values()):
        bones[k, : len(rows)] = points.bone[rows]
        dirs[k, : len(rows)] = offset_dirs[rows]
    ids = torch.tensor(list(by_point), dtype=torch.long, device=surface.device)
    return SurfaceDirs(ids, bones, dirs.flatten(1, 2))
