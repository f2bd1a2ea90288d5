"""Figures on held-out subjects that say how good the pose priors are: reconstruction, likelihood, plausibility."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.data.mocap import PoseDataset
from vitruvian.geometry.rotations import exp_so3, geodesic_angle
from vitruvian.priors.joint_limits import JointLimits
from vitruvian.priors.mixture import MixturePrior
from vitruvian.priors.vposer import BODY_POSE_JOINTS, VPoser


@dataclass(frozen=True)
class ReconstructionFigures:
    """Mean errors of decoding the encoder's mean, pelvis in place, on the mean shape of a body."""

    joint_mm: float
    vertex_mm: float
    angle_deg: float


@dataclass(frozen=True)
class PlausibilityFigures:
    """Area under the ROC curve of telling real poses from spoilt ones by a prior's energy; 0.5 is chance.

    Args:
        past_limit: against poses with one joint 10 to 40 degrees past a limit.
        shuffled: against poses whose joints come from different real poses.
    """

    past_limit: float
    shuffled: float


@torch.no_grad()
def reconstruction_figures(
    vposer: VPoser, body: BodyModel, body_pose: Float[Tensor, "pose 21 3 3"]
) -> ReconstructionFigures:
    """Errors of VPoser on given poses, measured on `body`."""
    rebuilt = vposer.decode(vposer.encode(body_pose)[0])
    shaped = body.with_shape()
    joint_errors, vertex_errors = [], []
    for rows in torch.arange(len(body_pose)).split(32):
        posed = [shaped.expand(len(rows)).with_pose(_whole(pose[rows], body)) for pose in (rebuilt, body_pose)]
        joint_errors.append((posed[0].joints[:, :22] - posed[1].joints[:, :22]).norm(dim=-1).mean(dim=-1))
        vertex_errors.append((posed[0].vertices - posed[1].vertices).norm(dim=-1).mean(dim=-1))
    return ReconstructionFigures(
        1000 * float(torch.cat(joint_errors).mean()),
        1000 * float(torch.cat(vertex_errors).mean()),
        math.degrees(float(geodesic_angle(rebuilt, body_pose).mean())),
    )


def _whole(body_pose: Float[Tensor, "pose 21 3 3"], body: BodyModel) -> Float[Tensor, "pose joint 3 3"]:
    rotations = torch.eye(3).to(body_pose).repeat(len(body_pose), len(body.skeleton), 1, 1)
    rotations[:, 1:22] = body_pose
    return rotations


@torch.no_grad()
def vposer_energy(
    vposer: VPoser, body_pose: Float[Tensor, "pose 21 3 3"], *, residual_rad: float
) -> Float[Tensor, "pose"]:
    """½|z|² of the encoded pose, plus what the network cannot express: ½ Σ (angle / residual_rad)²."""
    z = vposer.encode(body_pose)[0]
    angle = geodesic_angle(vposer.decode(z), body_pose)
    return 0.5 * z.square().sum(-1) + 0.5 * (angle / residual_rad).square().sum(-1)


@torch.no_grad()
def residual_scale(vposer: VPoser, validation: PoseDataset) -> float:
    """Root mean square angle (radians) between validation poses and their reconstruction."""
    poses = validation.rotations[:, 1:]
    return float(geodesic_angle(vposer.decode(vposer.encode(poses)[0]), poses).square().mean().sqrt())


def past_limit_poses(
    body_pose: Float[Tensor, "pose 21 3 3"], limits: JointLimits, *, generator: torch.Generator
) -> Float[Tensor, "pose 21 3 3"]:
    """The poses with one turn of one joint, drawn at random, put 10 to 40 degrees past its limit."""
    count = len(body_pose)
    turns = limits.turns(body_pose)
    joint = torch.randint(turns.shape[1], (count,), generator=generator)
    axis = torch.randint(3, (count,), generator=generator)
    upwards = torch.rand(count, generator=generator) < 0.5
    excess = torch.deg2rad(10 + 30 * torch.rand(count, generator=generator)).to(turns)
    rows = torch.arange(count)
    high, low = limits.upper.to(turns)[joint, axis], limits.lower.to(turns)[joint, axis]
    turns[rows, joint, axis] = torch.where(upwards, high + excess, low - excess)
    spoilt = body_pose.clone()
    spoilt[rows, joint] = limits.reference.to(turns)[joint] @ exp_so3(turns[rows, joint])
    return spoilt


def shuffled_poses(
    body_pose: Float[Tensor, "pose 21 3 3"], *, generator: torch.Generator
) -> Float[Tensor, "pose 21 3 3"]:
    """Poses whose joints are real one by one, but come from different poses."""
    columns = [body_pose[torch.randperm(len(body_pose), generator=generator), j] for j in range(body_pose.shape[1])]
    return torch.stack(columns, dim=1)


def roc_auc(real: Float[Tensor, "a"], spoilt: Float[Tensor, "b"]) -> float:
    """Probability that a spoilt pose has the higher energy than a real one, ties counting half."""
    both = torch.cat((real, spoilt)).double()
    _, inverse, counts = both.unique(return_inverse=True, return_counts=True)
    ranks = (counts.cumsum(0) - (counts - 1) / 2)[inverse]
    n, m = len(real), len(spoilt)
    return float((ranks[n:].sum() - m * (m + 1) / 2) / (n * m))


def plausibility_figures(
    vposer: VPoser, mixture: MixturePrior, test: PoseDataset, validation: PoseDataset, *, generator: torch.Generator
) -> dict[str, PlausibilityFigures]:
    """Areas under the ROC curve of VPoser, of the mixture, and of no prior (an energy that is the same for all)."""
    poses = test.rotations[:, 1:]
    names = JointLimits.learnt().joints
    limits = JointLimits.learnt()
    body_rows = [row for row, joint in enumerate(names) if joint in BODY_POSE_JOINTS]
    limits = JointLimits(
        limits.reference[body_rows], limits.lower[body_rows], limits.upper[body_rows], BODY_POSE_JOINTS
    )
    spoilt = past_limit_poses(poses, limits, generator=generator), shuffled_poses(poses, generator=generator)
    scale = residual_scale(vposer, validation)
    energies = {
        "vposer": lambda pose: vposer_energy(vposer, pose, residual_rad=scale),
        "mixture": lambda pose: -mixture.log_prob(pose),
        "none": lambda pose: torch.zeros(len(pose)),
    }
    return {
        name: PlausibilityFigures(*(roc_auc(energy(poses), energy(other)) for other in spoilt))
        for name, energy in energies.items()
    }
