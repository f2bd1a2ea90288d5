"""Crops of people with what is known about each: the batches that an image network learns from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from vitruvian.errors import InputError
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.crops import Crop
from vitruvian.keypoints.observations import Keypoints
from vitruvian.tensors import BatchRecord, concatenate_records


@dataclass(frozen=True, eq=False)
class CroppedPeople(BatchRecord):
    """People, one crop each. What is not known of a person is zero and says so in a mask or a confidence.

    Attributes:
        pixels: the crops, red, green, blue.
        crop: where in its picture each crop lies (in the mirrored picture where it was mirrored).
        camera: of the picture, pixels of the picture.
        keypoints: canonical 2D keypoints, pixels of the picture.
        rotations: local rotations of the 22 body joints, the root in the camera frame.
        has_pose: whether `rotations` are known.
        betas: shape.
        has_shape: whether `betas` are known.
        joints: the 22 body joints in the camera frame, metres; only their distances from the pelvis count.
        joints_confidence: of each joint; zero where unknown.
    """

    pixels: UInt8[Tensor, "batch 3 size size"]
    crop: Crop
    camera: Camera
    keypoints: Keypoints
    rotations: Float[Tensor, "batch 22 3 3"]
    has_pose: Bool[Tensor, "batch"]
    betas: Float[Tensor, "batch shape"]
    has_shape: Bool[Tensor, "batch"]
    joints: Float[Tensor, "batch 22 3"]
    joints_confidence: Float[Tensor, "batch 22"]

    def __len__(self) -> int:
        return len(self.pixels)


class PeopleSource(Protocol):
    """Numbered batches of people without end; batch n of a seed is always the same."""

    def batch(self, size: int, *, seed: int, number: int = 0) -> CroppedPeople: ...


class MixedPeople:
    """People of several sources, drawn with given weights, person by person.

    Args:
        sources: where people come from.
        weights: how often, relative to each other (ProHMR: Human3.6M 0.3, MPII 0.1, COCO 0.4, MPI-INF-3DHP 0.2).

    Raises:
        InputError: no sources, or weights that do not match or are not positive.
    """

    def __init__(self, sources: Sequence[PeopleSource], weights: Sequence[float]) -> None:
        if not sources or len(sources) != len(weights) or min(weights) <= 0:
            raise InputError(
                "every source of people needs a positive weight",
                seen=tuple(weights),
                expected=f"{len(sources)} weights",
            )
        self.sources = tuple(sources)
        self.weights = torch.tensor(weights, dtype=torch.float64)

    def batch(self, size: int, *, seed: int, number: int = 0) -> CroppedPeople:
        generator = torch.Generator().manual_seed((seed * 1_000_003 + number) % (1 << 63))
        drawn = torch.multinomial(self.weights, size, replacement=True, generator=generator)
        counts = torch.bincount(drawn, minlength=len(self.sources)).tolist()
        return concatenate_records(
            [
                source.batch(count, seed=seed + row, number=number)
                for row, (source, count) in enumerate(zip(self.sources, counts, strict=True))
                if count
            ]
        )
