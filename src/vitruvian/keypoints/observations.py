"""Keypoints seen in pictures: positions in pixels with a confidence each, in a named format."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitruvian.errors import InputError, ShapeError
from vitruvian.keypoints.formats import KeypointFormat, conversion, get_format
from vitruvian.tensors import BatchRecord, remarks

ImageSize = tuple[float, float] | Float[Tensor, "*batch 2"]
"""Width and height in pixels, of one picture or of each in a batch."""

EVIDENCE_CONFIDENCE = 0.1
"""Least confidence of a keypoint that counts as seen; less sure points are guesses, and say nothing."""


@dataclass(frozen=True, eq=False)
class Keypoints(BatchRecord):
    """2D keypoints of a batch of people (or of one person, without batch axes).

    A confidence of zero means: not seen; the position then means nothing, and is zero after `sanitized`.

    Attributes:
        positions: `(*batch, K, 2)` pixels, x right and y down, pixel centres at integers + 0.5.
        confidence: `(*batch, K)`, from 0 to 1.
        format: name of the format that names the K keypoints.
        notes: what a reader guessed or left out, in words for people.
    """

    positions: Float[Tensor, "*batch keypoint 2"]
    confidence: Float[Tensor, "*batch keypoint"]
    format: str
    notes: tuple[str, ...] = remarks()

    def __post_init__(self) -> None:
        shape = tuple(self.positions.shape)
        if shape[-1:] != (2,) or shape[:-1] != tuple(self.confidence.shape):
            raise ShapeError(
                "positions and confidence of keypoints do not match",
                seen=f"{shape} and {tuple(self.confidence.shape)}",
                expected="(*batch, K, 2) and (*batch, K)",
            )
        if shape[-2] != len(self.definition):
            raise ShapeError(
                f"wrong number of keypoints for the format {self.format}", seen=shape[-2], expected=len(self.definition)
            )

    @staticmethod
    def empty(format: str, *, people: int = 0, dtype: torch.dtype | None = None) -> "Keypoints":
        """`people` people of whom nothing was seen."""
        confidence = torch.zeros(people, len(get_format(format)), dtype=dtype)
        return Keypoints(confidence.new_zeros(*confidence.shape, 2), confidence, format)

    @property
    def definition(self) -> KeypointFormat:
        """The format itself: names, groups, edges."""
        return get_format(self.format)

    @property
    def batch_shape(self) -> torch.Size:
        return self.confidence.shape[:-1]

    @property
    def seen(self) -> Bool[Tensor, "*batch keypoint"]:
        """Which keypoints have any confidence."""
        return self.confidence > 0

    def select(self, name: str) -> tuple[Float[Tensor, "*batch 2"], Float[Tensor, "*batch"]]:
        """Position and confidence of one keypoint by name; raises InputError where the format lacks it."""
        row = self.definition.index(name)
        return self.positions[..., row, :], self.confidence[..., row]

    def to_format(self, name: str, *, exact: bool = False) -> "Keypoints":
        """The same observations in another format.

        Keypoints go by the name of their place; those of a place that the old format lacks are missing (confidence
        zero), unless they are by definition the mean of others, such as OpenPose's neck and middle of the hips: then
        they have the lowest confidence of these. With `exact`, keypoints whose definition differs are missing too.
        """
        if get_format(name) is self.definition:
            return replace(self, format=self.definition.name)
        sources = conversion(self.format, get_format(name).name, exact=exact)
        widest = max(map(len, sources), default=1) or 1
        index = torch.tensor([(*rows, *[rows[-1] if rows else 0] * (widest - len(rows))) for rows in sources])
        known = torch.tensor([bool(rows) for rows in sources])
        index, known = index.to(self.positions.device), known.to(self.positions.device)
        confidence = self.confidence[..., index].amin(-1) * known
        positions = self.positions[..., index, :].mean(-2)
        return Keypoints(torch.where(known[:, None], positions, 0.0), confidence, get_format(name).name, self.notes)

    def group(self, name: str) -> "Keypoints":
        """The same keypoints with those outside a group (`body`, `left_hand`, `right_hand`, `face`) unseen."""
        if name not in self.definition.groups:
            raise InputError("unknown group of keypoints", seen=name, expected=", ".join(self.definition.groups))
        mask = torch.zeros_like(self.confidence)
        mask[..., list(self.definition.groups[name])] = 1
        return replace(self, confidence=self.confidence * mask)

    def outside(self, image_size: ImageSize) -> Bool[Tensor, "*batch keypoint"]:
        """Which seen keypoints lie outside the picture, or nowhere (NaN, infinity)."""
        size = torch.as_tensor(image_size, dtype=self.positions.dtype, device=self.positions.device)
        inside = (self.positions >= 0) & (self.positions <= size[..., None, :])
        return self.seen & ~inside.all(-1)

    def sanitized(self, image_size: ImageSize | None = None) -> Self:
        """Make every value finite and every confidence lie between 0 and 1.

        Points at NaN or infinity, with a confidence that is not a positive number, or outside the picture (where its
        size is given) are unseen: confidence and position zero. `outside` tells which the size concerns.
        """
        good = self.positions.isfinite().all(-1) & (self.confidence > 0)
        if image_size is not None:
            good = good & ~self.outside(image_size)
        zero = torch.zeros_like(self.confidence)
        return replace(
            self,
            positions=torch.where(good[..., None], self.positions, torch.zeros_like(self.positions)),
            confidence=torch.where(good, self.confidence.clamp(max=1.0), zero),
        )

    def evidence(self, min_confidence: float = EVIDENCE_CONFIDENCE) -> Self:
        """What counts as seen, made finite: points of lower confidence are unseen, their position and confidence zero.

        Everything that reads keypoints as evidence (networks, boxes, sizes, fits) reads them through this, so that a
        point of lower confidence changes nothing anywhere.
        """
        good = self.confidence >= min_confidence
        return replace(self, confidence=torch.where(good, self.confidence, 0.0)).sanitized()

    def bounding_box(self, *, min_confidence: float = 0.0) -> Float[Tensor, "*batch 4"]:
        """Left, top, right, bottom of the keypoints with more than `min_confidence`; zeros where there are none."""
        mask = (self.confidence > min_confidence)[..., None]
        low = torch.where(mask, self.positions, torch.inf).amin(-2)
        high = torch.where(mask, self.positions, -torch.inf).amax(-2)
        box = torch.cat((low, high), dim=-1)
        return torch.where(mask.any(-2), box, torch.zeros_like(box))

    def flip(self, image_width: float) -> Self:
        """The keypoints of the picture mirrored left to right: the person's left becomes their right.

        Of a format with one hand, a left hand becomes one of the right-hand format.
        """
        order = list(self.definition.flip)
        positions = self.positions[..., order, :]
        mirrored = torch.stack((image_width - positions[..., 0], positions[..., 1]), dim=-1)
        return replace(self, positions=mirrored, confidence=self.confidence[..., order], format=self.definition.mirror)

    def transform(self, matrix: Float[Tensor, "*batch 2 3"]) -> Self:
        """Keypoints under an affine map of the picture, such as that of a crop: `matrix @ (x, y, 1)`."""
        linear, offset = matrix[..., :2], matrix[..., 2]
        return replace(self, positions=self.positions @ linear.transpose(-1, -2) + offset[..., None, :])

    def crop(self, *, left: float, top: float, scale: float = 1.0) -> Self:
        """Keypoints in the window that starts at pixel (`left`, `top`), resampled by `scale`."""
        corner = self.positions.new_tensor([left, top])
        return replace(self, positions=(self.positions - corner) * scale)
