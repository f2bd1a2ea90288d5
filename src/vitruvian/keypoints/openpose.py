"""Reading and writing JSON files of keypoints, one file per picture, in OpenPose's form or that of other programs."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vitruvian.assets import border, limits
from vitruvian.errors import InputError
from vitruvian.keypoints.formats import KeypointFormat, get_format
from vitruvian.keypoints.observations import Keypoints, PeopleInImage
from vitruvian.keypoints.orders import ORDERS, tell_order
from vitruvian.keypoints.picture_size import coordinates_of, scaled
from vitruvian.keypoints.result_lists import BLOCK_KEYS, HINT, found_people, joined, kind_of
from vitruvian.output import replacing

FULL_FORMAT = {
    "openpose-body25": "openpose",
    "openpose-coco18": "openpose",
    "coco17-neck18": "openpose",
    "coco17": "openpose",
    "openpose-body25b": "openpose-25b-full",
}
"""The format that holds a body format's keypoints together with hands and face."""
NUM_POINTS = {"left_hand": (21,), "right_hand": (21,), "face": (70, 68)}
"""Points of the blocks beside the body; a face of 68 has no pupils."""
FILE_SUFFIX = "_keypoints.json"
AUTO = "auto"

Triples = Sequence[float]


@dataclass(frozen=True)
class KeypointFolder:
    """What a folder of keypoint files holds: the people of each readable file, and why the others were not read."""

    people: tuple[PeopleInImage, ...]
    failures: tuple[tuple[Path, InputError], ...]


def read_keypoints(
    path: str | Path,
    *,
    format: str | None = None,
    image_size: tuple[float, float] | None = None,
    image: str | None = None,
) -> Keypoints:
    """The people of one picture from a JSON file of keypoints, one row each; there may be none.

    Files of OpenPose (old and new key names), of pose editors, lists of AlphaPose and MMPose, and annotations of COCO.

    Args:
        path: a `*_keypoints.json` file.
        format: what the body's numbers mean. Without it, or with "auto", the number of points tells, and where several
            orders have it (25: BODY_25 and BODY_25B; 18; 17) the lengths of the limbs in each. Where a file has hands
            or a face, the result is in the format that also holds these ("openpose", or "openpose-25b-full").
        image_size: width and height of the picture in pixels, for coordinates that are shares of it (0 to 1, or
            −1 to 1); None takes what the file says of its canvas.
        image: name of the picture, for files of several.

    Returns:
        Keypoints `(person, K)` in pixels, sanitized: points at NaN or infinity have no confidence. `notes` tell what
        was guessed.

    Raises:
        InputError: no such file, no JSON, no file of keypoints, blocks of the wrong length, or coordinates that are
            shares of a picture of unknown size; says what was seen.
    """
    return read_people(path, format=format, image_size=image_size, image=image).keypoints


def read_people(
    path: str | Path,
    *,
    format: str | None = None,
    image_size: tuple[float, float] | None = None,
    image: str | None = None,
) -> PeopleInImage:
    """Like `read_keypoints`, with the size of the picture where the file or the caller tells it."""
    path = Path(path)
    with border(InputError, path, what="a file of keypoints", hint=HINT):
        found = found_people(_load_json(path), name=path.name, image=image)
        blocks = [_person_blocks(entry, path, k) for k, entry in enumerate(found.entries)]
        body, order_notes = _body_format(blocks, None if format == AUTO else format, path)
        whole = body if format in (None, AUTO) else get_format(str(format))
        if any(block[group] for block in blocks for group in NUM_POINTS) and whole is body:
            whole = _full_format(body, path)
        rows = [_person_row(block, body, whole) for block in blocks]
        values = torch.tensor(rows, dtype=torch.float64).reshape(len(rows), len(whole), 3)
        keypoints = Keypoints(values[..., :2], values[..., 2], whole.name).sanitized()
        size = image_size or found.image_size
        keypoints, scale_notes = _in_pixels(keypoints, size, path)
        notes = joined((*found.notes, *order_notes, *scale_notes), path.name)
        keypoints = replace(keypoints.to(dtype=torch.get_default_dtype()).sanitized(), notes=notes)
    return PeopleInImage(keypoints, image_stem(path), None if size is None else (round(size[0]), round(size[1])))


