"""The record of depth cues: mirrors, frames, batches, and that absence is normal."""

import pytest
import torch

from vitruvian.errors import InputError, ShapeError
from vitruvian.geometry.rotations import exp_so3
from vitruvian.keypoints.depth_cues import BONE_NAMES, BONES, DepthCues
from vitruvian.tensors import concatenate_records


def random_cues(*batch: int) -> DepthCues:
    generator = torch.Generator().manual_seed(3)
    directions = torch.randn(*batch, len(BONES), 3, generator=generator, dtype=torch.float64)
    confidence = torch.rand(*batch, len(BONES), generator=generator, dtype=torch.float64)
    return DepthCues(torch.nn.functional.normalize(directions, dim=-1), confidence)


def test_a_mirrored_picture_exchanges_left_and_right() -> None:
    cues = random_cues(4)
    mirrored = cues.flip()
    x = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    for name in BONE_NAMES:
        other = name.replace("left", "right") if name.startswith("left") else name.replace("right", "left")
        direction, confidence = mirrored.select(other)
        expected, same = cues.select(name)
        # From right to left runs the other way once left and right are exchanged.
        assert torch.equal(direction, expected * x * (-1 if name in ("hips", "shoulders") else 1))
        assert torch.equal(confidence, same)
    assert torch.equal(mirrored.flip().directions, cues.directions)


def test_directions_turn_with_the_frame() -> None:
    cues = random_cues(3)
    R = exp_so3(torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    turned = cues.turned(R)
    torch.testing.assert_close(turned.select("left_shin")[0], (R @ cues.select("left_shin")[0][..., None])[..., 0])
    torch.testing.assert_close(turned.turned(R.transpose(-1, -2)).directions, cues.directions)


def test_people_are_indexed_and_joined() -> None:
    cues = random_cues(5)
    joined = concatenate_records([cues[:2], DepthCues.absent(3, dtype=torch.float64), cues[2:]])
    assert joined.confidence.shape == (8, len(BONES))
    assert torch.equal(joined[torch.tensor([5, 6, 7])].directions, cues[2:].directions)
    assert not joined[2:5].present
    assert joined.present


@pytest.mark.usefixtures("shapes_unchecked")
def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match="directions and confidence of bones"):
        DepthCues(torch.zeros(2, len(BONES), 2), torch.zeros(2, len(BONES)))
    with pytest.raises(ShapeError, match="directions and confidence of bones"):
        DepthCues(torch.zeros(2, 5, 3), torch.zeros(2, 5))
    with pytest.raises(InputError, match="unknown bone"):
        random_cues(1).select("tail")
