"""The public fit: what it takes, who is fitted under which belief, and what the rows say of it."""

import json
from dataclasses import replace

import pytest
import torch

import vitruvian as vt
from tests.apps.people_files import true_keypoints
from tests.fitting.seen_people import SeenPeople, seen_people
from vitruvian.apps.demo import IMAGE_SIZE
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.open_body import open_body
from vitruvian.errors import InputError
from vitruvian.estimation.beliefs import BELOW_THE_CHEST
from vitruvian.estimation.regress import FLOW_FIT
from vitruvian.fits import PARTS
from vitruvian.fitting.config import FitConfig
from vitruvian.fitting.levenberg_marquardt import LevenbergMarquardt
from vitruvian.fitting.parts import body_prior
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.people import People, join_people
from vitruvian.keypoints.targets import keypoint_targets

OTHERS = ("heel", "toe", "thumb", "index", "middle", "ring", "pinky", "hand")
CAMERA = Camera.from_image_size(*IMAGE_SIZE)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return open_body(num_shape=10, num_expression=10)


@pytest.fixture(scope="module")
def people(body: BodyModel) -> SeenPeople:
    return seen_people(body, 2, noise_px=1.0)


@pytest.fixture(scope="module")
def portrait(people: SeenPeople) -> Keypoints:
    """The first of two people seen from the chest up only."""
    keypoints = people.keypoints
    places = keypoints.definition.places
    hidden = [k for k, place in enumerate(places) if any(part in place for part in (*BELOW_THE_CHEST, *OTHERS))]
    confidence = keypoints.confidence.clone()
    confidence[0, hidden] = 0.0
    return Keypoints(keypoints.positions, confidence, keypoints.format)


def test_people_and_their_keypoints_give_the_same_fit(body: BodyModel) -> None:
    person = true_keypoints(body)
    fits = vt.fit(body, person, CAMERA)
    same = vt.fit(body, People.in_picture(person, CAMERA, picture="x/a.jpg", frame=3, source="detected"))
    torch.testing.assert_close(fits.params.rotations, same.params.rotations)
    assert (fits.image, same.image, same.picture) == (("",), ("a.jpg",), ("x/a.jpg",))
    assert (same.frame, same.track, same.source) == ((3,), (-1,), ("detected",))
    again = vt.fit(body, person[0], CAMERA, start=fits.params)
    assert float(again.reprojection_px[0]) < 6


def test_what_is_missing_or_wrong_is_named(body: BodyModel) -> None:
    person = true_keypoints(body)
    for unknown in (person, People.in_picture(person, picture="a.jpg"), [person]):
        with pytest.raises(InputError, match="size of the picture"):
            vt.fit(body, unknown)
    for wrong in (3, "photo.jpg", torch.zeros(1, 25, 2), [3]):
        with pytest.raises(InputError, match="no people"):
            vt.fit(body, wrong, CAMERA)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no pictures"):
        vt.fit(body, [], CAMERA)
    with pytest.raises(InputError, match="not a camera"):
        vt.fit(body, person, 1200.0)  # type: ignore[arg-type]


def test_the_flow_by_name_is_the_default(body: BodyModel, portrait: Keypoints, people: SeenPeople) -> None:
    default, named = (vt.fit(body, portrait, people.camera, prior=prior) for prior in (None, "flow"))
    assert torch.equal(default.params.rotations, named.params.rotations)
    assert default.prior == named.prior == ("hand-set, for a portrait", "flow")


