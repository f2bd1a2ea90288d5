"""The registry of named keypoint formats, and conversion between them by name.

A keypoint is named `definition:place`. The place says where on a person it lies (`left_hip`); the definition says who
decided where exactly that is, because people who click hips in photographs (`coco:left_hip`) mean another point than
motion capture (`h36m:left_hip`), a detector's training guide (`mediapipe:left_hip`) or the body's own joint, which has
the bare name `left_hip`. Definitions:

- `coco`: annotators of COCO and COCO-WholeBody, on whose clicks OpenPose was trained too
- `mpii`: annotators of MPII (upper neck, head top)
- `ibug`: the 68-point face of iBUG 300-W
- `mediapipe`: BlazePose, and MediaPipe's hands and face mesh
- `h36m`: the 17-joint Human3.6M skeleton
- `halpe`: annotators of Halpe Full-Body
- none: joints of the SMPL-X tree, and published vertices of its surface

Conversion takes a keypoint from the place of the same name (its definition may differ by a few centimetres; ask for
`exact` conversion to refuse that); places that are means of others are computed; all else is missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from vitruvian.bodies.skeletons import SMPLX
from vitruvian.errors import InputError
from vitruvian.keypoints.face_mesh import MESH_OF_FACE_68
from vitruvian.keypoints.places import (
    DERIVED_PLACES,
    EDGES,
    FACE_68,
    FACE_CONTOUR,
    FACE_INNER,
    FINGERS,
    SIDES,
    hand_places,
    mirror_place,
)

GROUPS = ("body", "left_hand", "right_hand", "face")


def place_of(name: str) -> str:
    """The place in a keypoint's name: `place_of("coco:left_hip")` is `left_hip`."""
    return name.rpartition(":")[2]


def definition_of(name: str) -> str:
    """The definition in a keypoint's name, empty for joints and vertices of the body."""
    return name.rpartition(":")[0]


@dataclass(frozen=True)
class KeypointFormat:
    """A named order of keypoints.

    Attributes:
        name: name in the registry.
        names: the keypoints, `definition:place`, no place twice.
        groups: indices of the keypoints of the body, each hand and the face; absent groups are empty.
    """

    name: str
    names: tuple[str, ...]
    groups: Mapping[str, tuple[int, ...]]

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def places(self) -> tuple[str, ...]:
        return tuple(place_of(name) for name in self.names)

    @cached_property
    def _row_of_place(self) -> dict[str, int]:
        return {place: row for row, place in enumerate(self.places)}

    def find(self, name: str) -> int | None:
        """Index of a keypoint by place, or by `definition:place`; None where the format has no such keypoint."""
        row = self._row_of_place.get(place_of(name))
        if row is not None and ":" in name and self.names[row] != name:
            return None
        return row

    def index(self, name: str) -> int:
        """Like `find`, but raises InputError for a keypoint that the format does not have."""
        row = self.find(name)
        if row is None:
            raise InputError(f"the format {self.name} has no such keypoint", seen=name, expected=", ".join(self.names))
        return row

    @cached_property
    def flip(self) -> tuple[int, ...]:
        """For each keypoint of the format `mirror`, the one of this format that becomes it in a mirrored picture."""
        return tuple(self._row_of_place[mirror_place(place)] for place in get_format(self.mirror).places)

    @property
    def mirror(self) -> str:
        """Format of the keypoints of a mirrored picture: this one, except that a left hand becomes a right one."""
        swapped = {"left": "right", "right": "left"}
        return "-".join(swapped.get(part, part) for part in self.name.split("-"))

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Symmetric pairs of keypoints, each once."""
        return tuple((row, other) for row, other in enumerate(self.flip) if row < other)

    @cached_property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Pairs of keypoints to join by a line in drawings."""
        rows = self._row_of_place
        return tuple((rows[a], rows[b]) for a, b in EDGES if a in rows and b in rows)


@cache
def conversion(source: str, target: str, *, exact: bool = False) -> tuple[tuple[int, ...], ...]:
    """For each keypoint of the format `target`, the keypoints of `source` whose mean it is; none if it is missing.

    With `exact`, only keypoints of the same definition are taken (and derived ones whose parts all have it).
    """
    old, new = get_format(source), get_format(target)

    def lookup(definition: str, place: str) -> int | None:
        row = old.find(place)
        return None if row is None or (exact and definition_of(old.names[row]) != definition) else row

    def sources(name: str) -> tuple[int, ...]:
        same = lookup(definition_of(name), place_of(name))
        if same is not None:
            return (same,)
        parts = [lookup(definition_of(name), part) for part in DERIVED_PLACES.get(place_of(name), ())]
        known = tuple(row for row in parts if row is not None)
        return known if len(known) == len(parts) else ()

    return tuple(sources(name) for name in new.names)


