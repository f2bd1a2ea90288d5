"""What a fit believes before it starts: the flow unless another prior is named; bodies it does not know are refused."""

import pytest
import torch

import vitruvian as vt
from tests.fitting.seen_people import SeenPeople, seen_people
from vitruvian.bodies.loaders import load_body
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.skeletons import MANO_LEFT
from vitruvian.errors import InputError
from vitruvian.estimation.beliefs import BELOW_THE_CHEST, assign_beliefs, belief_by_name, portraits
from vitruvian.estimation.regress import FLOW_FIT
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.people import People

OTHERS = ("heel", "toe", "thumb", "index", "middle", "ring", "pinky", "hand")


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("open")


@pytest.fixture(scope="module")
def people(body: BodyModel) -> People:
    seen: SeenPeople = seen_people(body, 2, noise_px=1.0)
    return People.in_picture(seen.keypoints, seen.camera)


def hidden(people: People, words: tuple[str, ...]) -> People:
    """The same people, but these places of the first one are not seen."""
    keypoints = people.keypoints
    rows = [k for k, place in enumerate(keypoints.definition.places) if any(word in place for word in words)]
    confidence = keypoints.confidence.clone()
    confidence[0, rows] = 0.0
    return People.in_picture(Keypoints(keypoints.positions, confidence, keypoints.format), people.camera)


def test_a_fit_from_the_posterior_is_the_default_fit(body: BodyModel, people: People) -> None:
    given = vt.fit(body, people, start=vt.regress(people))
    default = vt.fit(body, people)
    torch.testing.assert_close(given.params.rotations, default.params.rotations, atol=1e-4, rtol=0)
    assert (given.reprojection_px < 6).all()


def test_another_prior_gives_another_fit(body: BodyModel, people: People) -> None:
    flow, mixture = (vt.fit(body, people, prior=name) for name in ("flow", "mixture"))
    assert (flow.params.rotations - mixture.params.rotations).abs().max() > 1e-3
    assert (mixture.reprojection_px < 6).all()


def test_the_flow_comes_with_start_and_settings(body: BodyModel, people: People) -> None:
    belief = belief_by_name("flow", body, people)
    assert belief.config == FLOW_FIT
    assert belief.start is not None
    assert belief.start.rotations.shape == (2, 55, 3, 3)
    assert belief_by_name("mixture", body, people).start is None


def test_a_hand_has_no_flow(people: People) -> None:
    hand = vt.open_body()
    hand = BodyModel(**{**vars(hand), "skeleton": MANO_LEFT, "family": "mano"})
    with pytest.raises(InputError, match="whole bodies only"):
        belief_by_name("flow", hand, people)
    with pytest.raises(InputError, match="whole bodies only"):
        vt.fit(hand, people)


def test_unknown_names_are_refused(body: BodyModel, people: People) -> None:
    with pytest.raises(InputError, match="unknown pose prior"):
        vt.fit(body, people, prior="nonsense")


def test_everyone_is_in_exactly_one_group(body: BodyModel, people: People) -> None:
    seen = hidden(people, (*BELOW_THE_CHEST, *OTHERS))
    assert portraits(seen.keypoints, min_confidence=0.1).tolist() == [True, False]
    groups = assign_beliefs(body, seen)
    assert [(group.belief.name, group.rows.tolist()) for group in groups] == [
        ("flow", [1]),
        ("hand-set, for a portrait", [0]),
    ]
    assert [group.rows.tolist() for group in assign_beliefs(body, people)] == [[0, 1]]
    assert [len(group.rows) for group in assign_beliefs(body, people[[]])] == [0]


def test_a_portrait_stands_with_hanging_arms(body: BodyModel, people: People) -> None:
    """Only head and shoulders seen: the person is fitted under the prior that lets the rest hang, others are not."""
    seen = hidden(people, (*BELOW_THE_CHEST, *OTHERS))
    default, hand_set = vt.fit(body, seen), vt.fit(body, seen, prior="hand-set")
    torch.testing.assert_close(default.params.rotations[0], hand_set.params.rotations[0], atol=1e-3, rtol=0)
    everyone = vt.fit(body, people)
    torch.testing.assert_close(default.params.rotations[1], everyone.params.rotations[1], atol=1e-3, rtol=0)
    torch.testing.assert_close(default.cost[0], hand_set.cost[0], atol=1e-3, rtol=1e-3)
