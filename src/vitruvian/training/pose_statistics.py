"""Learning the pose mixture and the joint limits from motion capture and hand recordings."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.skeletons import BODY_JOINTS, SMPLX, hand_joints
from vitruvian.data.hands import left_hand_rotations, mirrored, read_leap_hands
from vitruvian.data.mocap import PoseDataset, load_pose_dataset
from vitruvian.data.pose_selection import mirror_pose
from vitruvian.geometry.rotations import log_so3
from vitruvian.priors.joint_limits import TEXTBOOK_DEG, JointLimits, save_limits
from vitruvian.priors.mixture import MixturePrior, fit_mixture, mean_rotations


@dataclass(frozen=True)
class PoseStatisticsConfig:
    """Options of learning the mixture and the joint limits."""

    shared_data: Path
    """Folder with the motion capture archives and the hand recordings."""
    output: Path
    """Folder for mixture.npz and joint_limits.npz."""
    num_components: int = 8
    floor_rad: float = 0.06
    """Spread added to the mixture in every direction: the recordings hold some turns quite still."""
    rounds: int = 40
    starts: int = 2
    """Starts of EM, of which the one with the best likelihood on the validation subjects is kept."""
    tail: float = 0.002
    """Share of the poses beyond each joint limit, on either side, before widening."""
    widen_deg: float = 10.0
    """Widening of each joint limit."""
    least_width_deg: float = 8.0
    """Least distance of a limit from the mean rotation."""


@dataclass(frozen=True)
class PoseStatisticsReport:
    """Mean log-likelihood (natural logarithm, 63 numbers in radians) of the mixture and of one Gaussian."""

    train: float
    validation: float
    validation_one_gaussian: float
    num_train: int


def learn_pose_statistics(config: PoseStatisticsConfig) -> PoseStatisticsReport:
    """Fit and write the mixture (half of the training poses mirrored) and the limits (all poses and mirror images)."""
    train = load_pose_dataset(config.shared_data, split="train")
    validation = load_pose_dataset(config.shared_data, split="val")
    config.output.mkdir(parents=True, exist_ok=True)
    best: tuple[float, float, MixturePrior] | None = None
    rotations, weights = train.rotations.double(), train.frame_weights().double()
    rotations[1::2] = mirror_pose(rotations[1::2])
    rotations = rotations[:, 1:]
    for seed in range(config.starts):
        fit = fit_mixture(
            rotations, weights, num_components=config.num_components, floor_rad=config.floor_rad,
            rounds=config.rounds, generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
        score = mean_log_likelihood(fit.prior, validation)
        if best is None or score > best[0]:
            best = (score, fit.log_likelihoods[-1], fit.prior)
    assert best is not None
    single = fit_mixture(
        rotations, weights, num_components=1, floor_rad=config.floor_rad, rounds=1, generator=torch.Generator()
    )
    best[2].save(config.output / "mixture.npz")
    both = load_pose_dataset(config.shared_data, split="train", mirrored=True)
    save_limits(learn_limits(config, both), config.output / "joint_limits.npz")
    return PoseStatisticsReport(best[1], best[0], mean_log_likelihood(single.prior, validation), len(train))


def mean_log_likelihood(prior: MixturePrior, data: PoseDataset) -> float:
    """Mean over poses, weighted as in training."""
    density = prior.log_prob(data.rotations[:, 1:].to(prior.means))
    return float((data.frame_weights().to(density) * density).mean())


def learn_limits(config: PoseStatisticsConfig, train: PoseDataset) -> JointLimits:
    """Boxes from quantiles of the data, widened, and made to hold the textbook ranges, for all joints but the root."""
    rotations = train.rotations.double()
    weights = train.subject_weights().double()
    samples = {name: (rotations[:, j], weights) for j, name in enumerate(BODY_JOINTS) if j}
    recordings = read_leap_hands(config.shared_data / "hands_leap_signs.npz")
    left = torch.where(recordings.is_left[:, None, None, None], recordings.joints, mirrored(recordings.joints))
    fingers = left_hand_rotations(left)
    ones = torch.ones(len(fingers), dtype=torch.float64)
    samples |= {name: (fingers[:, j], ones) for j, name in enumerate(hand_joints("left"))}
    tables = {name: _box(config, *sample) for name, sample in samples.items() if name not in TEXTBOOK_DEG}
    # Textbook ranges are about the rest pose, so a joint that has them is described about the rest pose.
    identity = torch.eye(3, dtype=torch.float64)
    for name, ranges in TEXTBOOK_DEG.items():
        lower, upper = torch.tensor(ranges, dtype=torch.float64).T * math.pi / 180
        if name in samples:
            _, low, high = _box(config, *samples[name], reference=identity)
            lower, upper = torch.minimum(low, lower), torch.maximum(high, upper)
        tables[name] = (identity, lower, upper)
    # Frames with a knee at the stop of the recording software lie past straight once knees are calibrated.
    reference, lower, upper = tables["left_knee"]
    lower[0] = lower[0].clamp_min(-float(log_so3(reference)[0]) - math.radians(config.widen_deg))
    for name in [name for name in tables if name.startswith("left")]:
        tables["right" + name.removeprefix("left")] = _mirrored(*tables[name])
    names = [name for name in SMPLX.names if name in tables]
    reference, lower, upper = (torch.stack([tables[name][column] for name in names]) for column in range(3))
    return JointLimits(reference, lower, upper, tuple(SMPLX.index(name) for name in names))


def _box(
    config: PoseStatisticsConfig,
    rotations: Float[Tensor, "pose 3 3"],
    weights: Float[Tensor, "pose"],
    *,
    reference: Float[Tensor, "3 3"] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Reference rotation (the mean unless given), least and largest turn from it about each axis."""
    if reference is None:
        reference = mean_rotations(rotations[:, None], weights)[0]
    turns = log_so3(reference.T @ rotations)
    widen, least = math.radians(config.widen_deg), math.radians(config.least_width_deg)
    order = turns.argsort(dim=0)
    share = weights[order].cumsum(dim=0) / weights.sum()
    tails = (config.tail, 1 - config.tail)
    ranks = [torch.searchsorted(share.T.contiguous(), torch.full((3, 1), tail).double()).T for tail in tails]
    low, high = (turns.gather(0, order).gather(0, rank.clamp_max(len(turns) - 1))[0] for rank in ranks)
    return reference, (low - widen).clamp_max(-least), (high + widen).clamp_min(least)


def _mirrored(reference: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The range of the other side: turns about y and z change their sign, and so do their bounds."""
    flip = torch.tensor([1.0, -1.0, -1.0]).to(lower)
    bounds = torch.stack((flip * lower, flip * upper))
    return flip[:, None] * reference * flip, bounds.amin(dim=0), bounds.amax(dim=0)
