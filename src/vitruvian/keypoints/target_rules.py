"""Where keypoints lie on a body: rules that combine joints, named surface vertices and face landmarks.

A rule names its sources: `left_knee` is a joint of the skeleton, `vertex:nose` a published keypoint vertex,
`landmark:13` a point of the 68-point face. The weights of a rule sum to one and may be negative: the combination of
joints "1.2 left_hip − 0.2 right_hip" lies outside the hip joint on the line through both. Because sources have names,
a rule holds for every body family that has them.
"""

from collections.abc import Mapping

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


def rule_for(name: str) -> Rule:
    """The rule of a keypoint: that of its definition, else that of its place."""
    return DEFINITION_RULES.get(name) or place_rule(place_of(name))


def default_weight(name: str) -> float:
    """How much a keypoint counts in a fit, besides its confidence.

    Zero for points that repeat others (OpenPose's neck and mid hip), for hips that were clicked in photographs (the
    published fit leaves both out, SMPLify-X), and for the face contour, which is an outline and no point of the face.
    """
    place = place_of(name)
    if place in ("shoulder_center", "hip_center") or place in FACE_CONTOUR or place.endswith("_hand_wrist"):
        return 0.0
    if name in ("coco:left_hip", "coco:right_hip"):
        return 0.0
    return 1.0
