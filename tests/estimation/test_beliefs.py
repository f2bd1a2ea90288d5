"""What a fit believes before it starts: the flow unless another prior is named; bodies it does not know are refused."""

import pytest
import torch

import vitruvian as vt
from tests.fitting.seen_people import SeenPeople, seen_people
from vitruvian.bodies.loaders import load_body
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.skeletons import BODY_JOINTS, MANO_LEFT
from vitruvian.errors import InputError
from vitruvian.estimation.beliefs import BELOW_THE_CHEST, LEGS, belief_by_name, portraits
from vitruvian.estimation.regress import FLOW_FIT
from vitruvian.keypoints.observations import Keypoints

OTHERS = ("heel", "toe", "thumb", "index", "middle", "ring", "pinky", "hand")


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("open")


@pytest.fixture(scope="module")
def people(body: BodyModel) -> SeenPeople:
    return seen_people(body, 2, noise_px=1.0)


def test_a_fit_from_the_posterior_is_the_default_fit(body: BodyModel, people: SeenPeople) -> None:
    camera = people.camera[0]
    posterior = vt.regress(people.keypoints, camera)
    given = vt.fit(body, people.keypoints, camera, start=posterior)
    default = vt.fit(body, people.keypoints, camera)
    named = vt.fit(body, people.keypoints, camera, prior="flow")
    for other in (default, named):
        torch.testing.assert_close(given.params.rotations, other.params.rotations, atol=1e-4, rtol=0)
    assert (given.reprojection_px < 6).all()


def test_another_prior_gives_another_fit(body: BodyModel, people: SeenPeople) -> None:
    camera = people.camera[0]
    flow, mixture = (vt.fit(body, people.keypoints, camera, prior=name) for name in ("flow", "mixture"))
    assert (flow.params.rotations - mixture.params.rotations).abs().max() > 1e-3
    assert (mixture.reprojection_px < 6).all()


def test_the_flow_comes_with_start_and_settings(body: BodyModel, people: SeenPeople) -> None:
    belief = belief_by_name("flow", body, people.keypoints, people.camera)
    assert belief.config == FLOW_FIT
    assert belief.start is not None
    assert belief.start.rotations.shape == (2, 55, 3, 3)
    assert belief_by_name("mixture", body, people.keypoints, people.camera).start is None


def test_a_hand_has_no_flow(people: SeenPeople) -> None:
    hand = vt.open_body()
    hand = BodyModel(**{**vars(hand), "skeleton": MANO_LEFT, "family": "mano"})
    with pytest.raises(InputError, match="whole bodies only"):
        belief_by_name("flow", hand, people.keypoints, people.camera)


def test_unknown_names_are_refused(body: BodyModel, people: SeenPeople) -> None:
    with pytest.raises(InputError, match="unknown pose prior"):
        vt.fit(body, people.keypoints, people.camera[0], prior="nonsense")


def test_unseen_legs_stand(body: BodyModel, people: SeenPeople) -> None:
    keypoints = people.keypoints
    places = keypoints.definition.places
    hidden = [k for k, place in enumerate(places) if any(part in place for part in (*LEGS, "toe"))]
    confidence = keypoints.confidence.clone()
    confidence[0, hidden] = 0.0
    seen = Keypoints(keypoints.positions, confidence, keypoints.format)
    camera = people.camera[0]
    default, flow = vt.fit(body, seen, camera), vt.fit(body, seen, camera, prior="flow")
    legs = [k for k, name in enumerate(BODY_JOINTS) if any(part in name for part in ("hip", "knee", "ankle", "foot"))]
    others = [k for k in range(body.num_joints) if k not in legs]
    torch.testing.assert_close(default.params.rotations[0, legs], torch.eye(3).expand(len(legs), 3, 3))
    torch.testing.assert_close(default.params.rotations[0, others], flow.params.rotations[0, others])
    torch.testing.assert_close(default.params.rotations[1], flow.params.rotations[1])
    assert (flow.params.rotations[0, legs] - torch.eye(3)).abs().max() > 0.05


def test_a_portrait_stands_with_hanging_arms(body: BodyModel, people: SeenPeople) -> None:
    """Only head and shoulders seen: the person is fitted under the prior that lets the rest hang, others are not."""
    keypoints = people.keypoints
    places = keypoints.definition.places
    hidden = [k for k, place in enumerate(places) if any(part in place for part in (*BELOW_THE_CHEST, *OTHERS))]
    confidence = keypoints.confidence.clone()
    confidence[0, hidden] = 0.0
    seen = Keypoints(keypoints.positions, confidence, keypoints.format)
    assert portraits(seen, min_confidence=0.1).tolist() == [True, False]
    camera = people.camera[0]
    default, flow = vt.fit(body, seen, camera), vt.fit(body, seen, camera, prior="flow")
    hand_set = vt.fit(body, seen, camera, prior="hand-set")
    torch.testing.assert_close(default.params.rotations[0], hand_set.params.rotations[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(default.params.rotations[1], flow.params.rotations[1], atol=1e-4, rtol=0)
