"""The default fit on every family of whole bodies: the open body in the layout of each, fitted to its own keypoints."""

from pathlib import Path

import numpy as np
import pytest
import torch

import vitruvian as vt
from tests.fitting.seen_people import SeenPeople, seen_people
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.saving import save_smplx_npz
from vitruvian.bodies.skeletons import SMPL, SMPLH, SMPLX, Skeleton
from vitruvian.estimation.beliefs import default_prior
from vitruvian.evaluation.metrics import pa_error_mm
from vitruvian.keypoints.people import People

SKELETONS = {"smplx": SMPLX, "smplh": SMPLH, "smpl": SMPL}


def reduced(source: Path, skeleton: Skeleton, folder: Path) -> Path:
    """A file of another family with the same mesh: joints that it lacks give their vertices to the nearest above."""
    with np.load(source) as stored:
        arrays = {key: stored[key] for key in stored.files}
    names = list(skeleton.names)
    target = []
    for joint, name in enumerate(SMPLX.names):
        above = joint
        while SMPLX.names[above] not in names:
            above = SMPLX.parents[above]
        target.append(names.index(SMPLX.names[above]))
        if skeleton is SMPL and name.endswith("index1"):
            target[-1] = names.index(f"{name.split('_')[0]}_hand")
    weights = np.zeros((len(arrays["v_template"]), len(names)), np.float32)
    regressor = np.zeros((len(names), len(arrays["v_template"])), np.float32)
    for joint, row in enumerate(target):
        weights[:, row] += arrays["weights"][:, joint]
        if SMPLX.names[joint] == names[row] or regressor[row].sum() == 0:
            regressor[row] = arrays["J_regressor"][joint]
    parents = np.array(skeleton.parents)
    parents[0] = 2**32 - 1
    path = folder / f"{len(names)}_neutral.npz"
    np.savez(
        path,
        v_template=arrays["v_template"],
        shapedirs=arrays["shapedirs"][:, :, :10],
        posedirs=np.zeros((*arrays["v_template"].shape, 9 * (len(names) - 1)), np.float32),
        J_regressor=regressor,
        weights=weights,
        kintree_table=np.stack((parents, np.arange(len(names)))),
        f=arrays["f"],
    )
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bodies") / "open.npz"
    save_smplx_npz(vt.open_body(num_shape=10, num_expression=10), path)
    return path


@pytest.fixture(scope="module")
def people() -> SeenPeople:
    return seen_people(vt.open_body(num_shape=10, num_expression=10), 2, noise_px=1.0)


@pytest.mark.parametrize("family", ["smpl", "smplh"])
def test_the_default_prior_fits_whole_bodies_of_every_family(
    family: str, source: Path, people: SeenPeople, tmp_path: Path
) -> None:
    body: BodyModel = vt.load_body(family, reduced(source, SKELETONS[family], tmp_path))
    assert default_prior(body) == "flow"
    fits = vt.fit(body, People.in_picture(people.keypoints, people.camera))
    assert fits.prior == ("flow", "flow")
    assert fits.usable.all()
    truth = vt.open_body(num_shape=10).with_shape(people.params.betas[:, :10]).with_pose(people.params.rotations)
    error = pa_error_mm(fits.pose(body).joints[:, :22].double(), truth.joints[:, :22].double())
    assert (error < 110).all()
    posterior = vt.regress(people.keypoints, people.camera)
    torch.testing.assert_close(
        vt.fit(body, people.keypoints, people.camera, start=posterior).params.rotations, fits.params.rotations
    )


def test_a_body_without_face_landmarks_is_fitted(source: Path, people: SeenPeople, tmp_path: Path) -> None:
    with np.load(source) as stored:
        arrays = {key: stored[key] for key in stored.files if "lmk" not in key}
    path = tmp_path / "smplx_neutral.npz"
    np.savez(path, **arrays)
    body = vt.load_body("smplx", path)
    fits = vt.fit(body, people.keypoints, people.camera)
    assert fits.usable.all()
    assert fits.reprojection_parts_px[:, 0].max() < 10
