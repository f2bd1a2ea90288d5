"""Poses a registered mesh the way a sculptor would, to give pose correctives something better than skinning to learn.

Plain skinning loses volume at bent joints and wrings twisted limbs. Here each vertex of a limb takes only its share of
the twist of the joints at both ends of its bone, linear and dual-quaternion blending are averaged (one collapses, the
other bulges), and a delta mush (Mancewicz et al. 2014) restores the detail of the rest surface on the smoothed result.
It is slow and not differentiable in shape; body models learn from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitruvian.bodies.skeletons import Skeleton
from vitruvian.bodies.skinning import blend_skin, forward_kinematics
from vitruvian.geometry.meshes import vertex_normals
from vitruvian.geometry.rotations import matrix_to_quaternion


@dataclass(frozen=True)
class TwistSegment:
    """A bone of the skeleton along which twist is spread: the names of the joints at its two ends.

    The twist of `near` grows from zero at the near end to full at the far end; the twist of `far` that lies about this
    bone grows in the same way, if `carries_far` is set (the forearm turns with the hand).
    """

    near: str
    far: str
    carries_far: bool
    onset: float = 0.0
    """Fraction of the bone before which nothing has turned."""
    full: float = 1.0
    """Fraction of the bone after which all has turned."""


@dataclass(frozen=True, eq=False)
class RegistrationPoser:
    """What posing needs to know of a topology: skinning, twist shares, and the smoothing operator of the delta mush."""

    skeleton: Skeleton
    faces: Int[Tensor, "face 3"]
    weights: Float[Tensor, "vertex joint"]
    segments: tuple[TwistSegment, ...]
    twist_share: Float[Tensor, "segment vertex"]
    smoothing: Tensor
    """Sparse `(V, V)` operator of one smoothing step."""
    mush: Float[Tensor, "vertex"]
    """How much of the delta mush each vertex gets, 0 to 1."""
    neighbour: Int[Tensor, "vertex"]
    """One neighbour of each vertex, to fix the tangent of its frame."""
    iterations: int = 12
    dual_quaternion_share: float = 0.5

    def pose(
        self,
        rest: Float[Tensor, "batch vertex 3"],
        rest_joints: Float[Tensor, "batch joint 3"],
        rotations: Float[Tensor, "batch joint 3 3"],
    ) -> Float[Tensor, "batch vertex 3"]:
        """Posed vertices, in metres, for local rotations relative to the rest pose of `rest`."""
        G, joints = forward_kinematics(self.skeleton, rotations, rest_joints)
        linear = blend_skin(rest, self.weights, G, joints, rest_joints)
        quaternions = _dual_quaternions(G, joints, rest_joints)
        angles, axes = self._twists(rest_joints, rotations)
        blended = torch.einsum("vj,bjd->bvd", self.weights, self._aligned(quaternions))
        for row, segment in enumerate(self.segments):
            j = self.skeleton.index(segment.near)
            ids = (self.weights[:, j] > 0).nonzero()[:, 0]
            w = self.weights[ids, j][None, :, None]
            share = self.twist_share[row, ids]
            angle = angles[0][:, row, None] * (share - 1)
            if segment.carries_far:
                angle = angle + angles[1][:, row, None] * share
            turn = _turn(angle, axes[:, row])  # (b, v, 3, 3), about the bone through the near joint
            local = rest[:, ids] - rest_joints[:, None, j]
            moved = torch.einsum("bij,bvjk,bvk->bvi", G[:, j], turn - torch.eye(3).to(rest), local)
            linear[:, ids] += w * moved
            full = self._aligned(quaternions)[:, j]
            twisted = _compose(full[:, None], _turn_dual(angle, axes[:, row], rest_joints[:, j]))
            blended[:, ids] += w * (twisted - full[:, None])
        mixed = torch.lerp(linear, _apply_dual(blended, rest), self.dual_quaternion_share)
        return self._mushed(rest, mixed)

    def _aligned(self, quaternions: Tensor) -> Tensor:
        """Signs of the quaternions chosen along the tree so that neighbours blend the short way."""
        out = quaternions.clone()
        for j, p in enumerate(self.skeleton.parents):
            if p >= 0:
                dot = (out[:, j, :4] * out[:, p, :4]).sum(-1, keepdim=True)
                out[:, j] = torch.where(dot < 0, -out[:, j], out[:, j])
        return out

    def _twists(self, rest_joints: Tensor, rotations: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Twist angles of the near and far joints about each bone, and the unit axes of the bones."""
        near = [self.skeleton.index(s.near) for s in self.segments]
        far = [self.skeleton.index(s.far) for s in self.segments]
        axes = torch.nn.functional.normalize(rest_joints[:, far] - rest_joints[:, near], dim=-1)
        # R = swing · twist for the near joint, twist · swing for the far one (its transpose is swing · twist again).
        return (twist_angle(rotations[:, near], axes), -twist_angle(rotations[:, far].mT, axes)), axes

    def _mushed(self, rest: Tensor, posed: Tensor) -> Tensor:
        smooth_rest, smooth = self._smooth(rest), self._smooth(posed)
        delta = torch.einsum("bvij,bvi->bvj", self._frames(smooth_rest), rest - smooth_rest)
        restored = smooth + torch.einsum("bvij,bvj->bvi", self._frames(smooth), delta)
        return posed + self.mush[:, None] * (restored - posed)

    def _smooth(self, vertices: Tensor) -> Tensor:
        flat = vertices.transpose(0, 1).flatten(1)
        for _ in range(self.iterations):
            flat = self.smoothing @ flat
        return flat.unflatten(1, (vertices.shape[0], 3)).transpose(0, 1)

    def _frames(self, vertices: Tensor) -> Tensor:
        normal = vertex_normals(vertices, self.faces)
        edge = vertices[:, self.neighbour] - vertices
        tangent = torch.nn.functional.normalize(edge - (edge * normal).sum(-1, keepdim=True) * normal, dim=-1)
        return torch.stack((normal, tangent, torch.linalg.cross(normal, tangent, dim=-1)), dim=-1)


