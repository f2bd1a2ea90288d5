"""The people in JSON files of keypoints, whichever program wrote them: OpenPose, pose editors, AlphaPose, MMPose, COCO.

Each file becomes a `FoundPeople`: the entries of one picture in OpenPose's form, blocks of x, y, confidence. Files of
several pictures are read one picture at a time, by name.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitruvian.assets import limits
from vitruvian.errors import InputError

BLOCK_KEYS = {
    "body": ("pose_keypoints_2d", "pose_keypoints"),
    "left_hand": ("hand_left_keypoints_2d", "hand_left_keypoints"),
    "right_hand": ("hand_right_keypoints_2d", "hand_right_keypoints"),
    "face": ("face_keypoints_2d", "face_keypoints"),
}
"""Key of each group's block in a person's entry, today's and that of OpenPose before 1.3."""
HINT = "OpenPose writes such files with --write_json FOLDER; AlphaPose, MMPose and COCO lists are read too"

_Entry = Mapping[str, Any]


@dataclass(frozen=True)
class FoundPeople:
    """The people of one picture, in OpenPose's form, as a file has them.

    Attributes:
        entries: one object per person, with blocks of numbers.
        image_size: width and height that the file states.
        notes: what the file was taken for, where that is not an OpenPose file.
    """

    entries: tuple[_Entry, ...]
    image_size: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()


def found_people(content: Any, *, name: str, image: str | None = None) -> FoundPeople:
    """The people of a picture in what a JSON file holds.

    Args:
        content: what the file holds.
        name: of the file, for messages.
        image: name or number of the picture, for files of several.

    Raises:
        InputError: the file is of no kind that is known, or holds several pictures and none was named.
    """
    found = _of_object(content, name, image) if isinstance(content, dict) else _of_list(content, name, image)
    if len(found.entries) > limits.MAX_PEOPLE:
        raise InputError(
            f"too many people in {name}", seen=f"{len(found.entries):,}", expected=f"at most {limits.MAX_PEOPLE:,}"
        )
    return found


def _of_object(content: _Entry, name: str, image: str | None) -> FoundPeople:
    if "people" in content:
        people = content["people"]
        if not isinstance(people, list) or not all(isinstance(entry, dict) for entry in people):
            raise _unknown(name, f"people is {kind_of(people)}", "a list with one object per person")
        return FoundPeople(tuple(people), _canvas(content, *people[:1]))
    if any(key in content for key in BLOCK_KEYS["body"]):
        return FoundPeople((content,), _canvas(content))  # one person's entry, saved alone
    if "annotations" in content and "images" in content:
        return _coco_annotations(content, name, image)
    if isinstance(content.get("instance_info"), list):
        return _mmpose_instances(content["instance_info"], name, image)
    raise _unknown(name, f"the keys {', '.join(map(str, list(content)[:20])) or '(none)'}", 'a key "people"')


def _of_list(content: Any, name: str, image: str | None) -> FoundPeople:
    if not isinstance(content, list) or not content or not all(isinstance(entry, dict) for entry in content):
        if isinstance(content, list) and len(content) == 1 and isinstance(content[0], list):
            return _of_list(content[0], name, image)  # MMPose wraps the people of a picture once more
        raise _unknown(name, kind_of(content), 'an object with a key "people"')
    if len(content) == 1 and ("people" in content[0] or any(key in content[0] for key in BLOCK_KEYS["body"])):
        return _of_object(content[0], name, image)  # pose editors write lists of one picture
    if all("people" in entry for entry in content):
        raise _several(name, f"a list of {len(content)} pictures", "write one file per picture")
    if all("keypoints" in entry for entry in content):
        kind = "an AlphaPose or COCO list" if "image_id" in content[0] else "an MMPose list"
        chosen = _chosen(content, lambda entry: entry.get("image_id"), name, image)
        return FoundPeople(tuple(map(_from_list_entry, chosen)), None, (f"read as {kind} of people",))
    raise _unknown(name, f"a list of objects with {', '.join(map(str, list(content[0])[:20]))}", 'a key "people"')


def _coco_annotations(content: _Entry, name: str, image: str | None) -> FoundPeople:
    images = _objects(content["images"], name, "images")
    file_names = {_plain(entry.get("id")): str(entry.get("file_name", "")) for entry in images}
    people = [entry for entry in _objects(content["annotations"], name, "annotations") if "keypoints" in entry]
    if not people:
        raise _unknown(name, "annotations, images: COCO annotations without keypoints", "person_keypoints_*.json")

    def picture(entry: _Entry) -> Any:
        return file_names.get(_plain(entry.get("image_id")), entry.get("image_id"))

    chosen = _chosen(people, picture, name, image)
    size = next((_canvas(entry, keys=("width", "height")) for entry in images if _is(entry, picture(chosen[0]))), None)
    note = "read as COCO annotations: labelled points have confidence 1, hidden ones too"
    return FoundPeople(tuple(map(_from_list_entry, chosen)), size, (note,))