def test_a_start_and_a_prior_are_both_honoured_or_refused(body: BodyModel, people: SeenPeople) -> None:
    posterior = vt.regress(people.keypoints, people.camera)
    given = vt.fit(body, people.keypoints, people.camera, start=posterior)
    named = vt.fit(body, people.keypoints, people.camera, start=posterior, prior="flow")
    assert torch.equal(given.params.rotations, named.params.rotations)
    with pytest.raises(InputError, match="prior too"):
        vt.fit(body, people.keypoints, people.camera, start=posterior, prior="mixture")
    with pytest.raises(InputError, match="other people"):
        vt.fit(body, people.keypoints, people.camera, start=posterior[[0]])
    none = FitConfig(schedule=tuple(replace(stage, iterations=0) for stage in FitConfig().schedule))
    for prior in ("mixture", body_prior("hand-set", body.skeleton), None):
        kept = vt.fit(body, people.keypoints, people.camera, start=given.params, prior=prior, config=none)
        # Without a step the body stays; fingers go to the nearest pose that the prior's components can make.
        torch.testing.assert_close(kept.params.rotations[:, :22], given.params.rotations[:, :22], atol=1e-3, rtol=0)
        assert kept.prior == (prior.name if hasattr(prior, "name") else prior or "flow",) * 2


def test_rows_say_which_settings_made_them(body: BodyModel, people: SeenPeople) -> None:
    solver = LevenbergMarquardt(initial_damping=0.5)
    fits = vt.fit(
        body, people.keypoints, people.camera, prior="mixture", config=lambda own: replace(own, solver=solver)
    )
    settings = json.loads(fits.config)["mixture"]
    assert settings["solver"]["name"] == "LevenbergMarquardt"
    assert settings["solver"]["initial_damping"] == 0.5
    assert settings["starts"] == FitConfig().starts
    default = json.loads(vt.fit(body, people.keypoints, people.camera).config)
    assert default["flow"]["sigma_share"] == FLOW_FIT.sigma_share


def test_cost_and_reprojection_belong_to_the_pose_that_is_returned(
    body: BodyModel, portrait: Keypoints, people: SeenPeople
) -> None:
    """For a portrait too: what stands in the row is measured on the row's own body."""
    fits = vt.fit(body, portrait, people.camera)
    targets = keypoint_targets(body, portrait.format).fitted()
    error = people.camera.project(fits.pose(body).points(targets.points)) - portrait.positions[:, targets.keypoint]
    confidence = portrait.confidence[:, targets.keypoint] * (targets.weight > 0)
    distance, groups = error.norm(dim=-1), torch.as_tensor(targets.group)
    for k in range(len(PARTS)):
        rows = torch.stack([groups == g for g in ((0,), (1, 2), (3,))[k]]).any(0)
        weight = confidence * rows
        expected = (weight * distance).sum(-1) / weight.sum(-1)
        # Hips and shoulders may count less in a fit, so the body's mean is theirs only nearly.
        torch.testing.assert_close(
            fits.reprojection_parts_px[:, k], expected, rtol=0.2 if k == 0 else 1e-3, atol=1e-3, equal_nan=True
        )


def test_portraits_and_others_keep_their_rows(body: BodyModel, portrait: Keypoints, people: SeenPeople) -> None:
    """The order of people does not matter: everyone gets the row they had."""
    there = vt.fit(body, portrait, people.camera)
    order = torch.tensor([1, 0])
    back = vt.fit(body, portrait[order], people.camera[order])
    assert back.prior == there.prior[::-1]
    torch.testing.assert_close(back.params.transl[order], there.params.transl, atol=1e-3, rtol=0)


def test_pictures_of_mixed_formats_keep_their_fingers(body: BodyModel) -> None:
    """A picture of bodies alone first: the hands of the second picture are fitted all the same."""
    bodies, whole = true_keypoints(body, "openpose-body25"), true_keypoints(body, "openpose")
    pictures = [People.in_picture(bodies, CAMERA, picture="a"), People.in_picture(whole, CAMERA, picture="b")]
    fits = vt.fit(body, pictures)
    assert torch.isfinite(fits.reprojection_parts_px).tolist() == [[True, False, False], [True, True, True]]
    assert join_people(pictures).format == "openpose"


def test_nobody_gives_no_rows(body: BodyModel) -> None:
    fits = vt.fit(body, People.nobody("openpose"))
    assert len(fits) == 0
    assert fits.reprojection_parts_px.shape == (0, 3)
