"""Retargeting of recorded motion of any named skeleton onto the joints of SMPL-X.

Every joint of the body takes the world rotation of one source bone, measured from a reference pose of the source and
corrected by the constant turn that lays the source's reference bone onto the body's T-pose bone:
`W_body(t) = W_source(t) W_source(reference)ᵀ D`. Hinge axes fix the turn about the bone where a direction alone would
not. So a person standing in a T-pose becomes identities, and bone directions are kept whatever the proportions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.skeletons import SMPLX
from vitruvian.data.motion import Motion
from vitruvian.errors import InputError
from vitruvian.geometry.rotations import exp_so3, log_so3
from vitruvian.tensors import TensorRecord

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class BoneMap:
    """Where the rotation of one body joint comes from.

    Args:
        source: the source joint, or two between whose world rotations the middle is taken.
        toward: source joint whose position marks the far end of the bone; "" for the source joint's own tip.
        direction: where the bone points in the source's reference pose, for skeletons whose joints do not tell.
            Without `toward` and `direction` the bone is not laid onto the T-pose, only the reference pose counts.
        hinge: world axis, in the source's reference pose, that corresponds to `T_POSE_HINGES` of the body joint.
        at: source joint at whose position the body joint lies, where that is not (the first) `source`.
    """

    source: str | tuple[str, str]
    toward: str | None = None
    direction: Vector | None = None
    hinge: Vector | None = None
    at: str | None = None

    @property
    def position(self) -> str:
        """Source joint at whose position the body joint lies."""
        return self.at or _first(self.source)


@dataclass(frozen=True)
class SkeletonMap:
    """How one flavour of skeleton is read: its bones, its unit, its reference pose and its up axis."""

    bones: Mapping[str, BoneMap]
    metres_per_unit: float
    reference: str = "rest"
    """"rest": zero rotations; "first-frame": the first frame is a T-pose, used as the reference and dropped."""
    up: str = "y"
    forearm_twist_share: float = 0.5
    """Share of the turn of the hand about the forearm that the elbow takes (the two bones cross along the forearm)."""


@dataclass(frozen=True, eq=False)
class BodyMotion(TensorRecord):
    """Motion in the joints of SMPL-X, y up: local rotations (the root in the world), root path in metres."""

    rotations: Float[Tensor, "frame 55 3 3"]
    root_positions: Float[Tensor, "frame 3"]
    frame_rate: float


# Where the bones of an idealised T-pose point: straight legs, level arms, flat feet whose bone falls by 18°.
_DOWN, _FORWARD = (0.0, -1.0, 0.0), (0.0, 0.0, 1.0)
_FOOT = (0.0, -0.309, 0.951)
T_POSE_DIRECTIONS: dict[str, Vector] = {
    "left_hip": _DOWN, "right_hip": _DOWN, "left_knee": _DOWN, "right_knee": _DOWN, "left_ankle": _FOOT,
    "right_ankle": _FOOT, "left_foot": _FORWARD, "right_foot": _FORWARD, "left_shoulder": (1.0, 0.0, 0.0),
    "right_shoulder": (-1.0, 0.0, 0.0), "left_elbow": (1.0, 0.0, 0.0), "right_elbow": (-1.0, 0.0, 0.0),
    "left_wrist": (1.0, 0.0, 0.0), "right_wrist": (-1.0, 0.0, 0.0),
}  # fmt: skip
# Axes about which flexion is positive: knees bend backwards about +x, elbows bring the hands forward about ∓y.
T_POSE_HINGES: dict[str, Vector] = {
    **{f"{side}_{joint}": (1.0, 0.0, 0.0) for side in ("left", "right") for joint in ("hip", "knee", "ankle", "foot")},
    **{f"left_{joint}": (0.0, -1.0, 0.0) for joint in ("shoulder", "elbow", "wrist")},
    **{f"right_{joint}": (0.0, 1.0, 0.0) for joint in ("shoulder", "elbow", "wrist")},
}


# Turns of thigh and shin that take one radian of flexion from the knee and leave hip and ankle where they are: as their
# lengths, 0.38 and 0.41 m, stand to each other, crosswise.
_LEG_SHARES = {"hip": 0.41 / 0.79, "knee": -0.38 / 0.79}


@dataclass(frozen=True)
class Calibration:
    """What is measured once for a person.

    Attributes:
        foot_slope: slopes (radians, down positive) of foot and toes standing flat.
        knee_excess: flexion (radians) that the recording shows of the straight left and right knee.
    """

    foot_slope: Mapping[str, float] = field(default_factory=dict)
    knee_excess: Mapping[str, float] = field(default_factory=dict)


def retarget(motion: Motion, skeleton_map: SkeletonMap, *, calibration: Calibration | None = None) -> BodyMotion:
    """Body rotations of a recorded motion.

    Args:
        motion: the clip, in metres.
        skeleton_map: reading of its skeleton; body joints that it leaves out keep their rest rotation.
        calibration: slopes of the flat foot; without it the foot of the reference pose counts as flat.

    Raises:
        InputError: where the skeleton lacks a joint that the map names.
    """
    reference, motion = split_reference(motion, skeleton_map)
    world = world_rotations(motion, reference, skeleton_map, calibration=calibration)
    to_y_up = _to_y_up(skeleton_map.up).to(world)
    parents = torch.tensor([max(parent, 0) for parent in SMPLX.parents])
    local = world[:, parents].mT @ world
    local[:, 0] = to_y_up @ world[:, 0]
    return BodyMotion(local, motion.root_positions @ to_y_up.T, motion.frame_rate)


def world_rotations(
    motion: Motion, reference: Motion, skeleton_map: SkeletonMap, *, calibration: Calibration | None = None
) -> Float[Tensor, "frame 55 3 3"]:
    """World rotations of the body joints in the source's own axes; joints that the map leaves out follow their parent.

    Args:
        motion: the clip.
        reference: one frame of the same skeleton in its reference pose.
        skeleton_map: reading of the skeleton.
        calibration: slopes of the flat foot.
    """
    directions = reference_directions(reference, skeleton_map)
    rotations, then = motion.world()[0], reference.world()[0]
    known: dict[str, Tensor] = {}
    for name, bone in skeleton_map.bones.items():
        turned = _source_rotation(motion, rotations, bone) @ _source_rotation(motion, then, bone).mT
        if name in directions:
            turned = turned @ _alignment(name, bone, directions[name], calibration)
        known[name] = turned
    _share_forearm_twist(known, skeleton_map.forearm_twist_share)
    world: list[Tensor] = []
    for name, parent in zip(SMPLX.names, SMPLX.parents, strict=True):
        world.append(known[name] if name in known else world[parent])
    return torch.stack(world, dim=1)


def split_reference(motion: Motion, skeleton_map: SkeletonMap) -> tuple[Motion, Motion]:
    """The one-frame reference pose, and the clip without it."""
    if skeleton_map.reference == "first-frame":
        return motion.frames(slice(0, 1)), motion.frames(slice(1, None))
    rest = motion.frames(slice(0, 1))
    identity = torch.eye(3).to(rest.rotations).expand_as(rest.rotations)
    return (
        Motion(rest.names, rest.parents, rest.offsets, rest.tips, identity, rest.root_positions, rest.frame_rate),
        motion,
    )


def align_directions(
    direction: Tensor, target_direction: Tensor, hinge: Tensor | None, target_hinge: Tensor | None
) -> Float[Tensor, "3 3"]:
    """Turn D with D·target = source: shortest for directions alone, by orthonormal frames where hinges are given."""
    if hinge is None or target_hinge is None:
        axis = torch.linalg.cross(target_direction, direction, dim=-1)
        sine, cosine = axis.norm(), (target_direction * direction).sum()
        return exp_so3(axis / sine.clamp_min(1e-12) * torch.atan2(sine, cosine))
    return _frame(direction, hinge) @ _frame(target_direction, target_hinge).T


def reference_directions(reference: Motion, skeleton_map: SkeletonMap) -> dict[str, Float[Tensor, "3"]]:
    """Unit direction, in the source's reference pose, of every bone that the map lays onto the T-pose."""
    rotations, positions = (x[0] for x in reference.world())
    directions: dict[str, Tensor] = {}
    for name, bone in skeleton_map.bones.items():
        if bone.direction is not None:
            vector = torch.tensor(bone.direction).to(rotations)
        elif bone.toward is not None:
            start = reference.index(_first(bone.source))
            end = positions[reference.index(bone.toward)] if bone.toward else None
            vector = rotations[start] @ reference.tips[start] if end is None else end - positions[start]
        else:
            continue
        directions[name] = vector / vector.norm()
    return directions


