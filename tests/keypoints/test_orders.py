"""Orders of keypoints are told by the limbs they make, on real detections and on people that are turned and hidden."""

import json
import zipfile
from pathlib import Path

import pytest
import torch

from vitruvian.keypoints.formats import get_format
from vitruvian.keypoints.openpose import read_people
from vitruvian.keypoints.orders import ORDERS, limb_length, tell_order

STANDING = {
    "nose": (0, -0.65), "eye": (0.03, -0.68), "ear": (0.07, -0.66), "shoulder": (0.18, -0.45), "elbow": (0.22, -0.17),
    "wrist": (0.24, 0.08), "hip": (0.10, 0.0), "knee": (0.10, 0.42), "ankle": (0.10, 0.83), "heel": (0.10, 0.88),
    "big_toe": (0.14, 0.95), "small_toe": (0.18, 0.94), "upper_neck": (0, -0.55), "head_top": (0, -0.8),
    "spine": (0, -0.2), "neck_nose": (0, -0.6), "shoulder_center": (0, -0.45), "hip_center": (0, 0.0),
}  # fmt: skip


def standing(format: str, *, degrees: float = 0.0) -> torch.Tensor:
    """A person of 200 pixels a metre who stands and faces us, in a format, turned in the picture."""
    rows = []
    for place in get_format(format).places:
        side = {"l": 1, "r": -1}.get(place[0], 1) if place.startswith(("left_", "right_")) else 1
        x, y = STANDING[place.removeprefix("left_").removeprefix("right_")]
        rows.append((side * x, y))
    angle = torch.deg2rad(torch.tensor(degrees))
    turn = torch.stack((torch.stack((angle.cos(), -angle.sin())), torch.stack((angle.sin(), angle.cos()))))
    points = 400 + 200 * torch.tensor(rows) @ turn.T
    return torch.cat((points, torch.full((len(rows), 1), 0.9)), -1)[None]


@pytest.mark.parametrize("degrees", [0.0, 90.0, 200.0])
@pytest.mark.parametrize(
    ("format", "candidates"), [(name, names) for count, names in ORDERS.items() if count < 26 for name in names]
)
def test_the_order_that_the_person_is_in_is_told(format: str, candidates: tuple[str, ...], degrees: float) -> None:
    order = tell_order(standing(format, degrees=degrees), candidates)
    assert order.format == format
    assert 0 < order.share <= 1


def test_one_wrong_point_changes_nothing() -> None:
    triples = standing("openpose-body25b")
    triples[0, 9, 0] = 1e30  # squared, beyond float32
    assert tell_order(triples, ORDERS[25]).format == "openpose-body25b"


def test_where_limbs_do_not_tell_the_usual_order_is_taken_and_it_is_said() -> None:
    same = torch.full((1, 25, 3), 0.9)
    few = standing("openpose-body25b")
    few[:, 3:, 2] = 0
    for triples in (same, few, few[:0]):
        order = tell_order(triples, ORDERS[25])
        assert (order.format, order.clear) == ("openpose-body25", False)
    assert limb_length(few, "openpose-body25b") is None


def test_the_length_grows_with_the_picture_and_with_nothing_else() -> None:
    triples = standing("coco17")
    larger = triples * torch.tensor([3.0, 3.0, 1.0])
    one, three = (limb_length(values, "coco17") for values in (triples, larger))
    assert one is not None
    assert three == pytest.approx(3 * one, rel=1e-5)
    assert limb_length(triples + torch.tensor([50.0, 9.0, 0.0]), "coco17") == pytest.approx(one, rel=1e-4)


def test_real_detections_in_body25b_are_recognised(tmp_path: Path, shared_data: Path) -> None:
    right = total = 0
    with zipfile.ZipFile(shared_data / "four_view_balancing.zip") as archive:
        members = [m for m in archive.namelist() if m.endswith("0.json") and "_json/" in m]
        for member in members:
            if not json.loads(archive.read(member))["people"]:
                continue
            people = read_people(archive.extract(member, tmp_path))
            total += 1
            right += people.keypoints.format == "openpose-body25b"
            assert people.keypoints.format != "openpose-body25b" or "openpose-body25b" in people.keypoints.notes[0]
    assert total > 20
    assert right >= 0.99 * total - 1
