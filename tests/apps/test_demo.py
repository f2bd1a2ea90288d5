"""The demonstration: its person, its error measure, and the whole run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.fitted_people import fitted_people
from vitruvian.apps.demo import (
    IMAGE_SIZE,
    RENDERED,
    TruePerson,
    errors_of,
    natural_person,
    run_demo,
    sample_photograph,
)
from vitruvian.apps.fit_config import Demo
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.open_body import open_body
from vitruvian.bodies.params import BodyParams
from vitruvian.errors import OutputError
from vitruvian.geometry.cameras import Camera


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return open_body()


def test_the_rendered_person_is_upright_and_whole_in_the_picture(body: BodyModel) -> None:
    person = natural_person(body)
    pixels = Camera.from_image_size(*IMAGE_SIZE).project(person.vertices)
    margin = 20
    assert (pixels > margin).all()
    assert (pixels < torch.tensor(IMAGE_SIZE) - margin).all()
    assert float(pixels[:, 1].max() - pixels[:, 1].min()) > 0.6 * IMAGE_SIZE[1]
    head, foot = (person.joints[body.skeleton.index(name)] for name in ("head", "left_foot"))
    assert float(foot[1] - head[1]) > 1.2


def test_the_error_is_that_of_the_rendered_person_alone(body: BodyModel) -> None:
    person = natural_person(body)
    truth = TruePerson(person, Camera.from_image_size(*IMAGE_SIZE), np.zeros((1, 1, 3), np.uint8))
    shaped = person.shaped
    params = BodyParams(
        person.rotations[None], shaped.betas[None], torch.zeros(1, body.num_expression), person.transl[None]
    )
    fits = replace(fitted_people(body, 1), params=params, image=(RENDERED,))
    assert errors_of(truth, fits, body)[RENDERED] < 0.01
    moved = replace(fits, params=replace(params, transl=params.transl + 3))
    assert errors_of(truth, moved, body)[RENDERED] < 0.01  # alignment takes the place out
    bent = params.rotations.clone()
    bent[0, body.skeleton.index("left_knee")] = torch.eye(3)
    assert errors_of(truth, replace(fits, params=replace(params, rotations=bent)), body)[RENDERED] > 2
    assert errors_of(truth, replace(fits, image=("other.jpg",)), body) == {}
    assert errors_of(truth, replace(fits, status=("failed",)), body) == {}


def test_the_photograph_comes_with_the_installation() -> None:
    pytest.importorskip("matplotlib")
    assert sample_photograph().is_file()


def test_unwritable_output(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError):
        run_demo(Demo(out=tmp_path / "out"))


@pytest.mark.slow
def test_the_whole_demonstration(tmp_path: Path) -> None:
    for package in ("mitsuba", "mediapipe", "ai_edge_litert", "matplotlib"):
        pytest.importorskip(package)
    outcome = run_demo(Demo(out=tmp_path))
    assert outcome.exit_code == 0
    assert outcome.fits.image == ("grace_hopper.jpg", RENDERED)
    assert outcome.truth_error_mm[RENDERED] < 80
    for name in ("fits.npz", "report.html", "meshes/grace_hopper.glb", "overlays/rendered_person.png"):
        assert (tmp_path / name).stat().st_size > 1000
