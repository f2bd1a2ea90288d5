"""Meshes and motion files, read back by other readers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from tests.fitted_people import fitted_people
from tests.tube_body import tube_body
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.skeletons import SMPLX
from vitruvian.data.readers.bvh import read_bvh
from vitruvian.errors import InputError
from vitruvian.exports.files import WRITERS, export
from vitruvian.exports.motion import euler_zxy
from vitruvian.geometry.rotations import axis_angle_to_matrix, geodesic_angle


@pytest.fixture
def body() -> BodyModel:
    return tube_body()


def _one_motion(body: BodyModel, frames: int = 5):
    fits = fitted_people(body, frames)
    same = fits.params.betas[:1].expand(frames, -1)
    quiet = torch.zeros_like(fits.params.expression)
    params = replace(fits.params, betas=same, expression=quiet)
    return replace(fits, params=params, frame=tuple(range(frames)))


@pytest.mark.parametrize("suffix", [".obj", ".ply"])
def test_meshes_stand_upright_on_the_ground(body: BodyModel, suffix: str, tmp_path: Path) -> None:
    fits = fitted_people(body, 2)
    path = export(fits, tmp_path / f"people{suffix}", body=body)
    mesh = trimesh.load(path, process=False)
    expected = fits.pose(body).vertices.reshape(-1, 3).numpy() * [1, -1, -1]
    expected[:, 1] -= expected[:, 1].min()
    assert len(mesh.faces) == 2 * len(body.faces)
    np.testing.assert_allclose(np.asarray(mesh.vertices), expected, atol=2e-6)


def test_amass_motion_poses_the_same_people_z_up(body: BodyModel, tmp_path: Path) -> None:
    fits = _one_motion(body)
    arrays = np.load(export(fits, tmp_path / "motion.npz", body=body, frame_rate=25), allow_pickle=False)
    assert arrays["poses"].shape == (5, 165)
    assert float(arrays["mocap_frame_rate"]) == 25
    rotations = axis_angle_to_matrix(torch.from_numpy(arrays["poses"]).reshape(5, 55, 3))
    shaped = body.with_shape(torch.from_numpy(arrays["betas"]).float())
    again = shaped.with_pose(rotations, torch.from_numpy(arrays["trans"])).vertices
    x, y, z = fits.pose(body).vertices.unbind(-1)
    torch.testing.assert_close(again, torch.stack((x, z, -y), dim=-1), atol=5e-5, rtol=0)


def test_bvh_read_by_the_motion_reader_has_the_same_joints(body: BodyModel, tmp_path: Path) -> None:
    fits = _one_motion(body)
    motion = read_bvh(export(fits, tmp_path / "motion.bvh", body=body, frame_rate=25))
    assert motion.frame_rate == pytest.approx(25)
    positions = motion.world()[1]
    joints = fits.pose(body).joints.double() * torch.tensor([1.0, -1.0, -1.0])
    for row, name in enumerate(SMPLX.names):
        seen = positions[:, motion.index(name)].double()
        torch.testing.assert_close(seen, joints[:, row], atol=2e-5, rtol=0)


def test_bvh_refuses_two_people_at_one_moment(body: BodyModel, tmp_path: Path) -> None:
    fits = replace(fitted_people(body, 2), image=("a.jpg", "a.jpg"))
    with pytest.raises(InputError, match="one person"):
        export(fits, tmp_path / "a.bvh", body=body)


def test_euler_angles_give_back_the_rotation() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(200, 3, generator=generator, dtype=torch.float64)
    vectors = torch.cat((vectors, torch.tensor([[torch.pi / 2, 0, 0], [-torch.pi / 2, 0, 0], [0.0, 0, 0]])))
    R = axis_angle_to_matrix(vectors)
    z, x, y = euler_zxy(R).unbind(-1)
    zero = torch.zeros_like(x)
    about = [axis_angle_to_matrix(torch.stack(v, -1)) for v in ((zero, zero, z), (x, zero, zero), (zero, y, zero))]
    assert geodesic_angle(about[0] @ about[1] @ about[2], R).max() < 1e-6


def test_unknown_suffix_and_nobody(body: BodyModel, tmp_path: Path) -> None:
    fits = fitted_people(body, 1)
    with pytest.raises(InputError, match=r"\.fbx"):
        export(fits, tmp_path / "a.fbx", body=body)
    for suffix in WRITERS:
        with pytest.raises(InputError, match="no fit is usable"):
            export(replace(fits, status=("failed",)), tmp_path / f"a{suffix}", body=body)
    assert list(tmp_path.iterdir()) == []
