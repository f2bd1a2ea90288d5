"""Draws random poses within the natural range of each joint, for learning skinning weights and pose correctives."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.skeletons import FINGERS, SMPLX

# Turns applied right to left on the rest pose, as (axis, from, to) in degrees; for the left side, the right mirrors it.
_RANGES: dict[str, tuple[tuple[str, float, float], ...]] = {
    "left_collar": (("z", -8, 24), ("y", -15, 15), ("x", -10, 10)),
    "left_shoulder": (("y", -105, 30), ("z", -85, 60), ("x", -70, 70)),
    "left_elbow": (("y", -145, 5), ("x", -75, 75)),
    "left_wrist": (("z", -65, 65), ("y", -25, 25), ("x", -60, 60)),
    "left_hip": (("x", -115, 30), ("z", -20, 50), ("y", -45, 45)),
    "left_knee": (("x", -3, 140), ("y", -12, 12)),
    "left_ankle": (("x", -25, 45), ("z", -18, 18), ("y", -15, 15)),
    "left_foot": (("x", -40, 15),),
    "spine1": (("x", -12, 30), ("y", -18, 18), ("z", -15, 15)),
    "spine2": (("x", -12, 28), ("y", -18, 18), ("z", -15, 15)),
    "spine3": (("x", -12, 22), ("y", -18, 18), ("z", -12, 12)),
    "neck": (("x", -28, 28), ("y", -35, 35), ("z", -22, 22)),
    "head": (("x", -28, 28), ("y", -40, 40), ("z", -22, 22)),
    "jaw": (("x", 0, 26), ("y", -8, 8), ("z", -4, 4)),
    "left_thumb1": (("x", -25, 35), ("y", -35, 35), ("z", -35, 35)),
    "left_thumb2": (("x", -10, 20), ("y", -20, 45), ("z", -30, 30)),
    "left_thumb3": (("x", -10, 20), ("y", -20, 60), ("z", -30, 30)),
    **{f"left_{f}1": (("z", -95, 25), ("y", -15, 15), ("x", -8, 8)) for f in FINGERS if f != "thumb"},
    **{f"left_{f}2": (("z", -110, 5),) for f in FINGERS if f != "thumb"},
    **{f"left_{f}3": (("z", -75, 5),) for f in FINGERS if f != "thumb"},
}


def random_rotations(count: int, *, generator: torch.Generator) -> Float[Tensor, "pose 55 3 3"]:
    """Local rotations of random poses of the SMPL-X skeleton; root and eyes stay at rest.

    Each joint moves in three quarters of the poses, within its range, small turns as likely as large ones; so the
    learner sees joints alone and together.
    """
    out = torch.eye(3).repeat(count, len(SMPLX), 1, 1)
    for name, turns in _RANGES.items():
        for mirrored in (False, True) if name.startswith("left_") else (False,):
            active = (torch.rand(count, generator=generator) < 0.75).float()
            rotation = torch.eye(3).expand(count, 3, 3)
            for axis, low, high in turns:
                share = torch.rand(count, generator=generator)
                angle = torch.deg2rad(low + (high - low) * share) * active
                rotation = rotation @ axis_turn(axis, angle)
            target = name.replace("left_", "right_") if mirrored else name
            out[:, SMPLX.index(target)] = mirror(rotation) if mirrored else rotation
    return out


def axis_turn(axis: str, angle: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrices about a coordinate axis."""
    k = "xyz".index(axis)
    a, b = (k + 1) % 3, (k + 2) % 3
    out = torch.eye(3).to(angle).repeat(*angle.shape, 1, 1)
    out[..., a, a] = out[..., b, b] = angle.cos()
    out[..., b, a] = angle.sin()
    out[..., a, b] = -angle.sin()
    return out


def mirror(rotations: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The same rotations seen in the mirror plane x = 0."""
    flip = torch.tensor([-1.0, 1.0, 1.0]).to(rotations)
    return flip[:, None] * rotations * flip


def pose_of(turns: dict[str, tuple[tuple[str, float], ...]], *, both_sides: bool = True) -> Float[Tensor, "55 3 3"]:
    """A pose from turns in degrees, applied right to left; those of a left joint are mirrored to the right one.

    A right joint that is named keeps its own turns.
    """
    out = torch.eye(3).repeat(len(SMPLX), 1, 1)
    for name, sequence in sorted(turns.items(), key=lambda item: item[0].startswith("right_")):
        rotation = torch.eye(3)
        for axis, degrees in sequence:
            rotation = rotation @ axis_turn(axis, torch.tensor(math.radians(degrees)))
        out[SMPLX.index(name)] = rotation
        if both_sides and name.startswith("left_"):
            out[SMPLX.index(name.replace("left_", "right_"))] = mirror(rotation)
    return out