def make_poser(
    skeleton: Skeleton,
    faces: Int[Tensor, "face 3"],
    weights: Float[Tensor, "vertex joint"],
    rest: Float[Tensor, "vertex 3"],
    rest_joints: Float[Tensor, "joint 3"],
    *,
    segments: Sequence[TwistSegment],
    rigid: Float[Tensor, "vertex"] | None = None,
    iterations: int = 12,
) -> RegistrationPoser:
    """Prepare a poser for a topology from one body in its rest pose.

    Args:
        rigid: 0 to 1 per vertex, how far a vertex is kept out of the delta mush (eyes, lips); none is by default.
    """
    operator = smoothing_operator(faces, len(rest), rest)
    share = []
    for segment in segments:
        a, b = (rest_joints[skeleton.index(name)] for name in (segment.near, segment.far))
        along = (rest - a) @ (b - a) / (b - a).square().sum()
        share.append(((along - segment.onset) / (segment.full - segment.onset)).clamp(0, 1))
    # Among the neighbours take the first by index: any fixed choice serves, it only has to be the same in both poses.
    edges = _edges(faces)
    neighbour = torch.zeros(len(rest), dtype=torch.long)
    neighbour[edges[:, 0]] = edges[:, 1]
    return RegistrationPoser(
        skeleton=skeleton,
        faces=faces,
        weights=weights,
        segments=tuple(segments),
        twist_share=torch.stack(share),
        smoothing=operator,
        mush=torch.ones(len(rest)).to(rest) if rigid is None else 1 - rigid,
        neighbour=neighbour,
        iterations=iterations,
    )


def smoothing_operator(faces: Int[Tensor, "face 3"], num_vertices: int, rest: Float[Tensor, "vertex 3"]) -> Tensor:
    """Sparse `(V, V)` matrix that moves each vertex half way to the mean of its neighbours (umbrella weights)."""
    edges = _edges(faces)
    degree = torch.bincount(edges[:, 0], minlength=num_vertices).clamp(min=1).to(rest)
    diagonal = torch.arange(num_vertices)
    alone = torch.bincount(edges[:, 0], minlength=num_vertices) == 0
    rows = torch.cat((edges[:, 0], diagonal))
    columns = torch.cat((edges[:, 1], diagonal))
    values = torch.cat((0.5 / degree[edges[:, 0]], torch.where(alone, 1.0, 0.5).to(rest)))
    indices = torch.stack((rows, columns))
    return torch.sparse_coo_tensor(indices, values, (num_vertices,) * 2, check_invariants=False).coalesce()


