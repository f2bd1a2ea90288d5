"""A nominal skeleton of 22 body joints in the T-pose of SMPL-X, to compare poses by joint positions without a body."""

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.skeletons import BODY_JOINTS, BODY_PARENTS
from vitruvian.data.motion import forward_kinematics

# Metres, pelvis at the origin, the person's left side; a person of about 1.7 m with bone lengths of a CMU subject.
_MIDDLE = {
    "pelvis": (0.0, 0.0, 0.0), "spine1": (0.0, 0.11, -0.01), "spine2": (0.0, 0.24, 0.0), "spine3": (0.0, 0.30, 0.02),
    "neck": (0.0, 0.51, -0.03), "head": (0.0, 0.59, 0.01),
}  # fmt: skip
_LEFT = {
    "hip": (0.08, -0.09, 0.0), "knee": (0.09, -0.47, 0.0), "ankle": (0.09, -0.88, -0.03), "foot": (0.11, -0.94, 0.09),
    "collar": (0.06, 0.42, -0.01), "shoulder": (0.17, 0.45, -0.02), "elbow": (0.44, 0.45, -0.02),
    "wrist": (0.69, 0.45, -0.02),
}  # fmt: skip


def nominal_joints() -> Float[Tensor, "22 3"]:
    """Joint positions of the nominal skeleton, float64."""
    rows = []
    for name in BODY_JOINTS:
        side, _, joint = name.partition("_")
        x, y, z = _MIDDLE[name] if name in _MIDDLE else _LEFT[joint]
        rows.append((-x if side == "right" else x, y, z))
    return torch.tensor(rows, dtype=torch.float64)


def pose_joints(body_pose: Float[Tensor, "*batch 21 3 3"]) -> Float[Tensor, "*batch 22 3"]:
    """Joint positions in the frame of the pelvis of body poses (all joints but the root) on the nominal skeleton."""
    joints = nominal_joints().to(body_pose)
    parents = torch.tensor([max(p, 0) for p in BODY_PARENTS], device=joints.device)
    root = torch.eye(3).to(body_pose).expand(*body_pose.shape[:-3], 1, 3, 3)
    rotations = torch.cat((root, body_pose), dim=-3)
    return forward_kinematics(rotations, joints - joints[parents], BODY_PARENTS, joints.new_zeros(3))[1]
