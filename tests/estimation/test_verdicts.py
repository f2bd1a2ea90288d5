"""Verdicts: what can be seen of a wrong fit is said, in words, and a right fit is good."""

from dataclasses import fields, replace

import pytest
import torch

import vitruvian as vt
from tests.fitting.seen_people import seen_people
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.open_body import open_body
from vitruvian.estimation.verdicts import BAD, DOUBTFUL, GOOD, RULES, Signs, judge, judged, signs_of
from vitruvian.fits import Fits
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.rotations import exp_so3
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.people import People

FINE = {"distance_m": 4.0, "stature_m": 1.7, "limbs_seen": 12.0, "turned_away": -1.0}


def signs(**values: float) -> Signs:
    """Signs of one person in which nothing is odd but what is given."""
    default = {f.name: FINE.get(f.name, 0.0) for f in fields(Signs)}
    return Signs(**{name: torch.tensor([value]) for name, value in {**default, **values}.items()})


def test_nothing_odd_is_good() -> None:
    found = judge(signs(), ("converged",))
    assert (found.verdict, found.reason) == ((GOOD,), ("",))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.sign}-{'below' if rule.below else 'above'}")
def test_every_rule_speaks_beyond_its_limits_and_not_before(rule) -> None:  # type: ignore[no-untyped-def]
    step = -1e-3 if rule.below else 1e-3
    for limit, verdict in ((rule.doubtful, DOUBTFUL), (rule.bad, BAD)):
        if limit is None:
            continue
        beyond = judge(signs(**{rule.sign: limit * (1 + step)}), ("converged",), rules=(rule,))
        assert beyond.verdict == (verdict,)
        assert beyond.reason[0] == rule.words.format(rule.show(limit * (1 + step)))
        before = judge(signs(**{rule.sign: limit * (1 - step)}), ("converged",), rules=(rule,))
        assert before.verdict == ((GOOD if verdict == DOUBTFUL or rule.doubtful is None else DOUBTFUL),)


def test_the_worst_sign_decides_and_all_are_named() -> None:
    found = judge(signs(misfit_body=0.05, stature_m=0.5), ("converged",))
    assert found.verdict == (BAD,)
    assert "5.0 % of the person's size" in found.reason[0]
    assert "0.50 m tall" in found.reason[0]


@pytest.mark.parametrize("status", ["no_evidence", "failed"])
def test_no_fit_is_bad(status: str) -> None:
    found = judge(signs(), (status,))
    assert found.verdict == (BAD,)
    assert found.reason[0]


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return open_body(num_shape=10, num_expression=10)


@pytest.fixture(scope="module")
def people(body: BodyModel) -> People:
    seen = seen_people(body, 3, noise_px=1.0)
    return People.in_picture(seen.keypoints, seen.camera)


@pytest.fixture(scope="module")
def fits(body: BodyModel, people: People) -> Fits:
    return vt.fit(body, people)


def changed(fits: Fits, body: BodyModel, people: People, **values: torch.Tensor) -> Fits:
    return judged(replace(fits, params=replace(fits.params, **values)), body, people, min_confidence=0.1)


def test_right_fits_are_good(fits: Fits) -> None:
    assert fits.verdict == (GOOD,) * 3, fits.reason


def test_a_body_turned_round_moved_or_behind_the_camera_is_bad(fits: Fits, body: BodyModel, people: People) -> None:
    rotations = fits.params.rotations.clone()
    rotations[:, 0] = rotations[:, 0] @ exp_so3(torch.tensor([0.0, torch.pi, 0.0]))
    assert GOOD not in changed(fits, body, people, rotations=rotations).verdict
    for factor, words in ((-1.0, "from the camera"), (6000.0, "from the camera")):
        found = changed(fits, body, people, transl=fits.params.transl * factor)
        assert found.verdict == (BAD,) * 3
        assert all(words in reason for reason in found.reason)


def test_exchanged_labels_are_said(fits: Fits, body: BodyModel, people: People) -> None:
    """The fit of the true labels, judged by keypoints whose left and right are exchanged."""
    order = list(people.keypoints.definition.flip)
    wrong = Keypoints(people.keypoints.positions[:, order], people.keypoints.confidence[:, order], people.format)
    found = judged(fits, body, replace(people, keypoints=wrong), min_confidence=0.1)
    assert GOOD not in found.verdict
    assert any("exchanged" in reason for reason in found.reason)


def test_odd_shapes_and_wrong_picture_sizes_are_said(fits: Fits, body: BodyModel, people: People) -> None:
    betas = fits.params.betas.clone()
    betas[:, 0] = 7.0
    assert changed(fits, body, people, betas=betas).verdict == (BAD,) * 3
    small = Camera.from_image_size(64, 64, focal_px=float(people.known_camera.focal_px[0, 0]))
    small = small.map(lambda x: x.expand(3, 2))
    found = signs_of(body, fits.params, people.with_camera(small), min_confidence=0.1)
    assert (found.larger_than_picture > 2).all()


def test_a_person_alone_is_judged_as_in_a_batch(fits: Fits, body: BodyModel, people: People) -> None:
    together = signs_of(body, fits.params, people, min_confidence=0.1)
    for row in range(3):
        alone = signs_of(body, fits.params[[row]], people[[row]], min_confidence=0.1)
        for f in fields(Signs):
            torch.testing.assert_close(getattr(alone, f.name)[0], getattr(together, f.name)[row], atol=1e-3, rtol=1e-3)
