"""The record of the people of some pictures: columns, cameras, and joining pictures of mixed formats."""

import itertools
from dataclasses import replace

import pytest
import torch

from vitruvian.errors import InputError, ShapeError
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.formats import FORMATS, common_format, get_format
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.people import NO_TRACK, People, join_people

CAMERA = Camera.from_image_size(640, 480)


def seen(format: str, people: int = 1, *, seed: int = 0) -> Keypoints:
    generator = torch.Generator().manual_seed(seed)
    count = len(get_format(format))
    positions = torch.rand(people, count, 2, generator=generator) * 400
    return Keypoints(positions, 0.1 + 0.9 * torch.rand(people, count, generator=generator), format)


def test_everyone_in_a_picture() -> None:
    people = People.in_picture(seen("coco17", 3), CAMERA, picture="x/a.jpg", frame=4, source="detected")
    assert len(people) == 3
    assert people.picture == ("x/a.jpg",) * 3
    assert people.name == ("a.jpg",) * 3
    assert people.person == (0, 1, 2)
    assert people.track == (NO_TRACK,) * 3
    assert people.moments == (("x/a.jpg", 4),) * 3
    assert people.known_camera.focal_px.shape == (3, 2)
    assert len(People.in_picture(seen("coco17")[0], CAMERA)) == 1


def test_pictures_of_one_name_in_two_folders_are_two() -> None:
    parts = [People.in_picture(seen("coco17", 2, seed=k), CAMERA, picture=f"{d}/a.jpg") for k, d in enumerate("xy")]
    people = join_people(parts)
    assert people.rows_of("x/a.jpg").tolist() == [True, True, False, False]
    for part, name in zip(parts, ("x/a.jpg", "y/a.jpg"), strict=True):
        torch.testing.assert_close(people[people.rows_of(name)].keypoints.positions, part.keypoints.positions)


def test_records_that_do_not_fit_together_are_refused() -> None:
    people = People.in_picture(seen("coco17", 2), CAMERA)
    with pytest.raises(ShapeError, match="person axis"):
        replace(people, keypoints=seen("coco17", 2)[None])
    with pytest.raises(ShapeError, match="column"):
        replace(people, name=("a",))
    with pytest.raises(InputError, match="camera"):
        people.with_camera(CAMERA.map(lambda x: x.expand(5, 2)))
    with pytest.raises(InputError, match="gender"):
        replace(people, gender=("female", "woman"))


def test_an_unknown_camera_is_asked_for() -> None:
    unknown = People.in_picture(seen("coco17"))
    with pytest.raises(InputError, match="size of the picture"):
        unknown.known_camera  # noqa: B018
    with pytest.raises(InputError, match="some of the people"):
        join_people([unknown, People.in_picture(seen("coco17"), CAMERA)])
    assert join_people([unknown, unknown]).camera is None
    with pytest.raises(InputError, match="no pictures"):
        join_people([])


PAIRS = list(itertools.combinations(["openpose-body25", "openpose", "coco17", "coco-wholebody133", "openpose-25b-full",
                                     "mediapipe-holistic", "h36m17", "openpose-left-hand"], 2))  # fmt: skip


@pytest.mark.parametrize(("a", "b"), PAIRS, ids="+".join)
def test_pictures_of_mixed_formats_keep_every_point(a: str, b: str) -> None:
    """Whatever is first: each person's seen points are there by place, at the same position and confidence."""
    for names in ((a, b), (b, a)):
        parts = [People.in_picture(seen(name, seed=k), CAMERA) for k, name in enumerate(names)]
        joined = join_people(parts)
        for row, part in enumerate(parts):
            for k, place in enumerate(part.keypoints.definition.places):
                position, confidence = joined.keypoints[row].select(place)
                torch.testing.assert_close(position, part.keypoints.positions[0, k])
                torch.testing.assert_close(confidence, part.keypoints.confidence[0, k])


def test_the_common_format_is_the_smallest_one_that_serves() -> None:
    assert common_format(["openpose-body25", "openpose"]) == "openpose"
    assert common_format(["coco17", "openpose-body25"]) == "openpose-body25"
    assert common_format(["coco17", "coco17"]) == "coco17"
    for name in FORMATS:
        assert common_format([name]) == name
    both = common_format(["openpose-body25", "mediapipe-holistic"])
    assert common_format([both, "openpose-body25"]) == both
    union = get_format(both)
    assert len(set(union.places)) == len(union)
    assert sorted(row for rows in union.groups.values() for row in rows) == list(range(len(union)))
