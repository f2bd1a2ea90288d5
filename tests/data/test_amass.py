"""AMASS files of both families are read into the same joints, and brought upright."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vitruvian.bodies.skeletons import SMPLH, SMPLX
from vitruvian.data.readers.amass import read_amass
from vitruvian.errors import InputError
from vitruvian.geometry.rotations import exp_so3, log_so3


def write(path: Path, **arrays: np.ndarray) -> Path:
    base = {"trans": np.array([[0.0, 0.0, 0.9]] * 4), "mocap_framerate": np.array(120.0), "gender": np.array("female")}
    np.savez(path, **(base | arrays))
    return path


def test_smplh_poses_reach_their_joints_by_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    poses = rng.normal(scale=0.3, size=(4, 156))
    read = read_amass(write(tmp_path / "a.npz", poses=poses, betas=np.arange(16.0)))
    vectors = log_so3(read.motion.rotations)
    for name in ("left_elbow", "right_thumb3", "left_index1"):
        row = SMPLH.index(name)
        expected = torch.from_numpy(poses[:, 3 * row : 3 * row + 3])
        torch.testing.assert_close(vectors[:, SMPLX.index(name)], expected)
    assert float(vectors[:, SMPLX.index("jaw")].abs().max()) == 0
    assert read.gender == "female"
    assert len(read.betas) == 16
    assert read.motion.frame_rate == 120


def test_smplx_whole_and_in_parts_agree(tmp_path: Path) -> None:
    poses = np.random.default_rng(1).normal(scale=0.3, size=(4, 165))
    parts = {
        "root_orient": poses[:, :3], "pose_body": poses[:, 3:66], "pose_jaw": poses[:, 66:69],
        "pose_eye": poses[:, 69:75], "pose_hand": poses[:, 75:],
    }  # fmt: skip
    whole = read_amass(write(tmp_path / "a.npz", poses=poses))
    named = read_amass(write(tmp_path / "b.npz", **parts))
    torch.testing.assert_close(whole.motion.rotations, named.motion.rotations)


def test_a_standing_person_stands_up_in_y(tmp_path: Path) -> None:
    # In AMASS, z up: a person whose y axis points to z stands upright.
    poses = np.zeros((4, 165))
    poses[:, 0] = np.pi / 2
    read = read_amass(write(tmp_path / "a.npz", poses=poses))
    torch.testing.assert_close(read.motion.rotations[:, 0], exp_so3(torch.zeros(4, 3).double()), rtol=0, atol=1e-9)
    torch.testing.assert_close(read.motion.root_positions[0], torch.tensor([0.0, 0.9, 0.0]).double())


def test_files_that_are_no_motions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not found"):
        read_amass(tmp_path / "none.npz")
    with pytest.raises(InputError, match="SMPL family"):
        read_amass(write(tmp_path / "a.npz", poses=np.zeros((4, 72))))
    with pytest.raises(InputError, match="another length"):
        read_amass(write(tmp_path / "b.npz", pose_body=np.zeros((4, 63)), pose_jaw=np.zeros((4, 4))))
    np.savez(tmp_path / "c.npz", poses=np.zeros((4, 165)), mocap_framerate=np.array(30.0))
    with pytest.raises(InputError, match="translation"):
        read_amass(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", poses=np.array([{"code": 1}], dtype=object))
    with pytest.raises(InputError, match="AMASS"):
        read_amass(tmp_path / "d.npz")
    (tmp_path / "e.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="AMASS"):
        read_amass(tmp_path / "e.npz")
