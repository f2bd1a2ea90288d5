"""Random crops and colours, as ProHMR is trained with."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vitruvian.keypoints.crops import Crop, crop_of_box
from vitruvian.keypoints.observations import Keypoints

_HEAD = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
_UPPER = (*_HEAD, "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist")
_PARTS = (
    (*_HEAD, "left_shoulder", "right_shoulder"),
    _UPPER,
    (*_UPPER, "left_hip", "right_hip"),
    ("left_shoulder", "right_shoulder", "left_hip", "right_hip"),
    ("left_shoulder", "left_elbow", "left_wrist"),
    ("right_shoulder", "right_elbow", "right_wrist"),
    ("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
)
"""What extreme crops show."""


@dataclass(frozen=True)
class Augmentation:
    """How crops are varied; the defaults are those of ProHMR."""

    scale: float = 0.3
    """Standard deviation and largest change of the crop's size."""
    rotation_deg: float = 30.0
    """Standard deviation of its turn, limited to twice that."""
    rotation_probability: float = 0.6
    translation: float = 0.02
    """Standard deviation of its shift, in sides, limited to once that."""
    color: float = 0.2
    """Largest change of each colour's brightness."""
    flip: float = 0.5
    """Probability of the mirror image."""
    extreme_crop: float = 0.1
    """Probability that the crop shows a part of the person only."""

    @staticmethod
    def none() -> "Augmentation":
        """Upright crops of the whole person, as at the time of use."""
        return Augmentation(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def random_crops(
    keypoints: Keypoints, box: Float[Tensor, "batch 4"], config: Augmentation, generator: torch.Generator
) -> Crop:
    """A crop of each person.

    Args:
        keypoints: what is known of where they are; extreme crops show parts of these.
        box: bounding box (left, top, right, bottom) of each person.
        config: how much crops vary.
        generator: source of the draws.
    """
    size = len(box)
    extreme = torch.rand(size, generator=generator) < config.extreme_crop
    part = torch.randint(len(_PARTS), (size,), generator=generator)
    box = torch.where(extreme[:, None], _part_boxes(keypoints, box, part), box)
    crop = crop_of_box(box)
    draw = torch.randn(size, 4, generator=generator)
    scale = 1 + config.scale * draw[:, 0].clamp(-1, 1)
    turned = torch.rand(size, generator=generator) < config.rotation_probability
    angle = torch.where(turned, math.radians(config.rotation_deg) * draw[:, 1].clamp(-2, 2), 0.0)
    shift = config.translation * draw[:, 2:].clamp(-1, 1) * crop.side_px[:, None]
    return Crop(crop.center_px + shift, crop.side_px * scale, angle)


def _part_boxes(keypoints: Keypoints, box: Tensor, part: Tensor) -> Float[Tensor, "batch 4"]:
    """Boxes of parts of people, square and not too small; that of the person where too little of the part is known."""
    masks = torch.zeros(len(_PARTS), keypoints.confidence.shape[-1])
    for row, names in enumerate(_PARTS):
        found = [keypoints.definition.find(name) for name in names]
        masks[row, [index for index in found if index is not None]] = 1
    confidence = keypoints.confidence * masks[part].to(keypoints.confidence)
    seen = Keypoints(keypoints.positions, confidence, keypoints.format).bounding_box()
    middle, half = (seen[:, :2] + seen[:, 2:]) / 2, (seen[:, 2:] - seen[:, :2]).amax(-1) / 2
    least = 0.1 * (box[:, 2:] - box[:, :2]).amax(-1)
    half = torch.maximum(half, least)[:, None]
    enough = (confidence > 0).sum(-1) >= 2
    return torch.where(enough[:, None], torch.cat((middle - half, middle + half), -1), box)


def recolored(
    pixels: UInt8[Tensor, "batch 3 size size"], config: Augmentation, generator: torch.Generator
) -> UInt8[Tensor, "batch 3 size size"]:
    """Pictures with each colour brighter or darker by a factor of its own."""
    if not config.color:
        return pixels
    factor = 1 + config.color * (2 * torch.rand(len(pixels), 3, 1, 1, generator=generator) - 1)
    return (pixels * factor).round().clamp(0, 255).to(torch.uint8)
