"""The pose data set: choice of frames, mirror images, splits, cache; on a few recorded clips."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.small_archives import write_small_archives
from vitruvian.bodies.skeletons import BODY_JOINTS
from vitruvian.data import mocap
from vitruvian.data.mocap import load_pose_dataset, split_of
from vitruvian.data.pose_selection import (
    distinct_frames,
    mirror_pose,
    plausible_frames,
    represented_frames,
    with_moving_collars,
)
from vitruvian.data.t_pose import nominal_joints, pose_joints
from vitruvian.errors import InputError
from vitruvian.geometry.rotations import exp_so3, geodesic_angle


@pytest.fixture(scope="module")
def archives(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_archives(shared_data, tmp_path_factory.mktemp("archives"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def random_poses(generator: torch.Generator, count: int = 6) -> torch.Tensor:
    return exp_so3(0.4 * torch.randn(count, 22, 3, generator=generator, dtype=torch.float64))


def test_mirroring_twice_changes_nothing_and_mirrors_the_joints(generator: torch.Generator) -> None:
    poses = random_poses(generator)
    mirrored = mirror_pose(poses)
    torch.testing.assert_close(mirror_pose(mirrored), poses)
    others = [n.replace("left", "#").replace("right", "left").replace("#", "right") for n in BODY_JOINTS]
    swap = [BODY_JOINTS.index(name) for name in others]
    flipped = pose_joints(poses[:, 1:])[:, swap] * torch.tensor([-1.0, 1, 1], dtype=torch.float64)
    torch.testing.assert_close(pose_joints(mirrored[:, 1:]), flipped)


def test_moving_collars_keep_the_arms_in_the_world(generator: torch.Generator) -> None:
    poses = random_poses(generator)
    poses[:, [BODY_JOINTS.index(f"{side}_collar") for side in ("left", "right")]] = torch.eye(3, dtype=torch.float64)
    moved = with_moving_collars(poses)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        collar, shoulder = BODY_JOINTS.index(f"{side}_collar"), BODY_JOINTS.index(f"{side}_shoulder")
        torch.testing.assert_close(moved[:, collar] @ moved[:, shoulder], poses[:, collar] @ poses[:, shoulder])
        rise = sign * moved[:, collar, 1, 0]
        lift = sign * poses[:, shoulder, 1, 0]
        assert (rise * lift > 0).all()  # the collar rises with the arm
    torch.testing.assert_close(mirror_pose(moved), with_moving_collars(mirror_pose(poses)))


def test_glitches_are_found(generator: torch.Generator) -> None:
    still = torch.eye(3, dtype=torch.float64).repeat(12, 22, 1, 1)
    assert plausible_frames(still, 30).all()
    jump = still.clone()
    jump[5, BODY_JOINTS.index("head")] = exp_so3(torch.tensor([0.0, 0.9, 0.0]).double())
    assert plausible_frames(jump, 30).tolist() == [True] * 4 + [False] * 3 + [True] * 5
    knee = still.clone()
    knee[:, BODY_JOINTS.index("left_knee")] = exp_so3(torch.tensor([-0.4, 0.0, 0.0]).double())
    assert not plausible_frames(knee, 30).any()
    neck = still.clone()
    neck[:, BODY_JOINTS.index("neck")] = exp_so3(torch.tensor([0.0, math.radians(80), 0.0]).double())
    assert not plausible_frames(neck, 30).any()
    turned = still.clone()
    turned[:, 0] = exp_so3(torch.tensor([0.0, 3.0, 0.0]).double())
    assert plausible_frames(turned, 30).all()


def test_distinct_frames_are_apart_and_cover_the_rest(generator: torch.Generator) -> None:
    steps = 0.02 * torch.randn(80, 21, 3, generator=generator, dtype=torch.float64)
    poses = exp_so3(steps.cumsum(0))
    rows, bank = distinct_frames(poses, 0.03)
    positions = pose_joints(poses).flatten(1)
    chosen = torch.cdist(positions[rows], positions[rows]) / math.sqrt(22)
    chosen.fill_diagonal_(1)
    assert 1 < len(rows) < 80
    assert float(chosen.min()) > 0.03
    assert float((torch.cdist(positions, positions[rows]).amin(1) / math.sqrt(22)).max()) <= 0.03 + 1e-6
    again, same = distinct_frames(poses, 0.03, kept=bank)
    assert len(again) == 0
    assert len(same) == len(bank)


def test_kept_poses_stand_for_all_frames_once(generator: torch.Generator) -> None:
    poses = random_poses(generator, 5)[:, 1:]
    frames = torch.cat((poses[:1].expand(7, -1, -1, -1), poses[1:2].expand(2, -1, -1, -1), poses[2:]))
    rows, bank = distinct_frames(frames, 0.02)
    assert represented_frames(frames, bank).tolist() == [7.0, 2.0, 1.0, 1.0, 1.0]
    assert len(rows) == 5


def test_frame_weights_give_back_what_thinning_took() -> None:
    subjects = np.array(["a", "a", "b", "b", "b", "b"])
    frames = torch.tensor([9.0, 1.0, 4.0, 4.0, 4.0, 4.0])
    data = mocap.PoseDataset(torch.zeros(6, 22, 3), subjects, subjects, frames)
    weights = data.frame_weights()
    assert float(weights[0] / weights[1]) == pytest.approx(3)
    totals = weights[:2].sum(), weights[2:].sum()
    assert float(totals[1] / totals[0]) == pytest.approx(2**0.5)
    assert float(weights.mean()) == pytest.approx(1)


def test_nominal_skeleton_is_a_person() -> None:
    joints = nominal_joints()
    torch.testing.assert_close(joints[0], torch.zeros(3, dtype=torch.float64))
    height = joints[BODY_JOINTS.index("head"), 1] - joints[BODY_JOINTS.index("left_foot"), 1]
    assert 1.4 < float(height) < 1.7
    assert joints[BODY_JOINTS.index("left_wrist"), 0] > 0 > joints[BODY_JOINTS.index("right_wrist"), 0]


def test_splits_are_by_subject_and_cached(archives: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_pose_dataset(archives, cache_dir=cache)
    monkeypatch.setattr(mocap, "build_pose_dataset", lambda directory: pytest.fail("the cache was not used"))
    parts = {split: load_pose_dataset(archives, split=split, cache_dir=cache) for split in ("train", "val", "test")}
    assert sum(len(part) for part in parts.values()) == len(whole)
    for split, part in parts.items():
        assert len(part) > 5
        assert {split_of(str(s)) for s in part.subjects} == {split}
    assert set(parts["test"].subjects) == {"02"}
    assert set(parts["val"].subjects) == {"09", "13"}
    assert set(parts["train"].subjects) == {"14", "35", "unnamed-running"}


def test_poses_are_distinct_rotations_of_people_upright(archives: Path, cache: Path) -> None:
    data = load_pose_dataset(archives, cache_dir=cache)
    assert data.axis_angle.dtype == torch.float32
    assert data.axis_angle.shape[1:] == (22, 3)
    up = data.rotations[:, 0, 1, 1]
    assert float(up.quantile(0.1)) > 0.5
    for subject in np.unique(data.subjects):
        poses = data.rotations[torch.from_numpy(data.subjects == subject), 1:]
        rows, _ = distinct_frames(poses, 0.98 * mocap.SPACING_M)
        assert len(rows) == len(poses)


def test_mirrored_set_is_symmetric_and_limits_hold(archives: Path, cache: Path) -> None:
    data = load_pose_dataset(archives, cache_dir=cache, split="train")
    both = load_pose_dataset(archives, cache_dir=cache, split="train", mirrored=True)
    assert len(both) == 2 * len(data)
    torch.testing.assert_close(both.rotations[: len(data)], data.rotations)
    assert float(geodesic_angle(both.rotations[len(data) :], mirror_pose(data.rotations)).max()) < 1e-3
    few = load_pose_dataset(archives, cache_dir=cache, split="train", max_per_subject=7)
    _, counts = np.unique(few.subjects, return_counts=True)
    assert counts.max() == 7


def test_weights_level_the_subjects(archives: Path, cache: Path) -> None:
    data = load_pose_dataset(archives, cache_dir=cache, split="train")
    weights = data.subject_weights(power=0.0)
    totals = [float(weights[torch.from_numpy(data.subjects == s)].sum()) for s in np.unique(data.subjects)]
    assert max(totals) == pytest.approx(min(totals), rel=1e-4)
    assert float(weights.mean()) == pytest.approx(1, rel=1e-5)


def test_missing_and_broken_archives_are_named(archives: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cmu_bvh_30hz"):
        load_pose_dataset(tmp_path)
    for name in mocap.ARCHIVES:
        (tmp_path / name).write_bytes(b"no archive")
    with pytest.raises(InputError, match="broken archive"):
        load_pose_dataset(tmp_path, cache_dir=tmp_path)
