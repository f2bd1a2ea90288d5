"""The staged fit: it finds known bodies, people do not influence each other, and missing evidence is said."""

from dataclasses import replace

import pytest
import torch

from tests.fitting.seen_people import SeenPeople, seen_people
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.open_body import open_body
from vitruvian.errors import InputError
from vitruvian.evaluation.metrics import pa_error_mm
from vitruvian.fitting.config import FitConfig
from vitruvian.fitting.fit import fit_keypoints
from vitruvian.fitting.parts import body_prior
from vitruvian.fitting.solution import Status
from vitruvian.fitting.stages import DEFAULT_SCHEDULE
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.observations import Keypoints


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return open_body()


@pytest.fixture(scope="module")
def people(body: BodyModel) -> SeenPeople:
    return seen_people(body, 6, noise_px=1.0)


def test_a_fit_explains_the_keypoints_and_finds_most_of_the_pose(body: BodyModel, people: SeenPeople) -> None:
    fits = fit_keypoints(body, people.keypoints, people.camera)
    assert (fits.reprojection_px < 4).all()
    assert torch.isin(fits.status, torch.tensor([Status.CONVERGED, Status.ITERATION_LIMIT, Status.STALLED])).all()
    fitted, true = body.pose(fits.params).joints[:, :22], body.pose(people.params).joints[:, :22]
    assert pa_error_mm(fitted, true).median() < 80
    identity = torch.eye(3)
    gram = fits.params.rotations.transpose(-1, -2) @ fits.params.rotations
    torch.testing.assert_close(gram, identity.expand_as(gram), atol=1e-5, rtol=0)


def test_a_start_at_the_truth_ends_no_worse_and_explains_every_pixel(body: BodyModel) -> None:
    people = seen_people(body, 3)
    weak = replace(DEFAULT_SCHEDULE[-1], pose=0.05, shape=0.05)
    costs = []
    for iterations in (0, 15):
        config = FitConfig(schedule=(replace(weak, iterations=iterations),))
        fits = fit_keypoints(body, people.keypoints, people.camera, start=people.params, config=config)
        costs.append(fits.cost)
    assert (costs[1] < costs[0]).all()
    assert (fits.reprojection_px < 1).all()


def test_each_person_is_fitted_as_if_alone(body: BodyModel, people: SeenPeople) -> None:
    together = fit_keypoints(body, people.keypoints, people.camera)
    for row in range(2):
        one = slice(row, row + 1)
        alone = fit_keypoints(body, people.keypoints[one], people.camera[one])
        difference = body.pose(together.params[one]).joints - body.pose(alone.params).joints
        assert difference.abs().max() < 1e-4


def test_chunks_do_not_change_results(body: BodyModel, people: SeenPeople) -> None:
    done: list[int] = []
    config = FitConfig(chunk=4)
    chunked = fit_keypoints(body, people.keypoints, people.camera, config=config, progress=done.append)
    together = fit_keypoints(body, people.keypoints, people.camera)
    assert done == [4, 2]
    assert (body.pose(chunked.params).joints - body.pose(together.params).joints).abs().max() < 1e-4


def test_a_person_without_evidence_or_of_nan_spoils_no_other(body: BodyModel, people: SeenPeople) -> None:
    positions, confidence = people.keypoints.positions.clone(), people.keypoints.confidence.clone()
    positions[1] = torch.nan
    confidence[2] = 0.0
    broken = fit_keypoints(body, Keypoints(positions, confidence, "openpose"), people.camera)
    whole = fit_keypoints(body, people.keypoints, people.camera)
    assert broken.status[1] == broken.status[2] == Status.NO_EVIDENCE
    assert broken.params.rotations.isfinite().all()
    assert broken.reprojection_px[[1, 2]].isnan().all()
    for row in (0, 3):
        difference = body.pose(broken.params).joints[row] - body.pose(whole.params).joints[row]
        assert difference.abs().max() < 1e-4


def test_people_seen_from_the_waist_up_stand_upright(body: BodyModel, people: SeenPeople) -> None:
    """Legs and hips unseen: the trunk stands, and hidden legs hang below it as the prior has them."""
    keypoints = people.keypoints
    hidden = [row for row, name in enumerate(keypoints.definition.places) if _is_lower_body(name)]
    confidence = keypoints.confidence.clone()
    confidence[:, hidden] = 0.0
    fits = fit_keypoints(body, Keypoints(keypoints.positions, confidence, keypoints.format), people.camera)
    up = fits.params.rotations[:, 0, :, 1]
    truly_upright = people.params.rotations[:, 0, 1, 1] < -0.85
    assert truly_upright.sum() >= 3
    assert (up[truly_upright, 1] < -0.7).all()
    joints = body.pose(fits.params).joints
    pelvis, feet = joints[:, 0], joints[:, [7, 8]].mean(1)
    assert (feet[truly_upright, 1] > pelvis[truly_upright, 1]).all()


def _is_lower_body(place: str) -> bool:
    return any(word in place for word in ("hip", "knee", "ankle", "toe", "heel", "foot"))


@pytest.mark.parametrize("name", ["none", "bending", "mixture", "vposer"])
def test_every_prior_fits(body: BodyModel, people: SeenPeople, name: str) -> None:
    two = slice(0, 2)
    fits = fit_keypoints(body, people.keypoints[two], people.camera[two], prior=body_prior(name, body.skeleton))
    assert (fits.reprojection_px < 6).all()


def test_nobody_gives_an_empty_result(body: BodyModel) -> None:
    fits = fit_keypoints(body, Keypoints.empty("openpose"), Camera.from_image_size(100, 100))
    assert fits.params.rotations.shape == (0, 55, 3, 3)
    assert len(fits.status) == 0


def test_wrong_input_is_named(body: BodyModel, people: SeenPeople) -> None:
    with pytest.raises(InputError, match="one person axis"):
        fit_keypoints(body, people.keypoints[0], people.camera)
    with pytest.raises(InputError, match="one camera per person"):
        fit_keypoints(body, people.keypoints, people.camera[:2])
    with pytest.raises(InputError, match="unknown pose prior"):
        body_prior("nonsense", body.skeleton)
