"""Finger rotations from joint positions: rest, fists, invariance, and agreement of bone directions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vitruvian.bodies.skeletons import hand_joints
from vitruvian.data.hands import _FAN_RAD, LEAP_FINGERS, left_hand_rotations, mirrored, read_leap_hands
from vitruvian.errors import InputError
from vitruvian.geometry.rotations import exp_so3, log_so3

NAMES = hand_joints("left")


def left_hand(bends: dict[str, tuple[float, float, float]] | None = None) -> Tensor:
    """A left hand in the frame of the body's T-pose; fingers bent by given angles at their three joints."""
    hand = torch.zeros(1, 5, 5, 3, dtype=torch.float64)
    for row, finger in enumerate(LEAP_FINGERS):
        if finger == "thumb":
            hand[0, row] = torch.linspace(0, 0.08, 5, dtype=torch.float64)[:, None] * torch.tensor([0.65, -0.57, 0.5])
            hand[0, row, 0] = hand[0, row, 1]
            continue
        side = 0.02 * (2 - row) + 0.01
        fan = _FAN_RAD[finger]
        hinge = torch.tensor([np.sin(fan), 0.0, -np.cos(fan)], dtype=torch.float64)
        points = [torch.tensor([-0.07, 0, side]).double(), torch.tensor([0.0, 0, side]).double()]
        turn = torch.eye(3, dtype=torch.float64)
        for angle, length in zip((bends or {}).get(finger, (0.0, 0.0, 0.0)), (0.04, 0.025, 0.02), strict=True):
            turn = turn @ exp_so3(angle * hinge)
            bone = torch.tensor([np.cos(fan), 0.0, np.sin(fan)], dtype=torch.float64) * length
            points.append(points[-1] + turn @ bone)
        hand[0, row] = torch.stack(points)
    return hand


def vector(rotations: Tensor, name: str) -> Tensor:
    return log_so3(rotations)[0, NAMES.index(name)]


def test_the_rest_hand_gives_identities() -> None:
    rotations = left_hand_rotations(left_hand())
    fingers = [row for row, name in enumerate(NAMES) if "thumb" not in name]
    identity = torch.eye(3, dtype=torch.float64).expand(1, len(fingers), 3, 3)
    torch.testing.assert_close(rotations[:, fingers], identity, rtol=0, atol=1e-6)
    thumb = [row for row, name in enumerate(NAMES) if "thumb" in name]
    assert float(log_so3(rotations)[:, thumb].norm(dim=-1).max()) < 0.02


def test_bent_fingers_are_recovered() -> None:
    bends = {"index": (0.9, 1.2, 0.7), "middle": (0.4, 0.0, 0.0), "ring": (0.0, 1.0, 0.4), "pinky": (1.4, 1.5, 0.9)}
    rotations = left_hand_rotations(left_hand(bends))
    for finger, angles in bends.items():
        fan = _FAN_RAD[finger]
        hinge = torch.tensor([np.sin(fan), 0.0, -np.cos(fan)], dtype=torch.float64)
        for k, angle in enumerate(angles, start=1):
            torch.testing.assert_close(vector(rotations, f"left_{finger}{k}"), angle * hinge, rtol=0, atol=1e-6)
    # A left finger that closes turns about −z.
    assert vector(rotations, "left_index2")[2] < -1


def test_place_and_size_of_the_hand_do_not_matter(generator: torch.Generator) -> None:
    hand = left_hand({"index": (0.5, 0.6, 0.3), "ring": (0.2, 0.9, 0.5)})
    turn = exp_so3(torch.randn(3, generator=generator, dtype=torch.float64))
    moved = 1.3 * hand @ turn.T + torch.randn(3, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(left_hand_rotations(moved), left_hand_rotations(hand))


def test_mirroring_is_an_involution() -> None:
    hand = left_hand({"index": (0.5, 0.6, 0.3)})
    torch.testing.assert_close(mirrored(mirrored(hand)), hand)


def test_recorded_bones_point_where_the_rotations_turn_them(shared_data: Path) -> None:
    recordings = read_leap_hands(shared_data / "hands_leap_signs.npz")
    rows = torch.arange(0, len(recordings.joints), 500)
    hands = torch.where(
        recordings.is_left[rows, None, None, None], recordings.joints[rows], mirrored(recordings.joints[rows])
    )
    assert len(set(recordings.signs)) == 42
    rotations = left_hand_rotations(hands)
    identity = torch.eye(3, dtype=torch.float64).expand(len(rows), 15, 3, 3)
    torch.testing.assert_close(rotations.mT @ rotations, identity, rtol=0, atol=1e-9)
    # Angles between neighbouring bones, free of any frame, must be those of the rotations.
    bones = torch.nn.functional.normalize(hands[:, :, 2:] - hands[:, :, 1:-1], dim=-1)
    for finger in ("index", "middle", "ring", "pinky"):
        row = LEAP_FINGERS.index(finger)
        angle = torch.acos((bones[:, row, 0] * bones[:, row, 1]).sum(-1).clamp(-1, 1))
        found = log_so3(rotations[:, NAMES.index(f"left_{finger}2")]).norm(dim=-1)
        assert float((angle - found).abs().median()) < 0.02
    # Most recorded fingers are closed, not opened backwards.
    assert float(log_so3(rotations)[:, NAMES.index("left_ring1"), 2].median()) < 0


def test_files_without_hands_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not found"):
        read_leap_hands(tmp_path / "none.npz")
    np.savez(tmp_path / "a.npz", joints_mm=np.zeros((1, 5, 5, 3)))
    with pytest.raises(InputError, match="lack"):
        read_leap_hands(tmp_path / "a.npz")
