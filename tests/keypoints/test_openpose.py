"""OpenPose JSON: what is written is read back, real files, missing blocks, and files that are something else."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from vitruvian.errors import InputError, OutputError
from vitruvian.keypoints.formats import get_format
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.openpose import (
    image_stem,
    keypoint_files,
    read_keypoints,
    write_keypoints,
)


def random_people(format: str, people: int) -> Keypoints:
    generator = torch.Generator().manual_seed(11)
    size = len(get_format(format))
    positions = torch.rand(people, size, 2, generator=generator) * 900
    return Keypoints(positions, 0.05 + 0.9 * torch.rand(people, size, generator=generator), format)


def block(points: int, *, start: float = 1.0) -> list[float]:
    return [start + 0.5 * k if k % 3 != 2 else 0.7 for k in range(3 * points)]


def write_json(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("format", ["openpose", "openpose-body25", "openpose-coco18", "coco17", "openpose-25b-full"])
@pytest.mark.parametrize("people", [1, 3])
def test_round_trip(tmp_path: Path, format: str, people: int) -> None:
    keypoints = random_people(format, people)
    path = tmp_path / "a_keypoints.json"
    write_keypoints(path, keypoints)
    again = read_keypoints(path, format="openpose-body25b" if "25b" in format else None)
    assert again.format == format
    assert torch.equal(again.positions, keypoints.positions)
    assert torch.equal(again.confidence, keypoints.confidence)


def test_body25b_must_be_named_and_keeps_its_order(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a_keypoints.json", {"people": [{"pose_keypoints_2d": block(25)}]})
    assert read_keypoints(path).format == "openpose-body25"
    named = read_keypoints(path, format="openpose-body25b")
    assert named.format == "openpose-body25b"
    assert named.select("head_top")[0].tolist() == [[1 + 0.5 * 54, 1 + 0.5 * 55]]


def test_one_person_without_batch_and_other_formats_are_written_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a_keypoints.json"
    write_keypoints(path, random_people("coco-wholebody133", 2)[1])
    again = read_keypoints(path)
    assert again.format == "openpose"
    expected = random_people("coco-wholebody133", 2)[1].to_format("openpose")
    assert torch.equal(again.positions[0], expected.positions)
    assert (again.select("left_pupil")[1] == 0).all()


def test_no_people_and_people_without_some_blocks(tmp_path: Path) -> None:
    none = read_keypoints(write_json(tmp_path / "none_keypoints.json", {"version": 1.3, "people": []}))
    assert none.confidence.shape == (0, 25)
    people = [
        {"pose_keypoints_2d": block(25), "hand_left_keypoints_2d": [], "face_keypoints_2d": None},
        {"pose_keypoints_2d": [], "hand_left_keypoints_2d": block(21)},
        {"face_keypoints_2d": block(70)},
    ]
    read = read_keypoints(write_json(tmp_path / "some_keypoints.json", {"people": people}))
    assert read.format == "openpose"
    counts = [[int(read[k].group(g).seen.sum()) for g in get_format("openpose").groups] for k in range(3)]
    assert counts == [[25, 0, 0, 0], [0, 21, 0, 0], [0, 0, 0, 70]]
    assert read[1].select("left_hand_wrist")[0].tolist() == [1.0, 1.5]


def test_old_keys_and_one_entry_alone(tmp_path: Path) -> None:
    old = {"version": 1.0, "people": [{"pose_keypoints": block(18), "hand_right_keypoints": block(21)}]}
    read = read_keypoints(write_json(tmp_path / "old_keypoints.json", old))
    assert read.format == "openpose"
    assert int(read.group("body").seen.sum()) == 18
    assert int(read.group("right_hand").seen.sum()) == 21
    alone = read_keypoints(write_json(tmp_path / "one_keypoints.json", {"pose_keypoints_2d": block(25)}))
    assert alone.confidence.shape == (1, 25)


def test_coco18_converts_to_body25_by_name(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a_keypoints.json", {"people": [{"pose_keypoints_2d": block(18)}]})
    read = read_keypoints(path)
    assert read.format == "openpose-coco18"
    wide = read.to_format("openpose-body25")
    assert torch.equal(wide.select("right_knee")[0], read.select("right_knee")[0])
    assert torch.equal(wide.select("coco:left_ear")[0], read.positions[:, 17])


def test_values_that_are_not_finite_have_no_confidence(tmp_path: Path) -> None:
    values = block(25)
    values[0], values[4], values[8] = float("nan"), float("inf"), float("nan")
    text = json.dumps({"people": [{"pose_keypoints_2d": [*values[:9], None, *values[10:]]}]})
    assert "NaN" in text
    path = tmp_path / "a_keypoints.json"
    path.write_text(text)
    read = read_keypoints(path)
    assert read.positions.isfinite().all()
    assert read.seen[0, :5].tolist() == [False, False, False, False, True]


BAD = {
    "empty": ("", "empty"),
    "blank": (" \n", "empty"),
    "text": ("hello", "not JSON"),
    "truncated": ('{"people": [{"pose_keypoints_2d": [1, 2', "not JSON"),
    "deep": ("[" * 100_000, "not JSON"),
    "list": ("[1, 2, 3]", "list"),
    "number": ("3", "int"),
    "other json": ('{"annotations": [], "images": []}', "annotations, images"),
    "people is a number": ('{"people": 4}', "int 4"),
    "people of numbers": ('{"people": [4]}', "one object per person"),
    "person without keypoints": ('{"people": [{"name": "Anna"}]}', "name"),
    "text in a block": ('{"people": [{"pose_keypoints_2d": ["a", 1, 2]}]}', "str 'a'"),
    "block is an object": ('{"people": [{"pose_keypoints_2d": {"x": 1}}]}', "dict"),
    "odd length": ('{"people": [{"pose_keypoints_2d": [1, 2, 3, 4]}]}', "4 numbers"),
    "unknown length": (json.dumps({"people": [{"pose_keypoints_2d": block(19)}]}), "19 points"),
    "short hand": (json.dumps({"people": [{"hand_left_keypoints_2d": block(20)}]}), "60 numbers"),
    "two body formats": (
        json.dumps({"people": [{"pose_keypoints_2d": block(25)}, {"pose_keypoints_2d": block(18)}]}),
        "18, 25 points",
    ),
}


@pytest.mark.parametrize(("text", "seen"), BAD.values(), ids=BAD)
def test_bad_files_are_input_errors_that_say_what_was_seen(tmp_path: Path, text: str, seen: str) -> None:
    path = tmp_path / "a_keypoints.json"
    path.write_text(text)
    with pytest.raises(InputError, match=seen):
        read_keypoints(path)


def test_binary_and_missing_files_and_folders_are_input_errors(tmp_path: Path) -> None:
    binary = tmp_path / "a_keypoints.json"
    binary.write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="not JSON"):
        read_keypoints(binary)
    with pytest.raises(InputError, match="cannot read"):
        read_keypoints(tmp_path / "nothing.json")
    with pytest.raises(InputError):
        read_keypoints(tmp_path)


def test_a_format_that_the_file_is_not_in_is_refused(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a_keypoints.json", {"people": [{"pose_keypoints_2d": block(18)}]})
    with pytest.raises(InputError, match="18 points"):
        read_keypoints(path, format="openpose-body25")
    with pytest.raises(InputError, match="h36m17"):
        read_keypoints(path, format="h36m17")


def test_folders_without_keypoint_files_are_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        keypoint_files(tmp_path / "missing")
    (tmp_path / "cam01.0000.json").write_text('{"people": []}')
    assert [path.name for path in keypoint_files(tmp_path)] == ["cam01.0000.json"]
    assert image_stem("a/b_000001_keypoints.json") == "b_000001"
    assert image_stem("cam01.0000.json") == "cam01.0000"


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        write_keypoints(tmp_path / "file" / "a_keypoints.json", random_people("openpose", 1))


def test_real_files_of_a_signing_person_and_of_a_balancing_one(tmp_path: Path, shared_data: Path) -> None:
    with zipfile.ZipFile(shared_data / "signing_openpose.zip") as archive:
        archive.extractall(tmp_path / "sign")
    folder = next(path.parent for path in (tmp_path / "sign").rglob("*.json"))
    files = keypoint_files(folder)
    assert len(files) == 93
    keypoints = read_keypoints(files[40])
    assert keypoints.format == "openpose"
    left, right = (keypoints.select(f"{side}_wrist")[0][0] for side in ("left", "right"))
    for side, wrist in (("left", left), ("right", right)):
        hand = keypoints.select(f"{side}_hand_wrist")[0][0]
        assert (hand - wrist).norm() < 60, side

    name = "cam02_json/cam02.0010.json"
    with zipfile.ZipFile(shared_data / "four_view_balancing.zip") as archive:
        member = next(m for m in archive.namelist() if m.endswith(name))
        path = Path(archive.extract(member, tmp_path))
    balancing = read_keypoints(path, format="openpose-body25b")
    hip, knee, ankle = (balancing.select(f"left_{joint}")[0][0, 1] for joint in ("hip", "knee", "ankle"))
    assert hip < knee < ankle
