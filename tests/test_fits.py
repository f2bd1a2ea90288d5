"""The record of fitted people and its file."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.fitted_people import fitted_people
from tests.tube_body import tube_body
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.bodies.skeletons import FLAME, MANO_LEFT, MANO_RIGHT, SMPL, SMPLH, SMPLX, Skeleton
from vitruvian.errors import InputError, ModelFileError, OutputError
from vitruvian.fits import Fit, Fits, load_fits
from vitruvian.geometry.cameras import Camera


@pytest.fixture
def body() -> BodyModel:
    return tube_body()


def test_file_has_the_documented_entries(body: BodyModel, tmp_path: Path) -> None:
    path = fitted_people(body, 3).save(tmp_path / "fits.npz")
    with np.load(path, allow_pickle=False) as file:
        shapes = {key: file[key].shape for key in file.files}
        assert all(file[key].dtype == np.float32 for key in file.files if file[key].dtype.kind == "f")
    assert shapes == {
        "global_orient": (3, 3), "body_pose": (3, 21, 3), "jaw_pose": (3, 3), "leye_pose": (3, 3), "reye_pose": (3, 3),
        "left_hand_pose": (3, 15, 3), "right_hand_pose": (3, 15, 3), "betas": (3, 10), "expression": (3, 6),
        "transl": (3, 3), "focal_px": (3, 2), "center_px": (3, 2), "image_size": (3, 2), "image": (3,), "person": (3,),
        "frame": (3,), "status": (3,), "cost": (3,), "reprojection_px": (3,),
        "reprojection_body_px": (3,), "reprojection_hands_px": (3,), "reprojection_face_px": (3,), "picture": (3,),
        "track": (3,), "person_gender": (3,), "source": (3,), "prior": (3,), "verdict": (3,), "reason": (3,),
        "body": (), "gender": (), "version": (),
        "config": (),
    }  # fmt: skip


@pytest.mark.parametrize("people", [0, 1, 3])
def test_saved_fits_come_back(body: BodyModel, tmp_path: Path, people: int) -> None:
    fits = fitted_people(body, people)
    loaded = load_fits(fits.save(tmp_path / "fits.npz"))
    assert len(loaded) == people
    for name in ("status", "image", "person", "frame", "skeleton", "body", "gender", "config"):
        assert getattr(loaded, name) == getattr(fits, name)
    torch.testing.assert_close(loaded.params.rotations, fits.params.rotations, atol=1e-5, rtol=0)
    for name in ("betas", "expression", "transl"):
        torch.testing.assert_close(getattr(loaded.params, name), getattr(fits.params, name))
    torch.testing.assert_close(loaded.camera.focal_px, fits.camera.focal_px)
    torch.testing.assert_close(loaded.pose(body).vertices, fits.pose(body).vertices, atol=2e-5, rtol=0)


@pytest.mark.parametrize("skeleton", [SMPLX, SMPLH, SMPL, FLAME, MANO_LEFT, MANO_RIGHT], ids=lambda s: str(len(s)))
@pytest.mark.parametrize("people", [0, 2])
def test_every_family_comes_back(skeleton: Skeleton, people: int, tmp_path: Path) -> None:
    rotations = torch.eye(3).expand(people, len(skeleton), 3, 3)
    body = {16: f"mano_{skeleton.names[0].split('_')[0]}:1"}.get(len(skeleton), "other:1")
    fits = Fits(
        params=BodyParams(rotations, torch.zeros(people, 10), torch.zeros(people, 0), torch.zeros(people, 3)),
        camera=Camera.from_image_size(10, 10).map(lambda x: x.expand(people, 2)),
        cost=torch.zeros(people),
        reprojection_px=torch.zeros(people),
        status=("stalled",) * people,
        image=("ü.jpg",) * people,
        person=tuple(range(people)),
        frame=(0,) * people,
        skeleton=skeleton,
        body=body,
    )
    loaded = load_fits(fits.save(tmp_path / "fits.npz"))
    assert loaded.skeleton == skeleton
    assert loaded.image == fits.image


def test_indexing(body: BodyModel) -> None:
    fits = replace(fitted_people(body, 4), status=("converged", "failed", "stalled", "no_evidence"))
    assert fits.usable.tolist() == [True, False, True, False]
    assert fits[fits.usable].status == ("converged", "stalled")
    assert fits[[2, 0]].image == ("photo_2.jpg", "photo_0.jpg")
    assert fits[1:3].person == (0, 0)
    assert len(fits[:0]) == 0
    last = fits[-1]
    assert isinstance(last, Fit)
    assert last.status == "no_evidence"
    assert not last.usable
    torch.testing.assert_close(last.params.rotations, fits.params.rotations[3])
    assert [fit.image for fit in fits] == list(fits.image)
    with pytest.raises(IndexError):
        fits[4]


def test_another_body_is_refused(body: BodyModel) -> None:
    with pytest.raises(InputError, match="another body"):
        fitted_people(body, 1).pose(replace(body, skeleton=FLAME, family="flame"))


def test_a_failed_write_leaves_the_old_file(body: BodyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fitted_people(body, 1).save(tmp_path / "fits.npz")
    before = path.read_bytes()

    def full_disk(*args: object, **arrays: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        fitted_people(body, 2).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["fits.npz"]


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 broken"])
def test_files_that_hold_no_fits(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "fits.npz"
    path.write_bytes(content)
    with pytest.raises(ModelFileError):
        load_fits(path)


def test_missing_entries_and_lengths_are_named(body: BodyModel, tmp_path: Path) -> None:
    path = fitted_people(body, 2).save(tmp_path / "fits.npz")
    arrays = dict(np.load(path))
    np.savez(path, **{k: v for k, v in arrays.items() if k != "transl"})
    with pytest.raises(ModelFileError, match="transl"):
        load_fits(path)
    np.savez(path, **{**arrays, "betas": arrays["betas"][:1]})
    with pytest.raises(ModelFileError, match="different lengths"):
        load_fits(path)
    np.savez(path, **{k: v for k, v in arrays.items() if k != "body_pose"})
    with pytest.raises(ModelFileError, match="pose blocks"):
        load_fits(path)


@pytest.mark.parametrize(
    ("key", "change", "words"),
    [
        ("transl", lambda v: v[:, :2], r"'transl'.*\(2, 2\).*\(person, 3\)"),
        ("cost", lambda v: v[0], r"'cost'.*shape \(\)"),
        ("cost", lambda v: np.full(v.shape, np.nan), r"'cost' holds values that are not finite; seen: row 0"),
        ("body_pose", lambda v: np.full(v.shape, np.inf), "'body_pose'.*not finite"),
        ("betas", lambda v: v.astype(np.float64) + 1e300, "'betas'.*not finite"),
        ("person", lambda v: v.astype("U3"), "'person'.*whole numbers"),
        ("frame", lambda v: v.astype(float), "'frame'.*whole numbers"),
        ("status", lambda v: np.array(["converged", "splendid"]), "'status'.*splendid.*iteration_limit"),
        ("status", lambda v: np.arange(2), "'status'.*texts"),
        ("image", lambda v: v[:, None], "'image'.*texts"),
        ("config", lambda v: np.array(3), "'config'.*one text"),
        ("jaw_pose", lambda v: None, "pose blocks"),
    ],
)
def test_wrong_entries_are_refused_by_key_and_shape(
    body: BodyModel, tmp_path: Path, key: str, change: Callable[[np.ndarray], np.ndarray | None], words: str
) -> None:
    path = fitted_people(body, 2).save(tmp_path / "fits.npz")
    arrays = dict(np.load(path))
    changed = change(arrays.pop(key))
    np.savez(path, **arrays, **({} if changed is None else {key: changed}))
    with pytest.raises(ModelFileError, match=words):
        load_fits(path)


def test_people_without_a_fit_may_hold_anything(body: BodyModel, tmp_path: Path) -> None:
    fits = replace(fitted_people(body, 2), status=("converged", "failed"))
    cost = fits.cost.clone()
    cost[1] = torch.nan
    loaded = load_fits(replace(fits, cost=cost).save(tmp_path / "fits.npz"))
    assert loaded.cost.isnan().tolist() == [False, True]


def test_printed_fits_are_short(body: BodyModel) -> None:
    fits = replace(fitted_people(body, 3), status=("converged", "converged", "failed"))
    assert repr(fits).startswith("Fits(3 people in 3 pictures")
    assert "2 converged, 1 failed" in str(fits)
    assert len(str(fits)) < 200
    assert len(str(fits[0])) < 100
    assert "nobody" in repr(fits[:0])
