"""Keypoint files of other programs are read as what they are; several pictures in one file are read by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from vitruvian.errors import InputError
from vitruvian.keypoints.formats import get_format
from vitruvian.keypoints.openpose import read_keypoints, read_people

HARD = Path("hard_inputs")


def write(folder: Path, content: Any) -> Path:
    path = folder / "a_keypoints.json"
    path.write_text(json.dumps(content))
    return path


def flat(count: int, *, start: float = 100.0) -> list[float]:
    return [start + 7.0 * k if k % 3 != 2 else 0.8 for k in range(3 * count)]


def pairs(values: list[float]) -> list[list[float]]:
    return [values[k : k + 2] for k in range(0, len(values), 3)]


COCO = {
    "images": [{"id": 3, "file_name": "x/a.jpg", "width": 640, "height": 480}, {"id": 4, "file_name": "b.jpg"}],
    "annotations": [
        {"image_id": 3, "keypoints": [*flat(16), 0, 0, 0]},
        {"image_id": 4, "keypoints": flat(17)},
        {"image_id": 3, "keypoints": flat(17)},
    ],
}
SAME: dict[str, tuple[Any, str | None]] = {
    "AlphaPose, COCO results": ([{"image_id": "a.jpg", "category_id": 1, "keypoints": flat(17), "score": 3.1}], None),
    "AlphaPose of two pictures": (
        [{"image_id": "a.jpg", "keypoints": flat(17)}, {"image_id": "b.jpg", "keypoints": flat(17, start=1)}], "a"),
    "MMPose": ([{"keypoints": pairs(flat(17)), "keypoint_scores": [0.8] * 17, "bbox": [[0, 0, 1, 1]]}], None),
    "MMPose, one list more": ([[{"keypoints": pairs(flat(17)), "keypoint_scores": [0.8] * 17}]], None),
    "MMPose of a video": (
        {"meta_info": {}, "instance_info": [
            {"frame_id": 1, "instances": [{"keypoints": pairs(flat(17)), "keypoint_scores": [0.8] * 17}]},
            {"frame_id": 2, "instances": []}]}, "1"),
    "pose editor": ([{"people": [{"pose_keypoints_2d": flat(17)}], "canvas_width": 640, "canvas_height": 480}], None),
    "old OpenPose keys": ({"people": [{"pose_keypoints": flat(17)}]}, None),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_the_same_person_comes_out_of_every_kind_of_file(tmp_path: Path, name: str) -> None:
    content, image = SAME[name]
    read = read_keypoints(write(tmp_path, content), image=image)
    assert read.format == "coco17"
    expected = torch.tensor(flat(17)).view(1, 17, 3)
    torch.testing.assert_close(read.positions, expected[..., :2])
    torch.testing.assert_close(read.confidence, expected[..., 2])


def test_coco_annotations_are_read_by_picture_with_its_size(tmp_path: Path) -> None:
    path = write(tmp_path, COCO)
    people = read_people(path, image="a.jpg")
    assert len(people) == 2
    assert people.known_camera.image_size.tolist() == [[640, 480]] * len(people)
    assert not people.keypoints.seen[0, 16]
    assert any("COCO" in note for note in people.keypoints.notes)
    with pytest.raises(InputError, match=r"several pictures.*2 pictures: x/a.jpg, b.jpg.*image="):
        read_people(path)
    with pytest.raises(InputError, match=r"no picture of this name.*c\.jpg"):
        read_people(path, image="c.jpg")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([{"people": []}, {"people": []}], "several pictures"),
        ([{"keypoints": pairs(flat(17))}], "without a score"),
        ({"bodies": [{"joints": []}]}, "bodies"),
        ([{"pose": 1}], "objects with pose"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_keypoints(write(tmp_path, content))


@pytest.mark.parametrize("format", ["halpe26", "halpe136", "openpose-body135", "coco-wholebody133", "mediapipe-pose33"])
def test_bodies_of_many_points_are_told_by_their_number(tmp_path: Path, format: str) -> None:
    count = len(get_format(format))
    read = read_keypoints(write(tmp_path, {"people": [{"pose_keypoints_2d": flat(count)}]}))
    assert read.format == format
    assert read.seen.all()
    assert read.positions[0, -1].tolist() == pytest.approx(flat(count)[-3:-1])


def test_a_face_of_68_points_is_read_without_pupils(tmp_path: Path) -> None:
    person = {"pose_keypoints_2d": flat(25), "face_keypoints_2d": flat(68)}
    read = read_keypoints(write(tmp_path, {"people": [person]}))
    assert read.format == "openpose"
    assert int(read.group("face").seen.sum()) == 68
    assert not read.select("left_pupil")[1].any()


def test_numbers_of_hundreds_of_digits_are_points_nowhere(tmp_path: Path) -> None:
    values: list[Any] = flat(17)
    values[3] = 10**400
    read = read_keypoints(write(tmp_path, {"people": [{"pose_keypoints_2d": values}]}))
    assert read.seen[0].tolist() == [True, False, *[True] * 15]


def test_hard_inputs_give_what_is_right(shared_data: Path) -> None:
    folder = shared_data / HARD
    if not folder.is_dir():
        pytest.skip("the hard inputs are not among the shared data")
    straight = read_keypoints(folder / "standing_straight_keypoints.json")
    for name in ("normalised", "normalised_centred"):
        path = folder / f"{name}_keypoints.json"
        with pytest.raises(InputError, match=r"shares of the picture.*image-size"):
            read_keypoints(path)
        read = read_keypoints(path, image_size=(1000, 1000))
        torch.testing.assert_close(read.positions, straight.positions, atol=0.01, rtol=0)
        assert "shares" in read.notes[0]
    assert read_keypoints(folder / "body25b_keypoints.json").format == "openpose-body25b"
    assert read_keypoints(folder / "body25b_keypoints.json", format="body_25b").notes == ()
    assert read_keypoints(folder / "face68_keypoints.json").format == "openpose"
    outlier = read_keypoints(folder / "outlier_keypoints.json")
    assert outlier.outside((1000, 1000)).nonzero().tolist() == [[0, 4]]