def keypoint_files(folder: str | Path) -> tuple[Path, ...]:
    """The keypoint files of a folder in the order of their names: `*_keypoints.json`, or all `*.json` if none is."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("not a folder of keypoint files", seen=folder, expected="a folder", hint=HINT)
    files = sorted(folder.glob("*.json"))
    return tuple([file for file in files if file.name.endswith(FILE_SUFFIX)] or files)


def read_keypoint_folder(
    folder: str | Path, *, format: str | None = None, image_size: tuple[float, float] | None = None
) -> KeypointFolder:
    """All keypoint files of a folder, in one format; a bad file spoils no other.

    Files of bodies alone are brought to the format of those with hands and face where the folder has both.

    Raises:
        InputError: there is no such folder, or no JSON file in it.
    """
    files = keypoint_files(folder)
    if not files:
        raise InputError("no keypoint files in the folder", seen=folder, expected=f"*{FILE_SUFFIX}", hint=HINT)
    read: list[PeopleInImage] = []
    failures: list[tuple[Path, InputError]] = []
    for file in files:
        try:
            read.append(read_people(file, format=format, image_size=image_size))
        except InputError as error:
            failures.append((file, error))
    formats = [(len(people.keypoints.definition), people.keypoints.format) for people in read]
    widest = max(formats, default=(0, ""))[1]
    same = tuple(replace(people, keypoints=people.keypoints.to_format(widest)) for people in read)
    return KeypointFolder(same, tuple(failures))


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
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"version": 1.3, "people": people}), encoding="utf-8")


def _load_json(path: Path) -> Any:
    data = limits.read_bytes(path, InputError, limit=limits.MAX_JSON_BYTES, what="a file of keypoints")
    if not data.strip():
        raise InputError("the keypoint file is empty", seen=path, expected="OpenPose JSON", hint=HINT)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(
            "the keypoint file is not JSON", seen=f"{path.name}: {error}", expected="OpenPose JSON", hint=HINT
        ) from error


def _in_pixels(keypoints: Keypoints, size: tuple[float, float] | None, path: Path) -> tuple[Keypoints, tuple[str, ...]]:
    """Keypoints in pixels, and what was done; shares of a picture need its size."""
    coordinates = coordinates_of(keypoints)
    if coordinates == "pixels":
        return keypoints, ()
    low, high = coordinates.split("..")
    if size is None:
        raise InputError(
            f"the coordinates in {path.name} are shares of the picture, from {low} to {high}",
            seen=f"largest {float(keypoints.positions.max()):.3g}",
            expected="pixels, or the size of the picture",
            hint="say --image-size WIDTH HEIGHT, or image_size=(width, height) in Python",
        )
    note = f"coordinates from {low} to {high} were taken as shares of {size[0]:g} × {size[1]:g} pixels"
    return scaled(keypoints, coordinates, width=size[0], height=size[1]), (note,)


def _person_blocks(entry: Mapping[str, Any], path: Path, number: int) -> dict[str, Triples]:
    """The numbers of each group; empty where the block is absent, empty or null."""
    if not any(key in entry for keys in BLOCK_KEYS.values() for key in keys):
        raise InputError(
            f"person {number} of {path.name} has no keypoints",
            seen=f"the keys {', '.join(map(str, list(entry)[:20])) or '(none)'}",
            expected=", ".join(keys[0] for keys in BLOCK_KEYS.values()),
        )
    blocks: dict[str, Triples] = {}
    for group, keys in BLOCK_KEYS.items():
        key = next((key for key in keys if key in entry), keys[0])
        block = entry.get(key) or []
        where = f"{key} of person {number} in {path.name}"
        if not isinstance(block, list) or not all(_is_number(value) for value in block):
            odd = block if not isinstance(block, list) else next(v for v in block if not _is_number(v))
            raise InputError(f"{where} is not a list of numbers", seen=kind_of(odd), expected="x, y, confidence, …")
        counts = NUM_POINTS.get(group)
        if block and (len(block) % 3 or (counts is not None and len(block) // 3 not in counts)):
            named = " or ".join(f"{3 * count} ({count} points)" for count in counts or ())
            raise InputError(
                f"{where} has the wrong length",
                seen=f"{len(block)} numbers",
                expected=named or "three numbers for each point",
            )
        blocks[group] = [_number(value) for value in block]
    return blocks


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _number(value: float | None) -> float:
    """As floating point; NaN for null, infinity for whole numbers of hundreds of digits."""
    try:
        return math.nan if value is None else float(value)
    except OverflowError:
        return math.inf


def _body_format(
    blocks: list[dict[str, Triples]], format: str | None, path: Path
) -> tuple[KeypointFormat, tuple[str, ...]]:
    """Format of the body blocks, and how it was told; all people must have the same number of points."""
    lengths = {len(block["body"]) // 3 for block in blocks if block["body"]}
    if format is not None:
        whole = get_format(format)
        body = get_format(next((name for name, full in FULL_FORMAT.items() if whole.name == full), whole.name))
        if lengths - {len(body)}:
            raise InputError(
                f"the bodies in {path.name} are not in the format {body.name}",
                seen=f"{', '.join(map(str, sorted(lengths)))} points",
                expected=f"{len(body)} points",
            )
        return body, ()
    if len(lengths) > 1 or lengths - ORDERS.keys():
        raise InputError(
            f"unknown body format in {path.name}",
            seen=f"{', '.join(map(str, sorted(lengths)))} points",
            expected=", ".join(f"{' or '.join(names)} ({count})" for count, names in ORDERS.items()),
        )
    if not lengths:
        return get_format("openpose-body25"), ()
    (length,) = lengths
    candidates = ORDERS[length]
    triples = torch.tensor([block["body"] for block in blocks if block["body"]], dtype=torch.float64)
    order = tell_order(triples.unflatten(-1, (-1, 3)), candidates)
    others = " and ".join(name for name in candidates if name != order.format)
    if order.clear and order.format == candidates[0]:
        return get_format(order.format), ()
    how = f"its limbs are {order.share:.2f} times as long as in {others}" if order.clear else f"not told from {others}"
    return get_format(order.format), (f"{length} points were read as {order.format}: {how}",)


def _full_format(body: KeypointFormat, path: Path) -> KeypointFormat:
    """The format that also has hands and face."""
    if body.name not in FULL_FORMAT:
        raise InputError(
            f"{path.name} has hands or a face beside bodies of {len(body)} points",
            seen=body.name,
            expected=", ".join(sorted(FULL_FORMAT)),
        )
    return get_format(FULL_FORMAT[body.name])


def _person_row(blocks: Mapping[str, Triples], body: KeypointFormat, whole: KeypointFormat) -> list[list[float]]:
    """One person's triples in the order of the format `whole`; zeros for blocks that are absent."""
    row = [[0.0, 0.0, 0.0] for _ in whole.names]
    for group, values in blocks.items():
        # A block for the body of a whole format (such as Halpe's 136 points) has all groups in it.
        indices = range(len(body)) if group == "body" else whole.groups[group]
        source = body if group == "body" else whole
        for number, index in enumerate(indices[: len(values) // 3]):
            row[whole.index(source.places[index])] = list(values[3 * number : 3 * number + 3])
    return row
