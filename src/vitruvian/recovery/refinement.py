"""Estimates that look back at the picture: points of the estimated body against the keypoints, and a learnt step.

A network that reads keypoints once places visible limbs some centimetres off. Here the estimate is projected, and a
small network sees what is left of the 2D error, together with the turn of every bone that would lessen it most
(the diagonal Gauss-Newton step of the reprojection error), and corrects pose, shape, place and context.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.skinning import forward_kinematics
from vitruvian.geometry.rotations import exp_so3
from vitruvian.keypoints.canonical import canonical_format, canonical_points
from vitruvian.recovery.chart import BODY, CHART_SIZE, NUM_BODY, local_rotations, turns_of_chart
from vitruvian.recovery.heads import HeadOutput, pelvis_position
from vitruvian.recovery.views import View
from vitruvian.tensors import TensorRecord, row_product

_KNUCKLES = ("thumb1", "index1", "middle1", "ring1", "pinky1")
_REACH = 0.08
"""Lever, in metres, that damps the Gauss-Newton turn of short bones."""
_LARGEST_ERROR = 1.5
"""2D errors beyond this, in half person sizes, count as this."""


def rig_rows() -> tuple[int, ...]:
    """Rows of the canonical keypoints that move with the 22 body joints: body, knuckles and face."""
    fmt = canonical_format()
    knuckles = [fmt.index(f"{side}_{name}") for side in ("left", "right") for name in _KNUCKLES]
    return (*fmt.groups["body"], *knuckles, *fmt.groups["face"])


@dataclass(frozen=True, eq=False)
class PointedBody(TensorRecord):
    """A body reduced to its 22 joints and the keypoints of `rig_rows`, which follow those joints.

    A keypoint is the sum over bones of G_b o_b + w_b t_b (see bodies/points.py), with offsets o linear in shape;
    fingers and jaw are at rest, and there are no pose correctives.

    Attributes:
        joint_template, joint_dirs: rest joints, and how they follow shape.
        offset_template, offset_dirs: the offsets o, and how they follow shape.
        weights: w.
    """

    joint_template: Float[Tensor, "22 3"]
    joint_dirs: Float[Tensor, "22 3 shape"]
    offset_template: Float[Tensor, "point 22 3"]
    offset_dirs: Float[Tensor, "point 22 3 shape"]
    weights: Float[Tensor, "point 22"]

    @classmethod
    @torch.no_grad()
    def of(cls, body: BodyModel, *, num_shape: int) -> "PointedBody":
        """The rig of a body with hands and face."""
        points = canonical_points(body).select(torch.tensor(rig_rows()))
        above = list(range(body.num_joints))
        for joint in range(NUM_BODY, body.num_joints):  # fingers, jaw and eyes follow the body joint above them
            above[joint] = above[body.skeleton.parents[joint]]
        carrier = torch.tensor(above)[points.bone]
        shapes = torch.cat((torch.zeros(1, num_shape), torch.eye(num_shape))).to(body.dtype)
        joints = body.with_shape(shapes, None).joints
        reach = points.weight[:, None] * (joints[:, points.bone] - joints[:, carrier])
        offsets = points.offsets(shapes, shapes[:, :0], None) + reach
        dense = torch.zeros(num_shape + 1, points.num_points, NUM_BODY, 3, dtype=body.dtype)
        dense.index_put_((torch.arange(num_shape + 1)[:, None], points.point, carrier), offsets, accumulate=True)
        weights = torch.zeros(points.num_points, NUM_BODY, dtype=body.dtype)
        weights.index_put_((points.point, carrier), points.weight, accumulate=True)
        joints = joints[:, :NUM_BODY]
        return cls(
            joint_template=joints[0],
            joint_dirs=(joints[1:] - joints[0]).movedim(0, -1).contiguous(),
            offset_template=dense[0],
            offset_dirs=(dense[1:] - dense[0]).movedim(0, -1).contiguous(),
            weights=weights,
        )

    @classmethod
    def empty(cls, *, num_shape: int) -> "PointedBody":
        """Zeros in the right shapes, to be filled from a file of weights."""
        points = len(rig_rows())
        return cls(
            torch.zeros(NUM_BODY, 3),
            torch.zeros(NUM_BODY, 3, num_shape),
            torch.zeros(points, NUM_BODY, 3),
            torch.zeros(points, NUM_BODY, 3, num_shape),
            torch.zeros(points, NUM_BODY),
        )


@dataclass(frozen=True, eq=False)
class Posed:
    """Joints and keypoints of an estimate in the virtual camera's axes, pelvis at the origin, metres."""

    G: Float[Tensor, "*batch 22 3 3"]
    joints: Float[Tensor, "*batch 22 3"]
    points: Float[Tensor, "*batch point 3"]


@lru_cache(maxsize=8)
def _chain_mask(device: torch.device, dtype: torch.dtype) -> Float[Tensor, "22 22"]:
    """Row j has ones at the joints that turn with j."""
    mask = torch.zeros(NUM_BODY, NUM_BODY, dtype=dtype)
    for joint, chain in enumerate(BODY.chains):
        mask[list(chain), joint] = 1
    return mask.to(device)


