"""Choose the bank of typical poses from motion capture by clustering."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.data.mocap import PoseDataset
from vitruvian.data.pose_selection import mirror_pose
from vitruvian.priors.pose_bank import PoseBank, without_turn


@dataclass(frozen=True)
class PoseBankConfig:
    """How the bank is chosen.

    Attributes:
        clusters: number of poses, before their mirror images are added.
        rounds: rounds of k-means.
        seed: of the start.
    """

    clusters: int = 512
    rounds: int = 15
    seed: int = 0


def choose_pose_bank(body: BodyModel, poses: PoseDataset, config: PoseBankConfig) -> PoseBank:
    """k-means on the joint positions of the poses without their turn; of each cluster, the pose nearest its centre."""
    generator = torch.Generator().manual_seed(config.seed)
    rotations = poses.rotations.to(body.dtype)
    rotations[:, 0] = without_turn(rotations[:, 0])
    features = torch.cat([_features(body, part) for part in rotations.split(4096)])
    centres = features[torch.randperm(len(features), generator=generator)[: config.clusters]]
    for _ in range(config.rounds):
        nearest = _nearest(features, centres)
        total = torch.zeros_like(centres).index_add(0, nearest, features)
        count = torch.zeros(len(centres), dtype=features.dtype).index_add(0, nearest, torch.ones(len(features)))
        centres = torch.where(count[:, None] > 0, total / count.clamp_min(1)[:, None], centres)
    medoids = _nearest(centres, features)
    chosen = rotations[medoids.unique()]
    return PoseBank(torch.cat((chosen, mirror_pose(chosen))))


def _features(body: BodyModel, rotations: Float[Tensor, "pose 22 3 3"]) -> Float[Tensor, "pose feature"]:
    full = torch.eye(3, dtype=body.dtype).repeat(len(rotations), body.num_joints, 1, 1)
    full[:, :22] = rotations
    joints = body.with_shape().with_pose(full).joints[:, :22]
    return (joints - joints[:, :1]).flatten(1)


def _nearest(points: Float[Tensor, "point feature"], centres: Float[Tensor, "centre feature"]) -> Tensor:
    return torch.cat([torch.cdist(part, centres).argmin(1) for part in points.split(2048)])
