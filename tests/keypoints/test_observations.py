"""Observed keypoints: conversion, sanitising, boxes, flips and crops."""

import math

import pytest
import torch

from vitruvian.errors import InputError, ShapeError
from vitruvian.keypoints.formats import FORMATS, get_format
from vitruvian.keypoints.observations import Keypoints


def people(name: str, *batch: int) -> Keypoints:
    generator = torch.Generator().manual_seed(3)
    size = len(get_format(name))
    positions = torch.rand(*batch, size, 2, generator=generator, dtype=torch.float64) * 400
    confidence = 0.1 + 0.9 * torch.rand(*batch, size, generator=generator, dtype=torch.float64)
    return Keypoints(positions, confidence, name)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (0,)])
def test_conversion_keeps_what_both_formats_have_and_marks_the_rest_missing(batch: tuple[int, ...]) -> None:
    seen = people("coco17", *batch)
    wide = seen.to_format("openpose-body25")
    assert wide.confidence.shape == (*batch, 25)
    elbow, confidence = wide.select("left_elbow")
    torch.testing.assert_close(elbow, seen.select("left_elbow")[0])
    torch.testing.assert_close(confidence, seen.select("left_elbow")[1])
    assert (wide.select("left_heel")[1] == 0).all()
    neck, confidence = wide.select("shoulder_center")
    shoulders = [seen.select(f"{side}_shoulder") for side in ("left", "right")]
    torch.testing.assert_close(neck, (shoulders[0][0] + shoulders[1][0]) / 2)
    torch.testing.assert_close(confidence, torch.minimum(shoulders[0][1], shoulders[1][1]))
    back = wide.to_format("coco17")
    torch.testing.assert_close(back.positions, seen.positions)
    torch.testing.assert_close(back.confidence, seen.confidence)


def test_exact_conversion_drops_other_definitions() -> None:
    body = people("mediapipe-holistic").to_format("coco17", exact=True)
    assert not body.seen.any()
    assert people("mediapipe-holistic").to_format("coco17").seen.all()
    assert people("openpose").to_format("coco17", exact=True).seen.all()


@pytest.mark.parametrize("name", FORMATS)
def test_two_flips_are_nothing_and_one_swaps_the_sides(name: str) -> None:
    seen = people(name, 2)
    back = seen.flip(400).flip(400)
    torch.testing.assert_close(back.positions, seen.positions)
    assert torch.equal(back.confidence, seen.confidence)
    assert back.format == seen.format


def test_flip_moves_the_left_wrist_to_the_right() -> None:
    seen = people("openpose")
    mirrored = seen.flip(400).select("right_wrist")[0]
    left = seen.select("left_wrist")[0]
    torch.testing.assert_close(mirrored, torch.stack((400 - left[0], left[1])))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_unseen(bad: float) -> None:
    seen = people("coco17", 2)
    seen.positions[0, 3, 1] = bad
    seen.confidence[1, 5] = bad
    clean = seen.sanitized()
    assert clean.positions.isfinite().all()
    assert clean.confidence.isfinite().all()
    unseen = (clean.confidence == 0).nonzero().tolist()
    assert [0, 3] in unseen
    assert len(unseen) == 1 if bad == math.inf else len(unseen) == 2 and [1, 5] in unseen


def test_points_off_the_image_are_unseen_and_the_border_is_not() -> None:
    seen = people("coco17")
    seen.positions[:6] = torch.tensor([[-1.0, 5], [5, -0.1], [401, 5], [5, 300.5], [0, 0], [400, 300]]).double()
    clean = seen.sanitized((400, 300))
    assert clean.seen[:6].tolist() == [False] * 4 + [True] * 2
    assert (clean.positions[:4] == 0).all()
    assert seen.positions[0, 0] == -1


def test_confidence_is_brought_between_zero_and_one() -> None:
    seen = people("coco17")
    seen.confidence[0], seen.confidence[1] = 1.03, -0.5
    clean = seen.sanitized()
    assert clean.confidence[:2].tolist() == [1.0, 0.0]


def test_groups_keep_their_own_keypoints() -> None:
    seen = people("openpose", 2)
    parts = [seen.group(name).confidence for name in ("body", "left_hand", "right_hand", "face")]
    torch.testing.assert_close(sum(parts), seen.confidence)
    assert (parts[1] > 0).sum() == 2 * 21
    with pytest.raises(InputError):
        seen.group("tail")


def test_bounding_box_of_the_seen_points_only() -> None:
    seen = people("coco17", 2)
    seen.confidence[0, 4:] = 0
    seen.confidence[1] = 0
    box = seen.bounding_box()
    low, high = seen.positions[0, :4].amin(0), seen.positions[0, :4].amax(0)
    assert box[0].tolist() == [*low.tolist(), *high.tolist()]
    assert box[1].tolist() == [0.0] * 4


def test_crop_is_the_affine_map_it_says_it_is() -> None:
    seen = people("coco17", 3)
    matrix = torch.tensor([[2.0, 0.0, -20.0], [0.0, 2.0, -60.0]], dtype=torch.float64)
    torch.testing.assert_close(seen.crop(left=10, top=30, scale=2).positions, seen.transform(matrix).positions)


@pytest.mark.usefixtures("shapes_unchecked")
def test_confidence_must_match_the_positions() -> None:
    with pytest.raises(ShapeError, match="do not match"):
        Keypoints(torch.zeros(3, 17, 2), torch.zeros(3, 16), "coco17")


def test_records_are_checked_and_indexed() -> None:
    with pytest.raises(ShapeError, match="wrong number"):
        Keypoints(torch.zeros(3, 25, 2), torch.zeros(3, 25), "coco17")
    with pytest.raises(InputError):
        Keypoints(torch.zeros(3, 25, 2), torch.zeros(3, 25), "body99")
    seen = people("coco17", 4)
    assert seen[1].confidence.shape == (17,)
    assert seen[1].format == "coco17"
    assert seen.to(dtype=torch.float32).positions.dtype == torch.float32
    assert Keypoints.empty("openpose").confidence.shape == (0, 137)
