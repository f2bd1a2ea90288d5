"""Measuring on a person's own clips how the bones of the legs lie when the person stands: flat feet, straight knees."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.skeletons import BODY_JOINTS
from vitruvian.data.motion import Motion
from vitruvian.data.retargeting import (
    T_POSE_HINGES,
    Calibration,
    SkeletonMap,
    bone_rotations,
    reference_directions,
    retarget,
    slope,
    split_reference,
)

_STILL_M_PER_S = 0.18
_FEWEST_FRAMES = 40
_SEARCH_RAD = math.radians(15)
_BIN_RAD = math.radians(1)
_STRAIGHT_RAD = math.radians(2)
"""Flexion of the straight leg of somebody who stands or walks (Perry, Gait Analysis: 0 to 5 degrees)."""
_STRAIGHT_QUANTILE = 0.1
_MOST_EXCESS_RAD = math.radians(20)
"""8.6 degrees by which the joints of the open body bend at rest, and a knee 4 cm ahead of the leg's line."""
_UPRIGHT, _STEEP = math.cos(math.radians(25)), math.cos(math.radians(15))
_NO_POSE_RAD = 1e-4
"""Knees straighter than this belong to the T-pose of a file, or to a limit of the software that wrote it."""


def measure_person(motions: Sequence[Motion], skeleton_map: SkeletonMap) -> Calibration:
    """All that is measured on the clips of one person."""
    feet = measure_flat_feet(motions, skeleton_map)
    return Calibration(foot_slope=feet.foot_slope, knee_excess=measure_straight_knees(motions, skeleton_map))


def measure_flat_feet(motions: Sequence[Motion], skeleton_map: SkeletonMap) -> Calibration:
    """Slopes of foot and toe bones while the foot rests on the floor, one per bone, over all clips of one person.

    A foot rests where it is low and hardly moves. The most frequent slope within 15° of the reference pose's counts,
    so that time on tiptoe or kneeling does not. A bone with too few such frames takes the slope of the other
    side; if neither has enough, both are left out.
    """
    slopes: dict[str, float] = {}
    for name in ("left_ankle", "right_ankle", "left_foot", "right_foot"):
        if name not in skeleton_map.bones:
            continue
        samples, reference_slope = [], 0.0
        for clip in motions:
            reference, motion = split_reference(clip, skeleton_map)
            direction, axis = _reference_vectors(name, reference, skeleton_map)
            reference_slope = float(slope(direction, axis))
            turned = bone_rotations(motion, reference, skeleton_map.bones[name])
            samples.append(slope(turned @ direction, turned @ axis)[_resting(motion, name, skeleton_map)])
        mode = _mode(torch.cat(samples), reference_slope)
        if mode is not None:
            slopes[name] = mode
    for joint in ("ankle", "foot"):
        sides = {side: slopes.get(f"{side}_{joint}") for side in ("left", "right")}
        known = [value for value in sides.values() if value is not None]
        if len(known) == 1:
            slopes |= {f"{side}_{joint}": known[0] for side in sides}
    return Calibration(foot_slope=slopes)


def measure_straight_knees(
    motions: Sequence[Motion], skeleton_map: SkeletonMap, *, calibration: Calibration | None = None
) -> dict[str, float]:
    """Flexion (radians) that the recording shows of each knee ("left", "right") when it is straight.

    Counts frames in which the foot rests, the trunk is upright and the thigh steep: somebody stands on that leg. The
    tenth part of these with the least flexion is taken for straight legs. Recorded joint centres lie ahead of the
    leg's line, by up to 25 degrees and differently for each person and side; standing people hold those values within
    two degrees, so they are no habit of bent knees. A leg with too few such frames takes the value of the other.

    Args:
        motions: the clips of one person.
        skeleton_map: reading of their skeleton.
        calibration: what is known already; the result is what it leaves.
    """
    flexions: dict[str, list[Tensor]] = {"left": [], "right": []}
    for clip in motions:
        body = retarget(clip, skeleton_map, calibration=calibration)
        _, motion = split_reference(clip, skeleton_map)
        upright = body.rotations[:, 0, 1, 1] > _UPRIGHT
        for side, found in flexions.items():
            hip, knee = (body.rotations[:, BODY_JOINTS.index(f"{side}_{joint}")] for joint in ("hip", "knee"))
            flexion = torch.atan2(knee[:, 2, 1], knee[:, 1, 1])
            steep = (body.rotations[:, 0] @ hip)[:, 1, 1] > _STEEP
            stands = _resting(motion, f"{side}_ankle", skeleton_map) & upright & steep
            found.append(flexion[stands & (flexion.abs() > _NO_POSE_RAD)])
    excess: dict[str, float] = {}
    for side, found in flexions.items():
        samples = torch.cat(found)
        if len(samples) >= _FEWEST_FRAMES:
            straight = float(samples.quantile(_STRAIGHT_QUANTILE)) - _STRAIGHT_RAD
            excess[side] = min(max(straight, 0.0), _MOST_EXCESS_RAD)
    if len(excess) == 1:
        (known,) = excess.values()
        excess = {"left": known, "right": known}
    return excess


def _reference_vectors(
    name: str, reference: Motion, skeleton_map: SkeletonMap
) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
    direction = reference_directions(reference, skeleton_map)[name]
    axis = torch.tensor(skeleton_map.bones[name].hinge or T_POSE_HINGES[name]).to(direction)
    return direction, axis / axis.norm()


def _resting(motion: Motion, name: str, skeleton_map: SkeletonMap) -> Tensor:
    """Frames in which both ends of the foot stay where they are, near the lowest they come in the clip."""
    side = name.partition("_")[0]
    rotations, positions = motion.world()
    ankle = motion.index(str(skeleton_map.bones[f"{side}_ankle"].source))
    toe_bone = skeleton_map.bones.get(f"{side}_foot")
    if toe_bone is not None:
        ball = positions[:, motion.index(str(toe_bone.source))]
    else:
        ball = positions[:, ankle] + (rotations[:, ankle] @ motion.tips[ankle, :, None])[..., 0]
    still = torch.ones(motion.num_frames, dtype=torch.bool)
    for point in (positions[:, ankle], ball):
        speed = (point[1:] - point[:-1]).norm(dim=-1) * motion.frame_rate
        still[1:] &= speed < _STILL_M_PER_S
        still &= point[:, 1] < point[:, 1].quantile(0.1) + 0.03
    return still


def _mode(samples: Float[Tensor, "frame"], centre: float) -> float | None:
    samples = samples[(samples - centre).abs() < _SEARCH_RAD]
    if len(samples) < _FEWEST_FRAMES:
        return None
    grid = torch.arange(centre - _SEARCH_RAD, centre + _SEARCH_RAD, _BIN_RAD).to(samples)
    density = torch.exp(-0.5 * ((samples[None] - grid[:, None]) / (2 * _BIN_RAD)) ** 2).sum(dim=1)
    return float(grid[density.argmax()])
