"""Reading and writing OpenPose's JSON files of keypoints, one file per picture."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vitruvian.errors import InputError, OutputError
from vitruvian.keypoints.formats import KeypointFormat, get_format
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.people import People

BODY_FORMAT_BY_LENGTH = {25: "openpose-body25", 18: "openpose-coco18", 17: "coco17"}
FULL_FORMAT = {
    "openpose-body25": "openpose",
    "openpose-coco18": "openpose",
    "coco17": "openpose",
    "openpose-body25b": "openpose-25b-full",
}
"""The format that holds a body format's keypoints together with hands and face."""

BLOCK_KEYS = {
    "body": ("pose_keypoints_2d", "pose_keypoints"),
    "left_hand": ("hand_left_keypoints_2d", "hand_left_keypoints"),
    "right_hand": ("hand_right_keypoints_2d", "hand_right_keypoints"),
    "face": ("face_keypoints_2d", "face_keypoints"),
}
"""Key of each group's block in a person's entry, today's and that of OpenPose before 1.3."""
NUM_POINTS = {"left_hand": 21, "right_hand": 21, "face": 70}
FILE_SUFFIX = "_keypoints.json"
HINT = "OpenPose writes such files with --write_json FOLDER"

Triples = Sequence[float]


@dataclass(frozen=True)
class KeypointFolder:
    """What a folder of keypoint files holds: the people of each readable file, and why the others were not read."""

    people: tuple[People, ...]
    failures: tuple[tuple[Path, InputError], ...]


def read_keypoints(path: str | Path, *, format: str | None = None) -> Keypoints:
    """The people of one OpenPose JSON file, one row each; there may be none.

    Args:
        path: a `*_keypoints.json` file.
        format: what the body's numbers mean. Without it, 25 points are BODY_25, 18 are COCO-18 and 17 are COCO-17;
            BODY_25B has 25 points as well and must be named. Where a file has hands or a face, the result is in the
            format that also holds these ("openpose", or "openpose-25b-full").

    Returns:
        Keypoints `(person, K)`, sanitized: points at NaN or infinity have no confidence.

    Raises:
        InputError: no such file, no JSON, no OpenPose file, or blocks of the wrong length; says what was seen.
    """
    path = Path(path)
    people = _people_entries(_load_json(path), path)
    blocks = [_person_blocks(entry, path, k) for k, entry in enumerate(people)]
    body = _body_format(blocks, format, path)
    whole = get_format(format) if format is not None else body
    if any(block[group] for block in blocks for group in NUM_POINTS) and whole is body:
        whole = get_format(FULL_FORMAT[body.name])
    rows = [_person_row(block, body, whole) for block in blocks]
    values = torch.tensor(rows, dtype=torch.float64).reshape(len(rows), len(whole), 3)
    keypoints = Keypoints(values[..., :2], values[..., 2], whole.name).sanitized()
    return keypoints.to(dtype=torch.get_default_dtype())