def _format(name: str, **groups: tuple[str, ...]) -> KeypointFormat:
    names: list[str] = []
    rows: dict[str, tuple[int, ...]] = dict.fromkeys(GROUPS, ())
    for group, members in groups.items():
        rows[group] = tuple(range(len(names), len(names) + len(members)))
        names += members
    return KeypointFormat(name, tuple(names), rows)


def _define(definition: str, places: tuple[str, ...] | str) -> tuple[str, ...]:
    if isinstance(places, str):
        places = tuple(places.split())
    return tuple(f"{definition}:{place}" for place in places)


_COCO_17 = _define(
    "coco",
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist"
    " right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle",
)
_FEET = _define("coco", "left_big_toe left_small_toe left_heel right_big_toe right_small_toe right_heel")
_OPENPOSE_18 = _define(
    "coco",
    "nose shoulder_center right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip"
    " right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear",
)
_BODY_25 = (*_OPENPOSE_18[:8], "coco:hip_center", *_OPENPOSE_18[8:], *_FEET)
_BODY_25B = (*_COCO_17, *_define("mpii", "upper_neck head_top"), *_FEET)
_HALPE_26 = (
    *_COCO_17,
    *_define(
        "halpe",
        "head_top shoulder_center hip_center left_big_toe right_big_toe left_small_toe right_small_toe"
        " left_heel right_heel",
    ),
)
_COCO_HANDS = {f"{side}_hand": _define("coco", hand_places(side)) for side in SIDES}
_FACE_68 = _define("ibug", FACE_68)
_FACE_70 = (*_FACE_68, *_define("ibug", "right_pupil left_pupil"))
_H36M_17 = _define(
    "h36m",
    "hip_center right_hip right_knee right_ankle left_hip left_knee left_ankle spine shoulder_center neck_nose"
    " head_top left_shoulder left_elbow left_wrist right_shoulder right_elbow right_wrist",
)
_BLAZEPOSE_33 = _define(
    "mediapipe",
    "nose left_eye_inner left_eye left_eye_outer right_eye_inner right_eye right_eye_outer left_ear right_ear"
    " left_mouth_corner right_mouth_corner left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist"
    " left_pinky_knuckle right_pinky_knuckle left_index_knuckle right_index_knuckle left_thumb_knuckle"
    " right_thumb_knuckle left_hip right_hip left_knee right_knee left_ankle right_ankle left_heel right_heel"
    " left_big_toe right_big_toe",
)
_MEDIAPIPE_HANDS = {f"{side}_hand": _define("mediapipe", hand_places(side)) for side in SIDES}
_IRISES = _define("mediapipe", tuple(f"{side}_{p}" for side in ("right", "left") for p in
                                     ("pupil", "iris_1", "iris_2", "iris_3", "iris_4")))  # fmt: skip


def _mesh_names() -> tuple[str, ...]:
    landmark = {mesh: place for place, mesh in zip(FACE_68, MESH_OF_FACE_68, strict=True)}
    return _define("mediapipe", tuple(landmark.get(k, f"mesh_{k:03d}") for k in range(468)))


_FACE_MESH = _mesh_names()
_SMPLX_SURFACE = (
    "nose", "right_eye_front", "left_eye_front", "right_ear", "left_ear", "left_big_toe", "left_small_toe", "left_heel",
    "right_big_toe", "right_small_toe", "right_heel",
)  # fmt: skip
_SMPLX_TIPS = {side: tuple(f"{side}_{finger}_tip" for finger in FINGERS) for side in SIDES}
_SMPLX_JOINTS = KeypointFormat(
    "smplx-joints",
    SMPLX.names,
    {
        "body": tuple(range(25)),
        "left_hand": tuple(range(25, 40)),
        "right_hand": tuple(range(40, 55)),
        "face": (),
    },
)


def _smplx() -> KeypointFormat:
    names = (*SMPLX.names, *_SMPLX_SURFACE, *_SMPLX_TIPS["left"], *_SMPLX_TIPS["right"], *FACE_INNER, *FACE_CONTOUR)
    joints = _SMPLX_JOINTS.groups
    return KeypointFormat(
        "smplx",
        names,
        {
            "body": (*joints["body"], *range(55, 66)),
            "left_hand": (*joints["left_hand"], *range(66, 71)),
            "right_hand": (*joints["right_hand"], *range(71, 76)),
            "face": tuple(range(76, 144)),
        },
    )


_OPENPOSE_EXTRA = {**_COCO_HANDS, "face": _FACE_70}

