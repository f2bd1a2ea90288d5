"""The figures of the priors: areas under ROC curves, spoilt poses, and what the shipped priors must reach."""

from pathlib import Path

import pytest
import torch

from tests.small_archives import write_small_archives
from vitruvian.bodies.open_body import open_body
from vitruvian.data.mocap import load_pose_dataset
from vitruvian.geometry.rotations import exp_so3, geodesic_angle
from vitruvian.priors.joint_limits import JointLimits
from vitruvian.priors.mixture import MixturePrior
from vitruvian.priors.vposer import BODY_POSE_JOINTS, VPoser
from vitruvian.training.prior_figures import (
    past_limit_poses,
    reconstruction_figures,
    roc_auc,
    shuffled_poses,
    vposer_energy,
)


def body_limits() -> JointLimits:
    limits = JointLimits.learnt()
    rows = [row for row, joint in enumerate(limits.joints) if joint in BODY_POSE_JOINTS]
    return JointLimits(limits.reference[rows], limits.lower[rows], limits.upper[rows], BODY_POSE_JOINTS)


def test_area_counts_pairs_in_the_right_order(generator: torch.Generator) -> None:
    real = torch.randint(0, 6, (40,), generator=generator).double()
    spoilt = torch.randint(2, 9, (30,), generator=generator).double()
    pairs = spoilt[None] - real[:, None]
    expected = float(((pairs > 0).double() + 0.5 * (pairs == 0)).mean())
    assert roc_auc(real, spoilt) == pytest.approx(expected)
    assert roc_auc(real, real + 100) == 1
    assert roc_auc(real + 100, real) == 0
    assert roc_auc(torch.zeros(5), torch.zeros(7)) == 0.5


def test_spoilt_poses_are_past_one_limit(generator: torch.Generator) -> None:
    limits = body_limits()
    middle = limits.reference @ exp_so3(0.5 * (limits.lower + limits.upper))
    poses = middle.expand(300, 21, 3, 3)
    spoilt = past_limit_poses(poses, limits, generator=generator)
    changed = geodesic_angle(spoilt, poses) > 1e-3
    assert (changed.sum(1) == 1).all()
    excess = torch.rad2deg(limits.excess(spoilt).abs().amax((1, 2)))
    assert float(excess.min()) > 9.9
    # Turns beyond π come back from the other side, so a few excesses are not what was put in.
    assert float((excess < 40.1).float().mean()) > 0.97


def test_shuffled_poses_keep_every_joint_and_no_pose(generator: torch.Generator) -> None:
    poses = exp_so3(torch.randn(50, 21, 3, generator=generator))
    mixed = shuffled_poses(poses, generator=generator)
    for j in range(21):
        before, after = (x[:, j].flatten(1).sum(1).sort().values for x in (poses, mixed))
        torch.testing.assert_close(after, before)
    assert float((mixed - poses).abs().amax((1, 2, 3)).min()) > 0


def test_reconstruction_errors_are_zero_for_what_the_network_can_express() -> None:
    vposer, body = VPoser.learnt(), open_body()
    latent = torch.zeros(1, vposer.settings.latent)
    poses = vposer.decode(latent)
    for _ in range(5):
        poses = vposer.decode(vposer.encode(poses)[0])
    near = reconstruction_figures(vposer, body, poses)
    far = reconstruction_figures(vposer, body, exp_so3(torch.full((1, 21, 3), 0.5)))
    assert near.joint_mm < 15
    assert near.joint_mm < near.vertex_mm
    assert far.joint_mm > 3 * near.joint_mm


def test_shipped_priors_tell_real_poses_from_spoilt_ones(
    shared_data: Path, tmp_path: Path, generator: torch.Generator
) -> None:
    archives = write_small_archives(shared_data, tmp_path / "archives")
    poses = load_pose_dataset(archives, split="test", cache_dir=tmp_path).rotations[:, 1:]
    spoilt = past_limit_poses(poses, body_limits(), generator=generator)
    vposer, mixture = VPoser.learnt(), MixturePrior.learnt()
    for energy in (lambda p: vposer_energy(vposer, p, residual_rad=0.1), lambda p: -mixture.log_prob(p)):
        assert roc_auc(energy(poses), energy(spoilt)) > 0.8