def twist_angle(rotations: Float[Tensor, "*batch 3 3"], axes: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch"]:
    """Signed angle φ of the twist in R = swing · twist(φ about the axis), in (−π, π]."""
    quaternion = matrix_to_quaternion(rotations)  # (x, y, z, w)
    along = (quaternion[..., :3] * axes).sum(-1)
    angle = 2 * torch.atan2(along, quaternion[..., 3])
    return torch.remainder(angle + torch.pi, 2 * torch.pi) - torch.pi


def _edges(faces: Int[Tensor, "face 3"]) -> Int[Tensor, "edge 2"]:
    """Directed edges, each once."""
    pairs = torch.cat([faces[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2))])
    return torch.unique(pairs, dim=0)


def _turn(angle: Float[Tensor, "batch vertex"], axis: Float[Tensor, "batch 3"]) -> Tensor:
    """Rotation matrices about one axis per item (Rodrigues)."""
    x, y, z = axis.unbind(-1)
    zero = torch.zeros_like(x)
    K = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1).view(-1, 1, 3, 3)
    sin, cos = angle.sin()[..., None, None], angle.cos()[..., None, None]
    return torch.eye(3).to(axis) + sin * K + (1 - cos) * (K @ K)


def _turn_dual(angle: Tensor, axis: Tensor, through: Tensor) -> Float[Tensor, "batch vertex 8"]:
    """Dual quaternions (w, x, y, z | dual) of turns about an axis through a point."""
    half = angle[..., None] / 2
    real = torch.cat((half.cos(), half.sin() * axis[:, None]), dim=-1)
    moment = torch.linalg.cross(through, axis, dim=-1)[:, None]
    dual = torch.cat((torch.zeros_like(half), half.sin() * moment), dim=-1)
    return torch.cat((real, dual), dim=-1)


def _dual_quaternions(G: Tensor, joints: Tensor, rest_joints: Tensor) -> Float[Tensor, "batch joint 8"]:
    xyzw = matrix_to_quaternion(G)
    real = torch.cat((xyzw[..., 3:], xyzw[..., :3]), dim=-1)
    shift = joints - (G @ rest_joints[..., None])[..., 0]
    pure = torch.cat((torch.zeros_like(shift[..., :1]), shift), dim=-1)
    return torch.cat((real, 0.5 * _multiply(pure, real)), dim=-1)


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    aw, av, bw, bv = a[..., :1], a[..., 1:], b[..., :1], b[..., 1:]
    av, bv = torch.broadcast_tensors(av, bv)
    vector = aw * bv + bw * av + torch.linalg.cross(av, bv, dim=-1)
    return torch.cat((aw * bw - (av * bv).sum(-1, keepdim=True), vector), dim=-1)


def _compose(a: Tensor, b: Tensor) -> Tensor:
    """Dual quaternion of `a` after `b`."""
    dual = _multiply(a[..., :4], b[..., 4:]) + _multiply(a[..., 4:], b[..., :4])
    return torch.cat((_multiply(a[..., :4], b[..., :4]), dual), dim=-1)


def _apply_dual(blended: Float[Tensor, "batch vertex 8"], points: Float[Tensor, "batch vertex 3"]) -> Tensor:
    scaled = blended / blended[..., :4].norm(dim=-1, keepdim=True)
    w, v, dw, dv = scaled[..., :1], scaled[..., 1:4], scaled[..., 4:5], scaled[..., 5:]
    turned = points + 2 * torch.linalg.cross(v, torch.linalg.cross(v, points, dim=-1) + w * points, dim=-1)
    return turned + 2 * (w * dv - dw * v + torch.linalg.cross(v, dv, dim=-1))
