"""Formats: sizes of the published ones, laws of flips and conversions, and the table of names."""

import pytest

from vitruvian.errors import InputError
from vitruvian.keypoints.formats import FORMATS, GROUPS, conversion, definition_of, get_format, place_of
from vitruvian.keypoints.places import EDGES

SIZES = {
    "openpose-body25": 25, "openpose-coco18": 18, "openpose-body25b": 25, "openpose-left-hand": 21,
    "openpose-face70": 70, "openpose": 137, "coco17": 17, "coco-wholebody133": 133, "h36m17": 17,
    "mediapipe-pose33": 33, "mediapipe-holistic543": 543, "mediapipe-holistic": 553, "left-hand21": 21,
    "smplx-joints": 55, "smplx": 144,
}  # fmt: skip


def test_sizes_of_published_formats() -> None:
    assert {name: len(get_format(name)) for name in SIZES} == SIZES


@pytest.mark.parametrize("name", FORMATS)
def test_places_are_unique_and_groups_partition_the_keypoints(name: str) -> None:
    fmt = FORMATS[name]
    assert len(set(fmt.places)) == len(fmt)
    assert tuple(fmt.groups) == GROUPS
    assert sorted(row for rows in fmt.groups.values() for row in rows) == list(range(len(fmt)))


@pytest.mark.parametrize("name", FORMATS)
def test_flip_is_an_involution_that_keeps_the_middle_and_swaps_the_sides(name: str) -> None:
    fmt = FORMATS[name]
    back = get_format(fmt.mirror)
    assert back.mirror == fmt.name
    assert [fmt.flip[row] for row in back.flip] == list(range(len(fmt)))
    for row, source in enumerate(fmt.flip):
        assert ("left" in back.places[row]) == ("right" in fmt.places[source])


def test_flip_swaps_hands_and_eyes_of_openpose() -> None:
    fmt = get_format("openpose")
    assert fmt.flip[fmt.index("left_index2")] == fmt.index("right_index2")
    assert fmt.places[fmt.flip[fmt.index("right_eye_1")]] == "left_eye_4"  # both outer corners
    assert fmt.places[fmt.flip[fmt.index("mouth_outer_1")]] == "mouth_outer_7"
    assert fmt.places[fmt.flip[fmt.index("mouth_inner_3")]] == "mouth_inner_3"
    assert fmt.places[fmt.flip[fmt.index("face_contour_9")]] == "face_contour_9"


@pytest.mark.parametrize("source", FORMATS)
def test_conversion_to_itself_is_the_identity(source: str) -> None:
    for exact in (False, True):
        assert conversion(source, source, exact=exact) == tuple((row,) for row in range(len(FORMATS[source])))


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", ["openpose", "mediapipe-holistic", "h36m17"])
def test_conversion_takes_the_same_place_and_exact_conversion_the_same_definition(source: str, target: str) -> None:
    old, new = get_format(source), get_format(target)
    exact = conversion(source, target, exact=True)
    for row, (loose, strict) in enumerate(zip(conversion(source, target), exact, strict=True)):
        if len(loose) == 1 and "hand_wrist" not in new.places[row]:
            assert old.places[loose[0]] == new.places[row]
        if len(strict) == 1 and "hand_wrist" not in new.places[row]:
            assert old.names[strict[0]] == new.names[row]
        assert not strict or strict == loose


def test_known_conversions() -> None:
    body25, coco = get_format("openpose-body25"), get_format("coco17")
    to_body25 = conversion("coco17", "openpose-body25")
    assert to_body25[body25.index("left_hip")] == (coco.index("left_hip"),)
    assert to_body25[1] == (coco.index("left_shoulder"), coco.index("right_shoulder"))
    assert to_body25[8] == (coco.index("left_hip"), coco.index("right_hip"))
    assert to_body25[body25.index("left_heel")] == ()
    # The body's hip joint is no annotator's hip.
    hip = get_format("smplx").index("left_hip")
    assert conversion("coco17", "smplx")[hip] == (coco.index("left_hip"),)
    assert conversion("coco17", "smplx", exact=True)[hip] == ()
    # COCO-18 is part of BODY_25, order apart.
    there, back = conversion("openpose-coco18", "openpose-body25"), conversion("openpose-body25", "openpose-coco18")
    assert all(there[rows[0]] == (row,) for row, rows in enumerate(back))


def test_published_orders() -> None:
    assert get_format("openpose-body25").places[8:15] == (
        "hip_center", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    )  # fmt: skip
    assert get_format("openpose-coco18").places[8:11] == ("right_hip", "right_knee", "right_ankle")
    assert get_format("openpose").groups["left_hand"] == tuple(range(25, 46))
    assert get_format("openpose").groups["face"] == tuple(range(67, 137))
    assert get_format("coco-wholebody133").groups["face"] == tuple(range(23, 91))
    assert get_format("openpose-body25b").places[17:19] == ("upper_neck", "head_top")
    assert get_format("mediapipe-holistic").index("right_eye_1") == 75 + 33
    assert get_format("mediapipe-holistic").index("left_pupil") == 75 + 473
    assert get_format("smplx").index("nose") == 55


def test_edges_join_keypoints_of_the_format() -> None:
    fmt = get_format("openpose-body25")
    assert all((fmt.places[a], fmt.places[b]) in EDGES for a, b in fmt.edges)
    assert len(fmt.edges) == 24


def test_unknown_names_are_errors_that_list_the_known_ones() -> None:
    with pytest.raises(InputError, match="coco17"):
        get_format("coco-17")
    with pytest.raises(InputError, match="left_elbow"):
        get_format("coco17").index("left_tail")
    with pytest.raises(InputError):
        get_format("coco17").index("h36m:left_hip")
    assert get_format("mediapipe").name == "mediapipe-holistic"


def test_parts_of_a_name() -> None:
    assert (definition_of("coco:left_hip"), place_of("coco:left_hip")) == ("coco", "left_hip")
    assert (definition_of("left_hip"), place_of("left_hip")) == ("", "left_hip")