FORMATS: Mapping[str, KeypointFormat] = {
    fmt.name: fmt
    for fmt in (
        _format("openpose-body25", body=_BODY_25),
        _format("openpose-coco18", body=_OPENPOSE_18),
        _format("openpose-body25b", body=_BODY_25B),
        # OpenPose's single-network model: its hands have no wrist of their own.
        _format(
            "openpose-body135",
            body=_BODY_25B,
            **{group: names[1:] for group, names in _COCO_HANDS.items()},
            face=_FACE_70,
        ),
        _format("openpose-left-hand", left_hand=_COCO_HANDS["left_hand"]),
        _format("openpose-right-hand", right_hand=_COCO_HANDS["right_hand"]),
        _format("openpose-face70", face=_FACE_70),
        _format("openpose", body=_BODY_25, **_OPENPOSE_EXTRA),
        _format("openpose-25b-full", body=_BODY_25B, **_OPENPOSE_EXTRA),
        _format("coco17", body=_COCO_17),
        _format("coco17-neck18", body=(*_COCO_17, "coco:shoulder_center")),
        _format("halpe26", body=_HALPE_26),
        # The face comes before the hands, as in COCO-WholeBody.
        _format("halpe136", body=_HALPE_26, face=_FACE_68, **_COCO_HANDS),
        # In the order of the data set: the face comes before the hands.
        _format("coco-wholebody133", body=(*_COCO_17, *_FEET), face=_FACE_68, **_COCO_HANDS),
        _format("ibug-face68", face=_FACE_68),
        _format("h36m17", body=_H36M_17),
        _format("mediapipe-pose33", body=_BLAZEPOSE_33),
        _format("mediapipe-left-hand", left_hand=_MEDIAPIPE_HANDS["left_hand"]),
        _format("mediapipe-right-hand", right_hand=_MEDIAPIPE_HANDS["right_hand"]),
        _format("mediapipe-face468", face=_FACE_MESH),
        _format("mediapipe-face478", face=(*_FACE_MESH, *_IRISES)),
        _format("mediapipe-holistic543", body=_BLAZEPOSE_33, **_MEDIAPIPE_HANDS, face=_FACE_MESH),
        _format("mediapipe-holistic", body=_BLAZEPOSE_33, **_MEDIAPIPE_HANDS, face=(*_FACE_MESH, *_IRISES)),
        _format("left-hand21", left_hand=hand_places("left")),
        _format("right-hand21", right_hand=hand_places("right")),
        _SMPLX_JOINTS,
        _smplx(),
        # What the recovery networks read: see keypoints/canonical.py.
        _format(
            "vitruvian82",
            body=(*_BODY_25, *_define("mpii", "upper_neck head_top")),
            **_COCO_HANDS,
            face=_define(
                "ibug",
                "face_contour_9 right_brow_3 left_brow_3 nostril_3 right_eye_1 right_eye_4 left_eye_1 left_eye_4"
                " mouth_outer_1 mouth_outer_4 mouth_outer_7 mouth_outer_10 nose_bridge_1",
            ),
        ),
    )
}
"""Every known format by name."""

ALIASES: Mapping[str, str] = {
    "body25": "openpose-body25",
    "body_25": "openpose-body25",
    "body25b": "openpose-body25b",
    "body_25b": "openpose-body25b",
    "coco18": "openpose-coco18",
    "coco": "coco17",
    "coco-wholebody": "coco-wholebody133",
    "body135": "openpose-body135",
    "body_135": "openpose-body135",
    "halpe_26": "halpe26",
    "halpe_136": "halpe136",
    "h36m": "h36m17",
    "openpose137": "openpose",
    "mediapipe": "mediapipe-holistic",
    "mediapipe-holistic553": "mediapipe-holistic",
}


UNION = "+"
"""Joins the names of formats to the name of the format that has the points of all of them."""


def get_format(name: str) -> KeypointFormat:
    """The format of this name or alias, or of several joined by "+"; raises InputError that lists the known ones."""
    if UNION in name:
        return _union(tuple(name.split(UNION)))
    found = FORMATS.get(ALIASES.get(name, name))
    if found is None:
        raise InputError("unknown keypoint format", seen=name, expected="one of " + ", ".join(FORMATS))
    return found


def common_format(names: Sequence[str]) -> str:
    """The smallest format that keeps every point of all the given ones, for people of pictures of mixed formats.

    That is a registered format where one has all these points by the same definitions, else "A+B": the points of A, and
    those of B in places that A lacks.
    """
    given = {get_format(part).name: get_format(part) for name in names for part in name.split(UNION)}
    wanted = {point for definition in given.values() for point in definition.names}
    holding = [definition for definition in FORMATS.values() if wanted <= set(definition.names)]
    if holding:
        return min([definition for definition in holding if definition.name in given] or holding, key=len).name
    return UNION.join(given)


@cache
def _union(names: tuple[str, ...]) -> KeypointFormat:
    """The points of the first format, and of each further one those in places that are not there yet."""
    groups: dict[str, tuple[str, ...]] = dict.fromkeys(GROUPS, ())
    places: set[str] = set()
    for definition in map(get_format, names):
        for group in GROUPS:
            new = [definition.names[row] for row in definition.groups[group]]
            groups[group] += tuple(point for point in new if place_of(point) not in places)
        places.update(definition.places)
    return _format(UNION.join(names), **groups)
