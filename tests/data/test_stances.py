"""Stances of poses with a known answer, and shares that sum to what was asked for."""

import math

import pytest
import torch

from vitruvian.bodies.skeletons import BODY_JOINTS
from vitruvian.data.stances import stances, with_shares
from vitruvian.geometry.rotations import exp_so3


def pose(*, lean_deg: float = 0.0, thighs_deg: float = 0.0, knees_deg: float = 0.0) -> torch.Tensor:
    """A pose with both thighs raised forwards, both knees bent, and the trunk leaning forwards."""
    vectors = torch.zeros(22, 3)
    vectors[0, 0] = math.radians(lean_deg)
    for side in ("left", "right"):
        vectors[BODY_JOINTS.index(f"{side}_hip"), 0] = -math.radians(thighs_deg)
        vectors[BODY_JOINTS.index(f"{side}_knee"), 0] = math.radians(knees_deg)
    return exp_so3(vectors)[None]


@pytest.mark.parametrize(
    ("rotations", "expected"),
    [
        (pose(), "standing"),
        (pose(thighs_deg=10, knees_deg=15), "standing"),
        (pose(thighs_deg=30, knees_deg=40), "walking"),
        (pose(thighs_deg=85, knees_deg=90), "sitting"),
        (pose(lean_deg=90), "ground"),
        (pose(lean_deg=180), "acrobatic"),
        (pose(lean_deg=45), None),
    ],
)
def test_stances_of_plain_poses(rotations: torch.Tensor, expected: str | None) -> None:
    found = [name for name, mask in stances(rotations).items() if bool(mask[0])]
    assert found == ([] if expected is None else [expected])


def test_no_pose_is_of_two_stances(generator: torch.Generator) -> None:
    poses = exp_so3(torch.randn(500, 22, 3, generator=generator))
    assert int(torch.stack(list(stances(poses).values())).sum(0).max()) <= 1


def test_shares_are_those_asked_for_and_order_within_a_kind_is_kept(generator: torch.Generator) -> None:
    weights = torch.rand(60, generator=generator) + 0.1
    kinds = {
        "a": torch.arange(60) < 10,
        "b": (torch.arange(60) >= 10) & (torch.arange(60) < 15),
        "none": torch.zeros(60).bool(),
    }
    shared = with_shares(weights, kinds, {"a": 0.5, "b": 0.2, "none": 0.1})
    torch.testing.assert_close(shared.sum(), torch.tensor(1.0))
    torch.testing.assert_close(shared[:10].sum(), torch.tensor(0.5))
    torch.testing.assert_close(shared[10:15].sum(), torch.tensor(0.2))
    for part in (slice(0, 10), slice(10, 15), slice(15, 60)):
        torch.testing.assert_close(shared[part] / shared[part].sum(), weights[part] / weights[part].sum())
