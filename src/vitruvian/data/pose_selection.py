"""Choosing frames of motion worth learning from: no glitches, no near duplicates; and mirror images of poses."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitruvian.bodies.skeletons import BODY_JOINTS
from vitruvian.data.t_pose import pose_joints
from vitruvian.geometry.rotations import exp_so3, geodesic_angle, log_so3

# Largest total rotation of a joint that a person can reach, degrees; a frame beyond one of them is a capture error.
LARGEST_ANGLE_DEG = {
    "hip": 150.0, "knee": 165.0, "ankle": 85.0, "foot": 75.0, "spine1": 70.0, "spine2": 60.0, "spine3": 50.0,
    "neck": 60.0, "head": 60.0, "collar": 60.0, "shoulder": 170.0, "elbow": 165.0, "wrist": 100.0,
}  # fmt: skip
# Elbows and knees bend one way: component of the rotation vector, its sign, and the largest turn the wrong way.
_HINGES = {"left_knee": (0, -1.0), "right_knee": (0, -1.0), "left_elbow": (1, 1.0), "right_elbow": (1, -1.0)}
_WRONG_WAY_DEG = 10.0
_LARGEST_TURN_PER_S = math.radians(1300)

_SWAP = [
    BODY_JOINTS.index(name.replace("left", "right") if name.startswith("left") else name.replace("right", "left"))
    for name in BODY_JOINTS
]

# Inman, Saunders and Abbott 1944 ("Observations of the function of the shoulder joint"): from hanging to overhead the
# clavicle rises by about 36°, a fifth of the arm's way; forwards it follows less.
CLAVICLE_ELEVATION_SHARE = 0.2
CLAVICLE_PROTRACTION_SHARE = 0.15

ARM = ("collar", "shoulder", "elbow", "wrist")
LEG = ("hip", "knee", "ankle", "foot")
"""Joints of a limb, without their side."""


def plausible_frames(rotations: Float[Tensor, "frame 22 3 3"], frame_rate: float) -> Bool[Tensor, "frame"]:
    """Frames without a joint past its largest angle or bent the wrong way, and without jumps no person can make."""
    limits = torch.tensor(
        [
            math.pi if name == "pelvis" else math.radians(LARGEST_ANGLE_DEG[name.rpartition("_")[2]])
            for name in BODY_JOINTS
        ]
    ).to(rotations)
    identity = torch.eye(3).to(rotations)
    good = (geodesic_angle(rotations, identity) <= limits + 1e-6).all(dim=-1)
    for name, (axis, sign) in _HINGES.items():
        turn = log_so3(rotations[:, BODY_JOINTS.index(name)])[:, axis]
        good &= sign * turn < math.radians(_WRONG_WAY_DEG)
    if len(rotations) > 1:
        turn = geodesic_angle(rotations[1:], rotations[:-1]) * frame_rate
        jump = (turn > _LARGEST_TURN_PER_S).any(dim=-1)
        good[1:] &= ~jump
        good[:-1] &= ~jump
    return good


def distinct_frames(
    body_pose: Float[Tensor, "frame 21 3 3"], spacing_m: float, *, kept: Float[Tensor, "old 66"] | None = None
) -> tuple[Int[Tensor, "chosen"], Float[Tensor, "new 66"]]:
    """Greedy choice of frames whose joints differ from every chosen one by `spacing_m` (root mean square, metres).

    Args:
        body_pose: rotations of all joints but the root; facing and place play no part.
        spacing_m: distance below which two poses count as the same.
        kept: joint positions of poses chosen before, of other clips.

    Returns:
        the chosen frames, and `kept` with their joint positions appended.
    """
    positions = pose_joints(body_pose).flatten(-2).to(torch.float32)
    reach = spacing_m * math.sqrt(positions.shape[-1] / 3)
    bank = positions.new_zeros(0, positions.shape[-1]) if kept is None else kept
    open_frames = torch.arange(len(positions))
    if len(bank):
        open_frames = open_frames[torch.cdist(positions, bank).amin(dim=1) > reach]
    chosen: list[int] = []
    while len(open_frames):
        first = int(open_frames[0])
        chosen.append(first)
        distance = (positions[open_frames] - positions[first]).norm(dim=-1)
        open_frames = open_frames[distance > reach]
    rows = torch.tensor(chosen, dtype=torch.long)
    return rows, torch.cat((bank, positions[rows]))


def represented_frames(
    body_pose: Float[Tensor, "frame 21 3 3"], bank: Float[Tensor, "kept 66"]
) -> Float[Tensor, "kept"]:
    """How many of the frames each kept pose stands for: those to which it is the nearest."""
    positions = pose_joints(body_pose).flatten(-2).to(bank)
    counts = bank.new_zeros(len(bank))
    for part in positions.split(2048):
        counts += torch.bincount(torch.cdist(part, bank).argmin(dim=1), minlength=len(bank))
    return counts


def mirror_pose(rotations: Float[Tensor, "*batch 22 3 3"]) -> Float[Tensor, "*batch 22 3 3"]:
    """The pose seen in a mirror: left and right joints change places, rotations are reflected in the plane x = 0."""
    flip = torch.tensor([1.0, -1.0, -1.0]).to(rotations)
    return (flip[:, None] * rotations * flip)[..., _SWAP, :, :]


def with_moving_collars(rotations: Float[Tensor, "*batch 22 3 3"]) -> Float[Tensor, "*batch 22 3 3"]:
    """Let the collars follow the arms; the arms keep their orientation in the world.

    The recordings hold the collars still. Each collar turns about the forward axis by a share of the elevation of the
    upper arm above the level of the T-pose, and about the vertical by a share of its forward angle.
    """
    result = rotations.clone()
    for side, sign in (("left", 1.0), ("right", -1.0)):
        collar, shoulder = BODY_JOINTS.index(f"{side}_collar"), BODY_JOINTS.index(f"{side}_shoulder")
        arm = rotations[..., collar, :, :] @ rotations[..., shoulder, :, :]
        direction = sign * arm[..., :, 0]
        elevation = torch.asin(direction[..., 1].clamp(-1, 1)) * CLAVICLE_ELEVATION_SHARE
        forward = torch.asin(direction[..., 2].clamp(-1, 1)) * CLAVICLE_PROTRACTION_SHARE
        turn = exp_so3(torch.stack((torch.zeros_like(forward), -sign * forward, sign * elevation), dim=-1))
        result[..., collar, :, :] = turn
        result[..., shoulder, :, :] = turn.transpose(-1, -2) @ arm
    return result
