"""Points that follow the body without its mesh: joints, vertices, and linear combinations of both."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitruvian.tensors import TensorRecord, row_product, without_autocast

if TYPE_CHECKING:
    from vitruvian.bodies.model import BodyModel


@dataclass(frozen=True, eq=False)
class SkinnedPoints(TensorRecord):
    """K points, each the sum of attachments to bones.

    A point p = Σ_v W_v v of skinned vertices v = Σ_j w_vj (G_j (v̄ − J_j) + t_j) is, collected by bone, the sum over
    attachments n of G_j o_n + b_n t_j with b_n = Σ_v W_v w_vj and o_n = Σ_v W_v w_vj (v̄ − J_j). The offsets o_n are
    linear in shape, expression and pose features, so a point costs a few small products and is exact. A joint is an
    attachment with b = 1 and o = 0.
    """

    num_points: int
    point: Int[Tensor, "attachment"]
    bone: Int[Tensor, "attachment"]
    weight: Float[Tensor, "attachment"]
    offset: Float[Tensor, "attachment 3"]
    offset_shape_dirs: Float[Tensor, "attachment 3 shape"]
    offset_expression_dirs: Float[Tensor, "attachment 3 expression"]
    pose_dirs: Float[Tensor, "attachment 3 feature"] | None

    @without_autocast
    def offsets(
        self,
        betas: Float[Tensor, "*#batch shape"],
        expression: Float[Tensor, "*#batch expression"],
        features: Float[Tensor, "*#batch feature"] | None,
    ) -> Float[Tensor, "*#batch attachment 3"]:
        """Offsets o_n in the rest frame of their bones."""
        offset = self.offset
        for coefficients, dirs in ((betas, self.offset_shape_dirs), (expression, self.offset_expression_dirs)):
            count = coefficients.shape[-1]
            if count:
                offset = offset + row_product(coefficients, dirs[..., :count].flatten(0, 1).T).unflatten(-1, (-1, 3))
        if features is not None and self.pose_dirs is not None:
            offset = offset + row_product(features, self.pose_dirs.flatten(0, 1).T).unflatten(-1, (-1, 3))
        return offset

    @without_autocast
    def attachments(
        self,
        G: Float[Tensor, "*batch joint 3 3"],
        joints: Float[Tensor, "*batch joint 3"],
        offsets: Float[Tensor, "*#batch attachment 3"],
    ) -> Float[Tensor, "*batch attachment 3"]:
        """The summands G_j o_n + b_n t_j."""
        turned = (G[..., self.bone, :, :] @ offsets[..., None])[..., 0]
        return turned + self.weight[:, None] * joints[..., self.bone, :]

    def place(
        self,
        G: Float[Tensor, "*batch joint 3 3"],
        joints: Float[Tensor, "*batch joint 3"],
        betas: Float[Tensor, "*#batch shape"],
        expression: Float[Tensor, "*#batch expression"],
        features: Float[Tensor, "*#batch feature"] | None,
    ) -> Float[Tensor, "*batch point 3"]:
        """World positions of the points for world rotations G, joint positions, and the shape of the person."""
        terms = self.attachments(G, joints, self.offsets(betas, expression, features))
        out = terms.new_zeros(*terms.shape[:-2], self.num_points, 3)
        return out.index_add(-2, self.point, terms)

    def select(self, keep: Int[Tensor, "kept"]) -> "SkinnedPoints":
        """Only some of the points, in the order given."""
        new_row = torch.full((self.num_points,), -1, dtype=torch.long, device=self.point.device)
        new_row[keep] = torch.arange(len(keep), device=self.point.device)
        rows = new_row[self.point]
        mask = rows >= 0
        return SkinnedPoints(
            num_points=len(keep),
            point=rows[mask],
            bone=self.bone[mask],
            weight=self.weight[mask],
            offset=self.offset[mask],
            offset_shape_dirs=self.offset_shape_dirs[mask],
            offset_expression_dirs=self.offset_expression_dirs[mask],
            pose_dirs=None if self.pose_dirs is None else self.pose_dirs[mask],
        )


def skin_points(
    model: "BodyModel", vertex_weights: Tensor, joint_weights: Float[Tensor, "point joint"] | None
) -> SkinnedPoints:
    """Collect linear combinations of vertices and joints by bone (see `BodyModel.regressed_points`)."""
    if not vertex_weights.is_sparse:
        vertex_weights = vertex_weights.to_sparse()
    vertex_weights = vertex_weights.coalesce()
    num_points = vertex_weights.shape[0]
    point, vertex = vertex_weights.indices()
    value = vertex_weights.values().to(model.dtype)

    # One entry per (point, vertex, bone) with weight, then summed over the vertices of the same (point, bone).
    skin = model.skinning_weights[vertex]
    entry, bone = skin.nonzero(as_tuple=True)
    entry_weight = value[entry] * skin[entry, bone]
    entry_vertex = vertex[entry]
    key = point[entry] * model.num_joints + bone
    extra_point = extra_joint = torch.zeros(0, dtype=torch.long, device=model.device)
    extra_weight = model.template.new_zeros(0)
    if joint_weights is not None:
        joint_weights = joint_weights.to(model.template)
        extra_point, extra_joint = joint_weights.nonzero(as_tuple=True)
        extra_weight = joint_weights[extra_point, extra_joint]
    keys, row = torch.unique(torch.cat((key, extra_point * model.num_joints + extra_joint)), return_inverse=True)
    row, extra_row = row[: len(key)], row[len(key) :]

    def collect(per_vertex: Tensor, per_joint: Tensor | None) -> Tensor:
        values = per_vertex[entry_vertex] - (0 if per_joint is None else per_joint[bone])
        scaled = values * entry_weight.view(-1, *[1] * (values.dim() - 1))
        return scaled.new_zeros(len(keys), *values.shape[1:]).index_add(0, row, scaled)

    weight = model.template.new_zeros(len(keys)).index_add(0, row, entry_weight).index_add(0, extra_row, extra_weight)
    pose_dirs = None
    if model.correctives is not None and len(entry):
        unique, back = torch.unique(entry_vertex, return_inverse=True)
        rows = model.correctives.rows(unique)[back] * entry_weight[:, None, None]
        pose_dirs = rows.new_zeros(len(keys), *rows.shape[1:]).index_add(0, row, rows)
    return SkinnedPoints(
        num_points=num_points,
        point=keys // model.num_joints,
        bone=keys % model.num_joints,
        weight=weight,
        offset=collect(model.template, model.joint_template),
        offset_shape_dirs=collect(model.shape_dirs, model.joint_shape_dirs),
        offset_expression_dirs=collect(model.expression_dirs, model.joint_expression_dirs),
        pose_dirs=pose_dirs,
    )
