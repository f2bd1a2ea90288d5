"""Everyday and rare stances of a body pose, told by simple measures of its trunk and legs."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitruvian.bodies.skeletons import BODY_JOINTS

_ROWS = {name: BODY_JOINTS.index(name) for name in ("left_hip", "right_hip", "left_knee", "right_knee")}


def stances(rotations: Float[Tensor, "pose 22 3 3"]) -> dict[str, Bool[Tensor, "pose"]]:
    """Which poses (root in a world with y up) are of each stance; a pose may be of none.

    - standing: trunk upright, both thighs within 20° of the vertical, both knees bent by less than 20°.
    - walking: upright, thighs within 45°, no knee beyond 75°, and not standing.
    - sitting: upright, both thighs 50 to 110° from hanging down, both knees beyond 45°.
    - ground: the trunk more than 60° from the upright: lying, on all fours, far bent over.
    - acrobatic: the trunk upside down.
    """
    up = _degrees(rotations[:, 0, 1, 1])
    thighs = torch.stack(
        [_degrees((rotations[:, 0] @ rotations[:, _ROWS[f"{side}_hip"]])[:, 1, 1]) for side in ("left", "right")], -1
    )
    knees = torch.stack([_degrees(rotations[:, _ROWS[f"{side}_knee"], 1, 1]) for side in ("left", "right")], -1)
    upright = up < 30
    standing = upright & (thighs < 20).all(-1) & (knees < 20).all(-1)
    return {
        "standing": standing,
        "walking": upright & (thighs < 45).all(-1) & (knees < 75).all(-1) & ~standing,
        "sitting": upright & (thighs > 50).all(-1) & (thighs < 110).all(-1) & (knees > 45).all(-1),
        "ground": (up > 60) & (up <= 110),
        "acrobatic": up > 110,
    }


def with_shares(
    weights: Float[Tensor, "pose"], kinds: dict[str, Bool[Tensor, "pose"]], shares: dict[str, float]
) -> Float[Tensor, "pose"]:
    """Weights of sum one in which each named kind has its share; what is left goes to all other poses.

    Kinds without poses are left out; shares must sum to less than one.
    """
    named = {name: kinds[name] for name in shares if bool(kinds[name].any())}
    rest = ~torch.stack([*named.values(), torch.zeros_like(weights, dtype=torch.bool)]).any(0)
    result = torch.zeros_like(weights)
    left = 1 - sum(shares[name] for name in named)
    for mask, share in [*((mask, shares[name]) for name, mask in named.items()), (rest, left)]:
        if bool(mask.any()):
            result = result + torch.where(mask, share * weights / weights[mask].sum(), 0.0)
    return result / result.sum()


def _degrees(cosine: Tensor) -> Tensor:
    return torch.acos(cosine.clamp(-1, 1)) * (180 / math.pi)