def keypoint_files(folder: str | Path) -> tuple[Path, ...]:
    """The keypoint files of a folder in the order of their names: `*_keypoints.json`, or all `*.json` if none is."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("not a folder of keypoint files", seen=folder, expected="a folder", hint=HINT)
    files = sorted(folder.glob("*.json"))
    return tuple([file for file in files if file.name.endswith(FILE_SUFFIX)] or files)


def read_keypoint_folder(folder: str | Path, *, format: str | None = None) -> KeypointFolder:
    """All keypoint files of a folder, in one format; a bad file spoils no other.

    Files of bodies alone are brought to the format of those with hands and face where the folder has both.

    Raises:
        InputError: there is no such folder, or no JSON file in it.
    """
    files = keypoint_files(folder)
    if not files:
        raise InputError("no keypoint files in the folder", seen=folder, expected=f"*{FILE_SUFFIX}", hint=HINT)
    read: list[tuple[Path, Keypoints]] = []
    failures: list[tuple[Path, InputError]] = []
    for file in files:
        try:
            read.append((file, read_keypoints(file, format=format)))
        except InputError as error:
            failures.append((file, error))
    widest = max((len(keypoints.definition), keypoints.format) for _, keypoints in read)[1] if read else ""
    people = tuple(
        People.in_picture(keypoints.to_format(widest), picture=image_stem(file), source="keypoint file")
        for file, keypoints in read
    )
    return KeypointFolder(people, tuple(failures))


def image_stem(path: str | Path) -> str:
    """Name, without extension, of the picture that a keypoint file belongs to."""
    name = Path(path).name
    return name.removesuffix(FILE_SUFFIX) if name.endswith(FILE_SUFFIX) else Path(name).stem


def write_keypoints(path: str | Path, keypoints: Keypoints) -> None:
    """Write people to an OpenPose JSON file.

    Keypoints in a format of OpenPose keep it; any other is converted by name to BODY_25, with hands and face where the
    format has them.

    Raises:
        OutputError: the file cannot be written.
    """
    if not any(keypoints.format in pair for pair in FULL_FORMAT.items()):
        has_parts = any(keypoints.definition.groups[group] for group in NUM_POINTS)
        keypoints = keypoints.to_format("openpose" if has_parts else "openpose-body25")
    if keypoints.confidence.dim() == 1:
        keypoints = keypoints[None]
    values = torch.cat((keypoints.positions, keypoints.confidence[..., None]), dim=-1).detach().cpu()
    people = []
    for person in values:
        entry: dict[str, Any] = {"person_id": [-1]}
        for group, (key, _) in BLOCK_KEYS.items():
            entry[key] = person[list(keypoints.definition.groups[group])].flatten().tolist()
        people.append(entry)
    try:
        Path(path).write_text(json.dumps({"version": 1.3, "people": people}), encoding="utf-8")
    except OSError as error:
        raise OutputError("cannot write the keypoint file", seen=f"{path}: {error.strerror}") from error


def _load_json(path: Path) -> Any:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError("cannot read the keypoint file", seen=f"{path}: {error.strerror}") from error
    if not data.strip():
        raise InputError("the keypoint file is empty", seen=path, expected="OpenPose JSON", hint=HINT)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(
            "the keypoint file is not JSON", seen=f"{path.name}: {error}", expected="OpenPose JSON", hint=HINT
        ) from error


def _people_entries(content: Any, path: Path) -> list[Mapping[str, Any]]:
    if isinstance(content, dict) and "people" not in content and BLOCK_KEYS["body"][0] in content:
        return [content]  # one person's entry, saved alone
    if not isinstance(content, dict) or "people" not in content:
        seen = f"the keys {', '.join(map(str, content)) or '(none)'}" if isinstance(content, dict) else _kind(content)
        raise InputError(
            "the JSON file is no OpenPose file", seen=f"{path.name}: {seen}", expected='a key "people"', hint=HINT
        )
    people = content["people"]
    if not isinstance(people, list) or not all(isinstance(entry, dict) for entry in people):
        raise InputError(
            "the JSON file is no OpenPose file",
            seen=f"{path.name}: people is {_kind(people)}",
            expected="a list with one object per person",
            hint=HINT,
        )
    return people


def _person_blocks(entry: Mapping[str, Any], path: Path, number: int) -> dict[str, Triples]:
    """The numbers of each group; empty where the block is absent, empty or null."""
    if not any(key in entry for keys in BLOCK_KEYS.values() for key in keys):
        raise InputError(
            f"person {number} of {path.name} has no keypoints",
            seen=f"the keys {', '.join(map(str, entry)) or '(none)'}",
            expected=", ".join(keys[0] for keys in BLOCK_KEYS.values()),
        )
    blocks: dict[str, Triples] = {}
    for group, keys in BLOCK_KEYS.items():
        key = next((key for key in keys if key in entry), keys[0])
        block = entry.get(key) or []
        where = f"{key} of person {number} in {path.name}"
        if not isinstance(block, list) or not all(_is_number(value) for value in block):
            odd = block if not isinstance(block, list) else next(v for v in block if not _is_number(v))
            raise InputError(f"{where} is not a list of numbers", seen=_kind(odd), expected="x, y, confidence, …")
        count = NUM_POINTS.get(group)
        if block and (len(block) % 3 or (count is not None and len(block) != 3 * count)):
            expected = f"{3 * count} ({count} points)" if count else "three numbers for each point"
            raise InputError(f"{where} has the wrong length", seen=f"{len(block)} numbers", expected=expected)
        blocks[group] = [math.nan if value is None else float(value) for value in block]
    return blocks


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _kind(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:40] + '…'}"


def _body_format(blocks: list[dict[str, Triples]], format: str | None, path: Path) -> KeypointFormat:
    """Format of the body blocks: the one asked for, or the one of their length; all people must have the same."""
    lengths = {len(block["body"]) // 3 for block in blocks if block["body"]}
    if format is not None:
        whole = get_format(format)
        body_name = next((body for body, full in FULL_FORMAT.items() if whole.name in (body, full)), None)
        if body_name is None:
            raise InputError(
                "OpenPose files do not hold this keypoint format", seen=format, expected=", ".join(sorted(FULL_FORMAT))
            )
        body = get_format(body_name)
        if lengths - {len(body)}:
            raise InputError(
                f"the bodies in {path.name} are not in the format {body.name}",
                seen=f"{', '.join(map(str, sorted(lengths)))} points",
                expected=f"{len(body)} points",
            )
        return body
    if len(lengths) > 1 or lengths - BODY_FORMAT_BY_LENGTH.keys():
        raise InputError(
            f"unknown body format in {path.name}",
            seen=f"{', '.join(map(str, sorted(lengths)))} points",
            expected=", ".join(f"{name} ({count})" for count, name in BODY_FORMAT_BY_LENGTH.items()),
        )
    return get_format(BODY_FORMAT_BY_LENGTH[lengths.pop() if lengths else 25])


def _person_row(blocks: Mapping[str, Triples], body: KeypointFormat, whole: KeypointFormat) -> list[list[float]]:
    """One person's triples in the order of the format `whole`; zeros for blocks that are absent."""
    row = [[0.0, 0.0, 0.0] for _ in whole.names]
    for group, values in blocks.items():
        source = body if group == "body" else whole
        for number, index in enumerate(source.groups[group] if values else ()):
            row[whole.index(source.places[index])] = list(values[3 * number : 3 * number + 3])
    return row
