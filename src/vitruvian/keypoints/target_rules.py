"""Where keypoints lie on a body: rules that combine joints, named surface vertices and face landmarks.

A rule names its sources: `left_knee` is a joint of the skeleton, `vertex:nose` a published keypoint vertex,
`landmark:13` a point of the 68-point face. The weights of a rule sum to one and may be negative: the combination of
joints "1.2 left_hip − 0.2 right_hip" lies outside the hip joint on the line through both. Because sources have names,
a rule holds for every body family that has them.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from vitruvian.keypoints.formats import place_of
from vitruvian.keypoints.places import FACE_CONTOUR, FACE_INNER, FINGERS, SIDES

Rule = Mapping[str, float]


def _mean(*sources: str) -> Rule:
    return dict.fromkeys(sources, 1 / len(sources))


def _sided(rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """Rules for both sides from rules that say `SIDE` for their own side and `OTHER` for the other."""
    out: dict[str, Rule] = {}
    for side, other in (SIDES, SIDES[::-1]):
        for place, rule in rules.items():
            out[place.replace("SIDE", side)] = {
                source.replace("SIDE", side).replace("OTHER", other): weight for source, weight in rule.items()
            }
    return out


_SURFACE_PLACES = ("ear", "big_toe", "small_toe", "heel", *(f"{finger}_tip" for finger in FINGERS))

PLACE_RULES: Mapping[str, Rule] = {
    "nose": {"vertex:nose": 1.0},
    "shoulder_center": _mean("left_shoulder", "right_shoulder"),
    "hip_center": _mean("left_hip", "right_hip"),
    "upper_neck": {"head": 1.0},
    "head_top": {"vertex:head_top": 1.0},
    "spine": {"spine2": 1.0},
    "neck_nose": _mean("head", "vertex:nose"),
    **_sided(
        {
            **{f"SIDE_{place}": {f"vertex:SIDE_{place}": 1.0} for place in _SURFACE_PLACES},
            "SIDE_eye_front": {"vertex:SIDE_eye_front": 1.0},
            "SIDE_pupil": {"vertex:SIDE_eye_front": 1.0},
            "SIDE_hand_wrist": {"SIDE_wrist": 1.0},
            "SIDE_pinky_knuckle": {"SIDE_pinky1": 1.0},
            "SIDE_index_knuckle": {"SIDE_index1": 1.0},
            "SIDE_thumb_knuckle": {"SIDE_thumb2": 1.0},
        }
    ),
    **{place: {f"landmark:{17 + k}": 1.0} for k, place in enumerate(FACE_INNER)},
    **{place: {f"landmark:{k}": 1.0} for k, place in enumerate(FACE_CONTOUR)},
}
"""Rules by place, used where a definition has none of its own; places not listed are joints of the same name."""

_EYES = {"SIDE_eye": {"vertex:SIDE_eye_front": 1.0}}
DEFINITION_RULES: Mapping[str, Rule] = {
    **{
        f"{definition}:{place}": rule
        for definition in ("coco", "mediapipe", "mpii")
        for place, rule in _sided(_EYES).items()
    },
    "h36m:shoulder_center": {"neck": 1.0},
    **{f"mediapipe:{side}_mouth_corner": {f"landmark:{54 if side == 'left' else 48}": 1.0} for side in SIDES},
    **{f"mediapipe:{side}_eye_outer": {f"landmark:{45 if side == 'left' else 36}": 1.0} for side in SIDES},
    **{f"mediapipe:{side}_eye_inner": {f"landmark:{42 if side == 'left' else 39}": 1.0} for side in SIDES},
}
"""Rules by `definition:place`, for keypoints whose definition differs from the joint or vertex of that place."""


def place_rule(place: str) -> Rule:
    """The rule of a place, whoever defines it: a published vertex, a landmark, else the joint of that name."""
    return PLACE_RULES.get(place) or {place: 1.0}


@cache
def regressed_rules(family: str) -> Mapping[str, Rule]:
    """Rules by `definition:place` that were regressed on a body family; none for families where nobody did."""
    path = files("vitruvian") / "resources" / "keypoints" / f"{family}_rules.json"
    if not path.is_file():
        return {}
    rules: dict[str, dict[str, float]] = json.loads(path.read_text(encoding="utf-8"))["rules"]
    return rules


def rules_for(name: str, *, family: str) -> tuple[Rule, ...]:
    """The rules of a keypoint on a body family, best first: regressed, that of its definition, that of its place.

    A body may lack the sources of one (fingers), and have those of the next.
    """
    candidates = (regressed_rules(family).get(name), DEFINITION_RULES.get(name), place_rule(place_of(name)))
    return tuple(rule for rule in candidates if rule is not None)


def default_weight(name: str, *, family: str) -> float:
    """How much a keypoint counts in a fit on a body family, besides its confidence.

    Zero for points that repeat others (OpenPose's neck and mid hip, the wrist of an OpenPose hand) and for the face
    contour, which is an outline and no point of the face. Hips clicked in photographs count where their place on the
    body was regressed; elsewhere they do not, as in the published fit (SMPLify-X). Of the face mesh the points that
    are landmarks count, which are enough and keep fits fast.
    """
    place = place_of(name)
    if place in ("shoulder_center", "hip_center", *FACE_CONTOUR) or place.startswith("mesh_"):
        return 0.0
    if place.endswith("_hand_wrist") and not name.startswith("mediapipe:"):
        return 0.0
    if name in ("coco:left_hip", "coco:right_hip"):
        return 0.5 if name in regressed_rules(family) else 0.0
    return 0.5 if place.endswith(("_hand_wrist", "_knuckle")) else 1.0
