"""Hand statistics: mean, principal components and spread of the finger rotations, fitted and read."""

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.assets import packaged_arrays
from vitruvian.errors import InputError
from vitruvian.tensors import TensorRecord


@dataclass(frozen=True, eq=False)
class HandStatistics(TensorRecord):
    """Gaussian over the axis-angle vectors (radians) of the 15 finger joints of one hand, in SMPL-X order."""

    mean: Float[Tensor, "45"]
    components: Float[Tensor, "45 45"]
    std: Float[Tensor, "45"]


def fit_hand_statistics(
    axis_angle: Float[Tensor, "hand 45"],
    weights: Float[Tensor, "hand"],
    *,
    widen: float = 1.15,
    floor_rad: float = 0.07,
) -> HandStatistics:
    """Weighted mean and principal components of finger poses.

    Args:
        axis_angle: finger rotations of one side, radians.
        weights: weight of each hand, any scale.
        widen: factor on every standard deviation, for poses that the data lacks.
        floor_rad: spread added in every direction, so that no joint is held stiff.
    """
    share = weights / weights.sum()
    mean = share @ axis_angle
    offset = axis_angle - mean
    variance, directions = torch.linalg.eigh((offset * share[:, None]).T @ offset)
    variance, directions = variance.flip(0).clamp_min(0), directions.flip(1)
    # Each direction is unique up to its sign: let its largest entry be positive.
    largest = directions.abs().argmax(dim=0)
    directions = directions * torch.sign(directions[largest, torch.arange(len(largest))])
    return HandStatistics(mean, directions.T, (variance * widen**2 + floor_rad**2).sqrt())


def mirror_hand_statistics(statistics: HandStatistics) -> HandStatistics:
    """The same statistics for the other hand: rotation axes are reflected in the plane x = 0."""
    flip = torch.tensor([1.0, -1.0, -1.0]).to(statistics.mean).repeat(15)
    return HandStatistics(statistics.mean * flip, statistics.components * flip, statistics.std)


@cache
def read_hand_statistics(side: str) -> HandStatistics:
    """Statistics of the "left" or "right" hand; the two are mirror images.

    Raises:
        InputError: for another side.
        WeightsError: where the package lacks the file.
    """
    if side not in ("left", "right"):
        raise InputError("unknown side of the body", seen=side, expected="left or right")
    arrays = packaged_arrays("priors", "hands.npz")
    return HandStatistics(*(torch.from_numpy(arrays[f"{side}_{name}"]) for name in ("mean", "components", "std")))
