"""The names of places on a person that keypoint formats point at, and how they mirror and connect.

A *place* is where on a person a keypoint lies (`left_hip`, `nose`, `right_index2`, `mouth_outer_3`). Places of joints
have the name of the joint in the SMPL-X tree. Left and right are the person's own.
"""

from itertools import pairwise

from vitruvian.keypoints.face_mesh import MIRROR_OF_MESH

FINGERS = ("thumb", "index", "middle", "ring", "pinky")
SIDES = ("left", "right")


def hand_places(side: str) -> tuple[str, ...]:
    """The 21 points of a hand: its wrist, then thumb to little finger, each from the palm to the tip.

    Points 1, 2, 3 of a finger are the joints of the SMPL-X tree: knuckle, middle and end joint (of the thumb the
    saddle joint at its root, the knuckle, and the end joint).
    """
    points = (f"{side}_{finger}{k}" for finger in FINGERS for k in ("1", "2", "3", "_tip"))
    return (f"{side}_hand_wrist", *points)


FACE_CONTOUR = tuple(f"face_contour_{k}" for k in range(1, 18))
FACE_INNER = (
    *(f"right_brow_{k}" for k in range(1, 6)),
    *(f"left_brow_{k}" for k in range(1, 6)),
    *(f"nose_bridge_{k}" for k in range(1, 5)),
    *(f"nostril_{k}" for k in range(1, 6)),
    *(f"right_eye_{k}" for k in range(1, 7)),
    *(f"left_eye_{k}" for k in range(1, 7)),
    *(f"mouth_outer_{k}" for k in range(1, 13)),
    *(f"mouth_inner_{k}" for k in range(1, 9)),
)
"""The 51 inner landmarks of the 68-point face (iBUG 300-W), in its order: 17 to 67."""
FACE_68 = (*FACE_CONTOUR, *FACE_INNER)

DERIVED_PLACES = {
    "shoulder_center": ("left_shoulder", "right_shoulder"),
    "hip_center": ("left_hip", "right_hip"),
    "left_hand_wrist": ("left_wrist",),
    "right_hand_wrist": ("right_wrist",),
}
"""Places that are by definition the mean of others, so a format that lacks them can still supply them."""


def _mirror_table() -> dict[str, str]:
    pairs: dict[str, str] = {}
    for k in range(1, 18):
        pairs[f"face_contour_{k}"] = f"face_contour_{18 - k}"
    for k in range(1, 6):
        pairs[f"right_brow_{k}"] = f"left_brow_{6 - k}"
        pairs[f"nostril_{k}"] = f"nostril_{6 - k}"
    for right, left in zip((1, 2, 3, 4, 5, 6), (4, 3, 2, 1, 6, 5), strict=True):
        pairs[f"right_eye_{right}"] = f"left_eye_{left}"
    for lip, corners in (("outer", (1, 7, 12)), ("inner", (1, 5, 8))):
        first, opposite, count = corners
        for k in range(1, count + 1):
            other = (opposite - k + first - 1) % count + 1
            pairs[f"mouth_{lip}_{k}"] = f"mouth_{lip}_{other}"
    for index, other in enumerate(MIRROR_OF_MESH):
        pairs[f"mesh_{index:03d}"] = f"mesh_{other:03d}"
    return {**{b: a for a, b in pairs.items()}, **pairs}


_MIRROR = _mirror_table()


def mirror_place(place: str) -> str:
    """The place that takes this place's part when left and right are exchanged."""
    if place in _MIRROR:
        return _MIRROR[place]
    for side, other in (SIDES, SIDES[::-1]):
        if place.startswith(f"{side}_"):
            return other + place.removeprefix(side)
    return place


def _chain(*places: str) -> tuple[tuple[str, str], ...]:
    return tuple(pairwise(places))


def _loop(prefix: str, count: int) -> tuple[tuple[str, str], ...]:
    names = [f"{prefix}_{k}" for k in range(1, count + 1)]
    return _chain(*names, names[0])


def _sided(*chains: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple(edge for side in SIDES for chain in chains for edge in _chain(*(f"{side}_{c}" for c in chain)))


def _hand_edges(side: str) -> tuple[tuple[str, str], ...]:
    points = hand_places(side)
    return tuple(edge for f in range(5) for edge in _chain(points[0], *points[1 + 4 * f : 5 + 4 * f]))


BODY_EDGES = (
    *_sided(
        ("shoulder", "elbow", "wrist"),
        ("hip", "knee", "ankle", "heel"),
        ("ankle", "big_toe"),
        ("big_toe", "small_toe"),
        ("big_toe", "heel"),
        ("eye", "ear"),
        ("shoulder", "hip"),
    ),
    ("left_shoulder", "right_shoulder"),
    ("left_hip", "right_hip"),
    ("nose", "left_eye"),
    ("nose", "right_eye"),
)
HAND_EDGES = (*_hand_edges("left"), *_hand_edges("right"))
FACE_EDGES = (
    *_chain(*FACE_CONTOUR),
    *_chain(*(f"right_brow_{k}" for k in range(1, 6))),
    *_chain(*(f"left_brow_{k}" for k in range(1, 6))),
    *_chain(*(f"nose_bridge_{k}" for k in range(1, 5))),
    *_chain(*(f"nostril_{k}" for k in range(1, 6))),
    *_loop("right_eye", 6),
    *_loop("left_eye", 6),
    *_loop("mouth_outer", 12),
    *_loop("mouth_inner", 8),
)
EDGES = (*BODY_EDGES, *HAND_EDGES, *FACE_EDGES)
"""Pairs of places to join by a line when keypoints are drawn; a format draws those of which it has both ends."""
