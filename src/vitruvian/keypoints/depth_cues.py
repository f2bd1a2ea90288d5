"""Depth cues: which way the bones of a person point in space, as a picture (not its keypoints) tells."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.errors import InputError, ShapeError
from vitruvian.keypoints.places import SIDES, mirror_place
from vitruvian.tensors import BatchRecord

_LIMBS = {
    "upper_arm": ("shoulder", "elbow"),
    "forearm": ("elbow", "wrist"),
    "thigh": ("hip", "knee"),
    "shin": ("knee", "ankle"),
    "flank": ("hip", "shoulder"),
}
BONES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        **{
            f"{side}_{bone}": (f"{side}_{start}", f"{side}_{end}")
            for side in SIDES
            for bone, (start, end) in _LIMBS.items()
        },
        "hips": ("right_hip", "left_hip"),
        "shoulders": ("right_shoulder", "left_shoulder"),
    }
)
"""The twelve bones by name, with the places where each starts and ends."""
BONE_NAMES = tuple(BONES)
_MIRROR = tuple(BONE_NAMES.index(mirror_place(name)) for name in BONE_NAMES)
_ACROSS = tuple(-1.0 if start.startswith("right") and end.startswith("left") else 1.0 for start, end in BONES.values())
"""Bones from side to side run the other way in the mirror."""


@dataclass(frozen=True, eq=False)
class DepthCues(BatchRecord):
    """Directions of twelve bones of each person, in the order of `BONE_NAMES`.

    A confidence of zero means: nothing is known of this bone; its direction then means nothing. People of whom there is
    no picture have no confidence at all (`absent`), which is a normal case.

    Attributes:
        directions: from the start of the bone to its end in the camera frame (x right, y down, z forward), length one.
        confidence: from 0 to 1.
    """

    directions: Float[Tensor, "*batch bone 3"]
    confidence: Float[Tensor, "*batch bone"]

    def __post_init__(self) -> None:
        expected = (*self.confidence.shape, 3)
        if tuple(self.directions.shape) != expected or self.confidence.shape[-1:] != (len(BONES),):
            raise ShapeError(
                "directions and confidence of bones do not match",
                seen=f"{tuple(self.directions.shape)} and {tuple(self.confidence.shape)}",
                expected=f"(*batch, {len(BONES)}, 3) and (*batch, {len(BONES)})",
            )

    @staticmethod
    def absent(
        count: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> "DepthCues":
        """`count` people of whose bones nothing is known."""
        confidence = torch.zeros(count, len(BONES), dtype=dtype, device=device)
        return DepthCues(confidence.new_zeros(count, len(BONES), 3), confidence)

    @property
    def present(self) -> bool:
        """Whether anything is known of anybody."""
        return bool((self.confidence > 0).any())

    def select(self, name: str) -> tuple[Float[Tensor, "*batch 3"], Float[Tensor, "*batch"]]:
        """Direction and confidence of one bone by name; raises InputError for a bone that is not among them."""
        if name not in BONES:
            raise InputError("unknown bone", seen=name, expected=", ".join(BONE_NAMES))
        row = BONE_NAMES.index(name)
        return self.directions[..., row, :], self.confidence[..., row]

    def flip(self) -> Self:
        """The cues of the picture mirrored left to right: the person's left becomes their right."""
        rows = list(_MIRROR)
        mirrored = self.directions[..., rows, :] * self.directions.new_tensor([-1.0, 1.0, 1.0])
        mirrored = mirrored * self.directions.new_tensor(_ACROSS)[:, None]
        return replace(self, directions=mirrored, confidence=self.confidence[..., rows])

    def turned(self, R: Float[Tensor, "*batch 3 3"]) -> Self:
        """The same bones in another frame: R takes directions of this one to it."""
        return replace(self, directions=self.directions @ R.transpose(-1, -2))
