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
from vitruvian.exports.files import MOTION_SUFFIXES, WRITERS, export
from vitruvian.exports.motion import euler_zxy
from vitruvian.exports.sequences import missing_frames, one_motion
from vitruvian.fits import Fits
from vitruvian.geometry.rotations import axis_angle_to_matrix, geodesic_angle


@pytest.fixture
def body() -> BodyModel:
    return tube_body()


def _one_motion(body: BodyModel, frames: int = 5) -> Fits:
    """One person of one shape in as many poses as frames; neighbours in time differ."""
    fits = fitted_people(body, frames)
    same = fits.params.betas[:1].expand(frames, -1)
    quiet = torch.zeros_like(fits.params.expression)
    params = replace(fits.params, betas=same, expression=quiet)
    return replace(fits, params=params, frame=tuple(range(frames)))


def _two_tracks(body: BodyModel, frames: int = 4) -> Fits:
    """Two people followed through the same frames, their rows mixed as a tracker writes them."""
    rows = [row for frame in range(frames) for row in (2 * frame, 2 * frame + 1)]
    fits = fitted_people(body, 2 * frames)
    return replace(
        fits,
        picture=tuple(f"clip/{row // 2:04d}.jpg" for row in rows),
        frame=tuple(row // 2 for row in rows),
        person=tuple(row % 2 for row in rows),
        track=tuple((7, 3)[row % 2] for row in rows),
    )


def _frames_in(path: Path) -> int:
    if path.suffix == ".npz":
        return len(np.load(path, allow_pickle=False)["poses"])
    return len(read_bvh(path).world()[1])


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


@pytest.mark.parametrize("suffix", MOTION_SUFFIXES)
class TestMotionFiles:
    """What every format of motion promises about whose frames it holds."""

    def test_people_of_one_photograph_are_no_motion(self, body: BodyModel, suffix: str, tmp_path: Path) -> None:
        fits = replace(fitted_people(body, 2), picture=("a.jpg", "a.jpg"), person=(0, 1))
        with pytest.raises(InputError, match=r"one person.*2 people at 1 moment;"):
            export(fits, tmp_path / f"a{suffix}", body=body)
        assert _frames_in(export(fits[[1]], tmp_path / f"a{suffix}", body=body)) == 1

    def test_pictures_of_equal_names_in_two_folders_are_two(self, body: BodyModel, suffix: str, tmp_path: Path) -> None:
        fits = replace(fitted_people(body, 2), image=("a.jpg", "a.jpg"), picture=("x/a.jpg", "y/a.jpg"))
        assert _frames_in(export(fits, tmp_path / f"a{suffix}", body=body)) == 2

    def test_several_tracks_are_refused_and_each_can_be_chosen(
        self, body: BodyModel, suffix: str, tmp_path: Path
    ) -> None:
        fits = _two_tracks(body)
        with pytest.raises(InputError, match=r"one of the tracks 3, 7.*--track"):
            export(fits, tmp_path / f"a{suffix}", body=body)
        files = []
        for track, rows in ((7, [0, 2, 4, 6]), (3, [1, 3, 5, 7])):
            chosen = export(fits, tmp_path / f"track{suffix}", body=body, track=track).read_bytes()
            assert chosen == export(fits[rows], tmp_path / f"rows{suffix}", body=body).read_bytes()
            files.append(chosen)
        assert files[0] != files[1]
        with pytest.raises(InputError, match="no such track"):
            export(fits, tmp_path / f"a{suffix}", body=body, track=5)
        with pytest.raises(InputError, match="nobody was followed"):
            export(_one_motion(body), tmp_path / f"a{suffix}", body=body, track=0)

    def test_one_track_may_not_be_in_two_places(self, body: BodyModel, suffix: str, tmp_path: Path) -> None:
        fits = replace(_one_motion(body, 3), track=(1, 1, 1), frame=(0, 1, 1))
        with pytest.raises(InputError, match="3 people at 2 moments"):
            export(fits, tmp_path / f"a{suffix}", body=body)

    def test_rows_are_ordered_by_frame(self, body: BodyModel, suffix: str, tmp_path: Path) -> None:
        fits = _one_motion(body)
        mixed = export(fits[[3, 0, 4, 1, 2]], tmp_path / f"mixed{suffix}", body=body)
        assert mixed.read_bytes() == export(fits, tmp_path / f"ordered{suffix}", body=body).read_bytes()

    @pytest.mark.parametrize("frame_rate", [0.0, -25.0, float("nan"), float("inf")])
    def test_impossible_frame_rates_are_refused(
        self, body: BodyModel, suffix: str, frame_rate: float, tmp_path: Path
    ) -> None:
        with pytest.raises(InputError, match="frame rate"):
            export(_one_motion(body), tmp_path / f"a{suffix}", body=body, frame_rate=frame_rate)
        assert list(tmp_path.iterdir()) == []


def test_frames_without_a_fit_are_named(body: BodyModel, tmp_path: Path) -> None:
    fits = replace(_one_motion(body, 7), status=("failed", "converged", "failed", "failed", *("converged",) * 3))
    motion = one_motion(fits)
    assert motion.frame == (1, 4, 5, 6)
    assert missing_frames(motion) == (2, 3)
    assert missing_frames(one_motion(_one_motion(body))) == ()
    with np.load(export(fits, tmp_path / "motion.npz", body=body), allow_pickle=False) as arrays:
        assert arrays["frame"].tolist() == [1, 4, 5, 6]


@pytest.mark.parametrize("family", ["open", "smplx"])
def test_amass_says_whose_shapes_the_betas_are(body: BodyModel, family: str, tmp_path: Path) -> None:
    body = replace(body, family=family)
    path = export(_one_motion(body), tmp_path / "motion.npz", body=body)
    with np.load(path, allow_pickle=False) as arrays:
        assert str(arrays["shape_space"]) == f"{family}:{body.digest}"
        assert str(arrays["surface_model_type"]) == "smplx", "the tree that the poses are of"
        assert ("note" in arrays) == (family == "open")


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