def bone_rotations(motion: Motion, reference: Motion, bone: BoneMap) -> Float[Tensor, "frame 3 3"]:
    """World rotation of a source bone, measured from the reference pose."""
    now = _source_rotation(motion, motion.world()[0], bone)
    return now @ _source_rotation(reference, reference.world()[0], bone).mT


def _first(source: str | tuple[str, str]) -> str:
    return source if isinstance(source, str) else source[0]


def _source_rotation(motion: Motion, rotations: Tensor, bone: BoneMap) -> Float[Tensor, "*frame 3 3"]:
    if isinstance(bone.source, str):
        return rotations[..., motion.index(bone.source), :, :]
    a, b = (rotations[..., motion.index(name), :, :] for name in bone.source)
    return a @ exp_so3(0.5 * log_so3(a.mT @ b))


def _frame(direction: Tensor, hinge: Tensor) -> Float[Tensor, "3 3"]:
    x = direction / direction.norm()
    y = hinge - (hinge @ x) * x
    y = y / y.norm()
    return torch.stack((x, y, torch.linalg.cross(x, y, dim=-1)), dim=-1)


def _alignment(
    name: str, bone: BoneMap, direction: Float[Tensor, "3"], calibration: Calibration | None
) -> Float[Tensor, "3 3"]:
    target, target_hinge = (torch.tensor(table[name]).to(direction) for table in (T_POSE_DIRECTIONS, T_POSE_HINGES))
    hinge = None if bone.hinge is None else torch.tensor(bone.hinge).to(direction)
    side, _, joint = name.partition("_")
    if calibration is not None and joint in _LEG_SHARES and side in calibration.knee_excess:
        # The knee moves back until the straight leg is straight; hip and ankle stay.
        turn = _LEG_SHARES[joint] * calibration.knee_excess[side] * target_hinge
        return align_directions(direction, target, hinge, target_hinge) @ exp_so3(turn)
    if calibration is None or name not in calibration.foot_slope:
        return align_directions(direction, target, hinge, target_hinge)
    # The person's flat foot is the body's flat foot, whatever the slopes of their bones: align the rest, and count the
    # pitch from the reference pose to the flat foot as none.
    axis = target_hinge if hinge is None else hinge / hinge.norm()
    pitch = slope(direction, axis)
    level = torch.stack((torch.zeros_like(pitch), -torch.sin(pitch), torch.cos(pitch)))
    extra = calibration.foot_slope[name] - pitch
    return exp_so3(extra * axis).mT @ align_directions(direction, level, hinge, target_hinge)


