"""The size of the picture is guessed from people, not from wrong points; shares of a picture become pixels."""

from dataclasses import replace

import pytest
import torch

from vitruvian.keypoints.evidence import spans_a_person
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.picture_size import coordinates_of, guess_image_size, scaled


def people(count: int = 2, *, format: str = "openpose", seed: int = 0) -> Keypoints:
    generator = torch.Generator().manual_seed(seed)
    empty = Keypoints.empty(format, people=count)
    places = 200 + 150 * torch.rand(empty.positions.shape, generator=generator)
    return replace(empty, positions=places, confidence=torch.full_like(empty.confidence, 0.9))


@pytest.mark.parametrize("value", [5000.0, 1e30, float("nan"), float("inf"), -1e30])
def test_one_point_far_away_does_not_matter(value: float) -> None:
    honest = people()
    wrong = honest.map(torch.clone)
    wrong.positions[1, 4, 0] = value
    a, b = guess_image_size(honest), guess_image_size(wrong)
    assert abs(a.width - b.width) <= 5
    assert abs(a.height - b.height) <= 5
    assert str(a.width) in a.note


def test_the_guess_holds_everybody_and_follows_them() -> None:
    honest = people()
    size = guess_image_size(honest)
    assert not honest.outside((size.width, size.height)).any()
    moved = guess_image_size(replace(honest, positions=honest.positions + 1000))
    assert moved.width == pytest.approx(size.width + 1050, abs=2)
    assert guess_image_size(honest[0]).width <= size.width
    assert guess_image_size(Keypoints.empty("coco17")).width == 64
    unseen = replace(honest, confidence=torch.zeros_like(honest.confidence))
    assert guess_image_size(unseen).width == 64


def test_a_face_and_hands_do_not_make_the_feet_outliers() -> None:
    keypoints = people(1)
    rows = [*keypoints.definition.groups["face"], *keypoints.definition.groups["left_hand"]]
    positions = keypoints.positions.clone()
    positions[:, rows] = 250 + 0.05 * (positions[:, rows] - 250)
    positions[0, keypoints.definition.index("left_heel")] = torch.tensor([300.0, 600.0])
    assert guess_image_size(replace(keypoints, positions=positions)).height >= 600


@pytest.mark.parametrize(("low", "coordinates"), [(0.0, "0..1"), (-1.0, "-1..1")])
def test_shares_of_the_picture_are_told_and_scaled_back(low: float, coordinates: str) -> None:
    honest = people()
    size = torch.tensor([640.0, 480.0])
    shares = replace(honest, positions=honest.positions / size * (1 - low) + low)
    assert coordinates_of(honest) == "pixels"
    assert coordinates_of(shares) == coordinates
    torch.testing.assert_close(scaled(shares, coordinates, width=640, height=480).positions, honest.positions)  # type: ignore[arg-type]
    assert scaled(honest, "pixels", width=1, height=1) is honest


def test_points_outside_the_picture_are_named_and_dropped_by_one_rule() -> None:
    keypoints = people(2, format="coco17")
    positions = keypoints.positions.clone()
    positions[0, 3] = torch.tensor([3000.0, 5.0])
    positions[1, 5] = torch.tensor([5.0, -0.1])
    positions[1, 6] = torch.nan
    keypoints = replace(keypoints, positions=positions)
    outside = keypoints.outside((640.0, 480.0))
    assert outside.nonzero().tolist() == [[0, 3], [1, 5], [1, 6]]
    assert torch.equal(keypoints.sanitized((640.0, 480.0)).seen, keypoints.seen & ~outside)
    sizes = torch.tensor([[4000.0, 480.0], [640.0, 480.0]])
    assert keypoints.outside(sizes).nonzero().tolist() == [[1, 5], [1, 6]]


def test_points_in_one_place_or_on_a_line_are_no_evidence(generator: torch.Generator) -> None:
    spread = 100 * torch.rand(25, 2, generator=generator)
    line = torch.rand(25, 1, generator=generator) * torch.tensor([[300.0, 170.0]])
    cases = torch.stack((spread, torch.full((25, 2), 500.0), 0.02 * spread, line, line + 1e-4 * spread))
    cases[1, 3] = torch.tensor([900.0, 20.0])  # all in one place but one
    seen = torch.ones(5, 25, dtype=torch.bool)
    assert spans_a_person(cases, seen).tolist() == [True, False, False, False, False]
    few = seen.clone()
    few[:, 2:] = False
    assert not spans_a_person(cases, few).any()
    assert not spans_a_person(cases, ~seen).any()
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]])
    assert torch.equal(spans_a_person(cases @ turn.T + 1000, seen), spans_a_person(cases, seen))


def test_unseen_points_at_nowhere_are_not_looked_at() -> None:
    points = torch.rand(1, 25, 2) * 100
    points[0, 7] = torch.nan
    seen = torch.ones(1, 25, dtype=torch.bool)
    seen[0, 7] = False
    assert spans_a_person(points, seen).all()
