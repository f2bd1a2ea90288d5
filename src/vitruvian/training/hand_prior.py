"""Learning the hand prior from recorded signs: statistics of both hands, and how well they describe unseen signs."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.data.hands import left_hand_rotations, mirrored, read_leap_hands
from vitruvian.geometry.rotations import log_so3
from vitruvian.priors.hand_statistics import HandStatistics, fit_hand_statistics, mirror_hand_statistics

HELD_OUT_SIGNS = ("father", "fever", "good luck", "help", "hi", "seven", "three", "hundred")


@dataclass(frozen=True)
class HandPriorConfig:
    """Options of learning the hand prior."""

    shared_data: Path
    """Folder that holds hands_leap_signs.npz."""
    output: Path
    """The .npz file to write."""
    widen: float = 1.15
    """Factor on every standard deviation: number signs are over-represented in the data."""
    floor_rad: float = 0.07
    """Spread added in every direction."""


@dataclass(frozen=True)
class HandPriorReport:
    """Figures on signs that were not learnt from."""

    num_train: int
    num_held_out: int
    reconstruction_deg: dict[int, float]
    """Mean angle per joint between a held-out hand and its projection, by number of components."""
    log_likelihood: float
    """Mean natural logarithm of the density of held-out hands (45 numbers, radians)."""
    log_likelihood_isotropic: float
    """The same under one variance for all 45 numbers, for comparison."""
    explained_variance: dict[int, float]


def learn_hand_prior(config: HandPriorConfig) -> HandPriorReport:
    """Fit the statistics on the training signs, every sign with the same weight, and write them for both sides."""
    recordings = read_leap_hands(config.shared_data / "hands_leap_signs.npz")
    as_left = torch.where(recordings.is_left[:, None, None, None], recordings.joints, mirrored(recordings.joints))
    poses = log_so3(left_hand_rotations(as_left)).flatten(-2)
    held_out = torch.from_numpy(np.isin(recordings.signs, HELD_OUT_SIGNS))
    _, inverse, counts = np.unique(recordings.signs, return_inverse=True, return_counts=True)
    weights = torch.from_numpy(1.0 / counts[inverse])
    left = fit_hand_statistics(poses[~held_out], weights[~held_out], widen=config.widen, floor_rad=config.floor_rad)
    write_hand_statistics(left, config.output)
    return _report(left, poses[~held_out], poses[held_out], weights[held_out])


def write_hand_statistics(left: HandStatistics, path: Path) -> None:
    """Write both sides, float32, as one .npz file."""
    sides = {"left": left, "right": mirror_hand_statistics(left)}
    arrays = {
        f"{side}_{name}": getattr(statistics, name).to(torch.float32).numpy()
        for side, statistics in sides.items()
        for name in ("mean", "components", "std")
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


def _report(
    statistics: HandStatistics, train: Float[Tensor, "n 45"], test: Float[Tensor, "m 45"], weights: Float[Tensor, "m"]
) -> HandPriorReport:
    share = weights / weights.sum()
    offset = test - statistics.mean
    errors = {}
    for count in (6, 12, 24):
        basis = statistics.components[:count]
        rest = (offset - offset @ basis.T @ basis).unflatten(-1, (15, 3)).norm(dim=-1).mean(dim=-1)
        errors[count] = math.degrees(float(share @ rest))
    scaled = offset @ statistics.components.T / statistics.std
    constant = 22.5 * math.log(2 * math.pi)
    density = -0.5 * scaled.square().sum(-1) - statistics.std.log().sum() - constant
    single = (train - statistics.mean).square().mean().sqrt()
    flat = -0.5 * (offset / single).square().sum(-1) - 45 * single.log() - constant
    total = statistics.std.square().sum()
    explained = {c: float(statistics.std[:c].square().sum() / total) for c in (6, 12, 24)}
    return HandPriorReport(len(train), len(test), errors, float(share @ density), float(share @ flat), explained)
