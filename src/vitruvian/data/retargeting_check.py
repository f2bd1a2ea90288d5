"""How faithful a retargeting is: forward kinematics of the result against the joint positions of the source."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.skeletons import SMPLX
from vitruvian.data.motion import Motion
from vitruvian.data.retargeting import (
    T_POSE_DIRECTIONS,
    Calibration,
    SkeletonMap,
    bone_rotations,
    reference_directions,
    split_reference,
    world_rotations,
)


@dataclass(frozen=True)
class RetargetingCheck:
    """Errors by body joint.

    Args:
        position_mm: mean distance between the joint, placed by forward kinematics of the retargeted rotations on a
            skeleton of the source's proportions, and the source's joint.
        angle_deg: mean angle between the direction of the body's T-pose bone, turned by the retargeted rotations, and
            that of the source's bone; only bones that are laid onto the T-pose.
    """

    position_mm: dict[str, float]
    angle_deg: dict[str, float]


def check_retargeting(
    motion: Motion, skeleton_map: SkeletonMap, *, calibration: Calibration | None = None
) -> RetargetingCheck:
    """Compare a clip with its retargeting.

    The skeleton of the comparison has the source's joint positions of the reference pose, carried by the rotations
    that the retargeting gives the reference pose; so an error shows where rotations do not add up to those of the
    source, not that people differ in size.
    """
    reference, motion = split_reference(motion, skeleton_map)
    then = world_rotations(reference, reference, skeleton_map, calibration=calibration)[0]
    now = world_rotations(motion, reference, skeleton_map, calibration=calibration)
    rest, positions = reference.world()[1][0], motion.world()[1]
    placed: dict[str, Tensor] = {}
    errors: dict[str, float] = {}
    for name, bone in skeleton_map.bones.items():
        row = motion.index(bone.position)
        ancestor = _mapped_ancestor(name, skeleton_map)
        if ancestor is None:
            placed[name] = positions[:, row]
        else:
            start = rest[motion.index(skeleton_map.bones[ancestor].position)]
            joint = SMPLX.index(ancestor)
            offset = then[joint].T @ (rest[row] - start)
            placed[name] = placed[ancestor] + now[:, joint] @ offset
        errors[name] = 1000 * float((placed[name] - positions[:, row]).norm(dim=-1).mean())
    angles: dict[str, float] = {}
    for name, direction in reference_directions(reference, skeleton_map).items():
        source = bone_rotations(motion, reference, skeleton_map.bones[name]) @ direction
        body = now[:, SMPLX.index(name)] @ torch.tensor(T_POSE_DIRECTIONS[name]).to(direction)
        angles[name] = float(_angle_deg(source, body).mean())
    return RetargetingCheck(errors, angles)


def _mapped_ancestor(name: str, skeleton_map: SkeletonMap) -> str | None:
    row = SMPLX.parents[SMPLX.index(name)]
    while row >= 0 and SMPLX.names[row] not in skeleton_map.bones:
        row = SMPLX.parents[row]
    return SMPLX.names[row] if row >= 0 else None


def _angle_deg(a: Float[Tensor, "frame 3"], b: Float[Tensor, "frame 3"]) -> Float[Tensor, "frame"]:
    sine, cosine = torch.linalg.cross(a, b, dim=-1).norm(dim=-1), (a * b).sum(-1)
    return torch.rad2deg(torch.atan2(sine, cosine))