def slope(direction: Float[Tensor, "*frame 3"], hinge: Float[Tensor, "*#frame 3"]) -> Float[Tensor, "*frame"]:
    """Angle by which a bone falls below the level, seen along its hinge (to the person's left)."""
    forward = torch.linalg.cross(hinge, torch.tensor((0.0, 1.0, 0.0)).to(hinge).expand_as(hinge), dim=-1)
    down = torch.linalg.cross(hinge, forward, dim=-1)
    return torch.atan2((direction * down).sum(-1), (direction * forward).sum(-1))


def _share_forearm_twist(world: dict[str, Tensor], share: float) -> None:
    """Turn each forearm about its own axis by a share of the hand's turn relative to it."""
    for side, axis in (("left", 1.0), ("right", -1.0)):
        if f"{side}_wrist" not in world or f"{side}_elbow" not in world:
            continue
        elbow = world[f"{side}_elbow"]
        relative = elbow.mT @ world[f"{side}_wrist"]
        twist = share * twist_angle(relative, torch.tensor((axis, 0.0, 0.0)).to(elbow))
        world[f"{side}_elbow"] = elbow @ exp_so3(twist[..., None] * torch.tensor((axis, 0.0, 0.0)).to(elbow))


def twist_angle(rotation: Float[Tensor, "*batch 3 3"], axis: Float[Tensor, "3"]) -> Float[Tensor, "*batch"]:
    """Angle about a unit axis in the decomposition rotation = swing · twist."""
    trace = rotation.diagonal(dim1=-2, dim2=-1).sum(-1)
    skewed = rotation - rotation.mT
    vector = torch.stack((skewed[..., 2, 1], skewed[..., 0, 2], skewed[..., 1, 0]), dim=-1)
    # Quaternion (w, v) ∝ (1 + trace, vector); the twist is the part of v along the axis.
    return 2 * torch.atan2((vector * axis).sum(-1), 1 + trace)


def _to_y_up(up: str) -> Float[Tensor, "3 3"]:
    if up == "y":
        return torch.eye(3)
    if up == "z":
        return torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
    raise InputError("unknown up axis", seen=up, expected="y or z")