def _is(entry: _Entry, picture: Any) -> bool:
    return str(entry.get("file_name", "")) == str(picture) or _plain(entry.get("id")) == _plain(picture)


def _mmpose_instances(content: Sequence[Any], name: str, image: str | None) -> FoundPeople:
    entries = _objects(content, name, "instance_info")
    frames = [entry for entry in entries if "instances" in entry]
    if not frames:
        return FoundPeople(tuple(map(_from_list_entry, entries)), None, ("read as MMPose results",))
    (chosen,) = _chosen(frames, lambda frame: frame.get("frame_id"), name, image)[:1]
    people = _objects(chosen["instances"], name, "instances")
    return FoundPeople(tuple(map(_from_list_entry, people)), None, ("read as MMPose results",))


def _chosen(entries: Sequence[_Entry], picture: Any, name: str, image: str | None) -> list[_Entry]:
    """The entries of one picture: the one that is named, or the only one."""
    names = list(dict.fromkeys(str(_plain(picture(entry))) for entry in entries))
    if image is not None and names != ["None"]:
        wanted = [n for n in names if image in (n, n.rpartition("/")[2], n.rpartition("/")[2].rpartition(".")[0])]
        if not wanted:
            raise InputError(f"{name} holds no picture of this name", seen=image, expected=", ".join(names[:8]))
        names = wanted
    if len(names) != 1:
        raise _several(
            name,
            f"the people of {len(names)} pictures: {', '.join(names[:4])}, …",
            'name one: read_keypoints(FILE, image="NAME")',
        )
    return [entry for entry in entries if str(_plain(picture(entry))) == names[0]]


def _from_list_entry(entry: _Entry) -> _Entry:
    """A person's entry in OpenPose's form, from flat triples, or from pairs with scores beside them."""
    points, scores = entry.get("keypoints"), entry.get("keypoint_scores", entry.get("keypoints_scores"))
    if not isinstance(points, list) or not points or not all(isinstance(point, list) for point in points):
        return {BLOCK_KEYS["body"][0]: points}
    if all(len(point) == 3 for point in points) and scores is None:
        return {BLOCK_KEYS["body"][0]: [value for point in points for value in point]}
    if not isinstance(scores, list) or len(scores) != len(points) or not all(len(point) >= 2 for point in points):
        raise InputError(
            "keypoints without a score for each",
            seen=f"{len(points)} points, {len(scores) if isinstance(scores, list) else 'no'} scores",
            expected="as many keypoint_scores as keypoints",
        )
    flat = [value for point, score in zip(points, scores, strict=True) for value in (point[0], point[1], score)]
    return {BLOCK_KEYS["body"][0]: flat}


def _canvas(*entries: _Entry, keys: tuple[str, str] = ("canvas_width", "canvas_height")) -> tuple[float, float] | None:
    """The size of the picture that pose editors write."""
    for entry in entries:
        size = [entry.get(key) for key in keys]
        if all(isinstance(side, (int, float)) and not isinstance(side, bool) and 0 < side < 1e6 for side in size):
            return float(size[0]), float(size[1])  # type: ignore[arg-type]
    return None


def _objects(value: Any, name: str, key: str) -> list[_Entry]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise _unknown(name, f"{key} is {kind_of(value)}", "a list of objects")
    return value


def _plain(value: Any) -> Any:
    """A name or number that can be a key; None for anything else."""
    return value if isinstance(value, (str, int, float)) else None


def _unknown(name: str, seen: object, expected: str) -> InputError:
    return InputError("the JSON file is no OpenPose file", seen=f"{name}: {seen}", expected=expected, hint=HINT)


def _several(name: str, seen: str, hint: str) -> InputError:
    return InputError(f"{name} holds several pictures", seen=seen, expected="the people of one picture", hint=hint)


def kind_of(value: Any) -> str:
    """Type and beginning of a value, for messages."""
    if isinstance(value, (dict, list)):
        return f"{type(value).__name__} of {len(value)}"
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**40 else "of many digits"
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:40] + '…'}"


def joined(notes: Iterable[str], name: str) -> tuple[str, ...]:
    """Notes, each with the name of its file before it."""
    return tuple(f"{name}: {note}" for note in notes)