class Rig(nn.Module):
    """A `PointedBody` that travels with the weights of a network."""

    joint_template: Tensor
    joint_dirs: Tensor
    offset_template: Tensor
    offset_dirs: Tensor
    weights: Tensor

    def __init__(self, body: PointedBody) -> None:
        super().__init__()
        for name in ("joint_template", "joint_dirs", "offset_template", "offset_dirs", "weights"):
            self.register_buffer(name, getattr(body, name).clone())
        self.rows = rig_rows()

    def pose(self, rotations: Float[Tensor, "*batch 22 3 3"], betas: Float[Tensor, "*batch shape"]) -> Posed:
        """Joints and keypoints of local rotations, pelvis at the origin."""
        rest = self.joint_template + (betas @ self.joint_dirs.flatten(0, 1).T).unflatten(-1, (-1, 3))
        G, joints = forward_kinematics(BODY, rotations, rest - rest[..., :1, :])
        offsets = self.offset_template.flatten() + betas @ self.offset_dirs.flatten(0, 2).T
        turned = offsets.unflatten(-1, (-1, 3 * NUM_BODY)) @ G.transpose(-1, -2).flatten(-3, -2)
        return Posed(G, joints, turned + self.weights @ joints)

    def turns(
        self,
        posed: Posed,
        error: Float[Tensor, "*batch point 2"],
        confidence: Float[Tensor, "*batch point"],
    ) -> tuple[Float[Tensor, "*batch 66"], Float[Tensor, "*batch 66"]]:
        """Per chart coordinate the turn that lessens the 2D error most, alone, and the log of its lever (m²).

        For the coordinate a of joint j, the points p below it move by e_a × (p − x_j); with 2D errors ρ in metres and
        weights c the turn is Σ c ρ·(e_a × (p − x_j)) / (Σ c |e_a × (p − x_j)|² + reach²), seen along the optical axis.
        """
        below = _chain_mask(error.device, error.dtype) @ self.weights.T  # (joint, point): share that turns with j
        c = confidence[..., None]
        x, y, z = posed.points.unbind(-1)
        u, v = error.unbind(-1)
        # Sums over points of c and of its products with coordinates and errors give all levers in one matrix product.
        columns = torch.stack(
            (torch.ones_like(x), x, y, z, z * z, x * x + y * y, u, v, u * z, v * z, x * v - y * u), dim=-1
        )
        sums = row_product((c * columns).transpose(-1, -2), below.T)
        n, sx, sy, sz, szz, sxy, su, sv, suz, svz, torque = sums.unbind(-2)
        jx, jy, jz = posed.joints.unbind(-1)
        along_x = -(svz - jz * sv)  # e_x × d = (0, −d_z, d_y), of which the picture sees −d_z in y
        along_y = suz - jz * su  # e_y × d = (d_z, 0, −d_x)
        along_z = torque - (jx * sv - jy * su)  # e_z × d = (−d_y, d_x, 0)
        deep = szz - 2 * jz * sz + n * jz * jz
        wide = sxy - 2 * (jx * sx + jy * sy) + n * (jx * jx + jy * jy)
        lever = torch.stack((deep, deep, wide), dim=-1).clamp_min(0) + _REACH**2
        turn = torch.stack((along_x, along_y, along_z), dim=-1) / lever
        return turn.flatten(-2), lever.log().flatten(-2)


class Refiner(nn.Module):
    """One learnt correction of an estimate.

    Args:
        num_context: length of the context.
        num_points: keypoints of the rig.
        num_shape: shape coefficients.
        hidden: width.
    """

    def __init__(self, num_context: int, *, num_points: int, num_shape: int, hidden: int) -> None:
        super().__init__()
        num_inputs = num_context + 7 * num_points + 9 * NUM_BODY + 2 * CHART_SIZE + num_shape + 4
        self.sizes = (CHART_SIZE, num_shape, 3, num_context)
        self.enter = nn.Linear(num_inputs, hidden)
        self.block = nn.Sequential(
            nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden)
        )
        self.leave = nn.Linear(hidden, sum(self.sizes))
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(
        self, view: View, rig: Rig, context: Float[Tensor, "*batch context"], head: HeadOutput, posed: Posed
    ) -> tuple[Float[Tensor, "*batch context"], HeadOutput]:
        """Context and estimate after the correction."""
        # What is seen of the estimate passes no gradient: each correction learns to better what it is given.
        with torch.autocast(context.device.type, enabled=False), torch.no_grad():
            seen = _look_back(view, rig, head, posed)
        features = torch.cat((context.to(seen.dtype), seen), dim=-1)
        h = F.silu(self.enter(features))
        h = h + self.block(h)
        out = self.leave(F.silu(h)).to(head.place.dtype)
        w, betas, place, more = out.split(self.sizes, dim=-1)
        with torch.autocast(context.device.type, enabled=False):
            G = exp_so3(turns_of_chart(w)) @ posed.G
            refined = HeadOutput(
                head.six_d, local_rotations(G), head.betas + betas, head.expression, head.jaw, head.place + place
            )
        return context + more, refined


def _look_back(view: View, rig: Rig, head: HeadOutput, posed: Posed) -> Float[Tensor, "*batch feature"]:
    """What the refiner sees of an estimate besides the context."""
    confidence = view.confidence[..., rig.rows]
    seen: Bool[Tensor, "*batch point"] = confidence > 0
    pelvis = pelvis_position(head.place, view.half_size)[..., None, :]
    error = view.points[..., rig.rows, :] - view.project(posed.points + pelvis)
    error = torch.where(seen[..., None], error, 0.0).clamp(-_LARGEST_ERROR, _LARGEST_ERROR)
    size_m = head.place[..., 2].clamp(-3, 3).exp()
    turn, lever = rig.turns(posed, error * size_m[..., None, None], confidence)
    parts = (
        error.flatten(-2),
        confidence,
        seen.to(error.dtype),
        posed.points.flatten(-2),
        posed.G.flatten(-3),
        turn.clamp(-2, 2),
        lever,
        head.betas,
        head.place.clamp(-4, 4),
        torch.log(view.half_size)[..., None] + 1.0,
    )
    return torch.cat(parts, dim=-1)
