"""Which of several orders of the same length keypoints are in, told by the people that each order makes of them.

In the wrong order the skeleton joins points that are far apart: its limbs are long, and the left ones differ from the
right ones. So the order with the shortest and most symmetric limbs is right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.keypoints.evidence import spans_a_person
from vitruvian.keypoints.formats import get_format
from vitruvian.keypoints.places import SIDES

ORDERS: dict[int, tuple[str, ...]] = {
    17: ("coco17", "h36m17"),
    18: ("openpose-coco18", "coco17-neck18"),
    25: ("openpose-body25", "openpose-body25b"),
    26: ("halpe26",),
    33: ("mediapipe-pose33",),
    133: ("coco-wholebody133",),
    135: ("openpose-body135",),
    136: ("halpe136",),
}
"""Formats by number of points, the usual one first."""

CLEAR = {17: 0.5, 18: 0.8, 25: 0.8}
"""An unusual order is taken where its limbs are at most this share of those in the usual one (by number of points).

On 600 people in poses of motion capture, seen from all sides: of those in BODY_25 none was taken for BODY_25B, of those
in BODY_25B all were recognised; of 399 real detections in BODY_25B all.
"""
_USUAL_IS_CLEAR = {17: 0.95, 18: 0.8, 25: 0.95}
"""The usual order counts as recognised where its limbs are at most this share of those in the other."""
_LONGEST = 5.0
"""Limbs count at most this many times the usual pixels per metre."""
LEAST_METRES = {17: 2.2, 18: 2.2, 25: 1.0}
"""Length of the limbs, on a person of 1.7 m, that must be seen to tell orders apart."""

_SIDED_LIMBS = {
    ("shoulder", "elbow"): 0.28, ("elbow", "wrist"): 0.25, ("hip", "knee"): 0.42, ("knee", "ankle"): 0.41,
    ("shoulder", "hip"): 0.50, ("eye", "ear"): 0.10, ("ankle", "heel"): 0.08, ("ankle", "big_toe"): 0.18,
}  # fmt: skip
"""Limbs of both sides, and their length in metres on a person of 1.7 m."""
_MIDDLE_LIMBS = {
    ("left_shoulder", "right_shoulder"): 0.35, ("left_hip", "right_hip"): 0.22,
    ("nose", "left_eye"): 0.06, ("nose", "right_eye"): 0.06,
}  # fmt: skip


@dataclass(frozen=True)
class Order:
    """The order that was taken.

    Attributes:
        format: its name.
        clear: whether its limbs are much shorter than those of the other orders.
        share: length of its limbs against the next best; 1 where nothing could be compared.
    """

    format: str
    clear: bool
    share: float


def tell_order(triples: Float[Tensor, "person keypoint 3"], candidates: Sequence[str]) -> Order:
    """The order of people's keypoints (x, y, confidence); the first candidate where they do not tell.

    All people are judged together: a file has one order.
    """
    lengths = {name: limb_length(triples, name) for name in candidates}
    usual = candidates[0]
    if not _have_a_shape(triples):
        return Order(usual, len(candidates) == 1, 1.0)
    known = {name: length for name, length in lengths.items() if length is not None}
    if len(candidates) == 1 or len(known) < len(candidates):
        return Order(usual, len(candidates) == 1, 1.0)
    best, second = sorted(known, key=lambda name: known[name])[:2]
    share = known[best] / known[second] if known[second] > 0 else 1.0
    if best == usual:
        return Order(usual, share <= _USUAL_IS_CLEAR[triples.shape[-2]], share)
    return Order(best, True, share) if share <= CLEAR[triples.shape[-2]] else Order(usual, False, share)


def _have_a_shape(triples: Float[Tensor, "person keypoint 3"]) -> bool:
    """Whether anybody's points are more than one place or a line, in whatever unit they are."""
    positions = triples[..., :2].to(torch.float64)
    seen = positions.isfinite().all(-1) & (triples[..., 2] > 0)
    known = torch.where(seen[..., None], positions, torch.nan)
    offset = positions - known.nanmedian(-2, keepdim=True).values
    typical = torch.where(seen, offset.norm(dim=-1), torch.nan).nanmedian(-1, keepdim=True).values[..., None]
    return bool(spans_a_person((offset / typical).clamp(-3, 3).nan_to_num() * 100, seen).any())


def limb_length(triples: Float[Tensor, "person keypoint 3"], format: str) -> float | None:
    """Pixels per metre of limb, plus what left and right limbs differ by; None where too little is seen."""
    positions, confidence = triples[..., :2].to(torch.float64), triples[..., 2]
    seen = positions.isfinite().all(-1) & (confidence > 0)
    limbs = _limbs(format)
    ends = torch.tensor([limb[0] for limb in limbs])
    metres = torch.tensor([limb[1] for limb in limbs], dtype=torch.float64)
    both = seen[:, ends].all(-1)
    total = (both * metres).sum()
    if total < LEAST_METRES.get(triples.shape[-2], 1.0):
        return None
    vectors = positions[:, ends[:, 0]] - positions[:, ends[:, 1]]
    lengths = torch.where(both, vectors.norm(dim=-1), 0.0)
    # One wrong point makes one limb endless; it must not outweigh the others.
    usual = (lengths / metres.clamp_min(1e-3))[both & (metres > 0)].median()
    lengths = lengths.minimum(_LONGEST * usual * metres)
    pairs = lengths[:, : 2 * len(_SIDED_LIMBS)].unflatten(-1, (-1, 2))
    paired = both[:, : 2 * len(_SIDED_LIMBS)].unflatten(-1, (-1, 2)).all(-1)
    unequal = torch.where(paired, (pairs[..., 0] - pairs[..., 1]).abs(), 0.0)
    return float((lengths.sum() + unequal.sum()) / total)


@cache
def _limbs(format: str) -> tuple[tuple[tuple[int, int], float], ...]:
    """Rows of both ends and length in metres; left and right limbs alternate, those of the middle follow."""
    fmt = get_format(format)
    named = [
        ((f"{side}_{a}", f"{side}_{b}"), metres) for (a, b), metres in _SIDED_LIMBS.items() for side in SIDES
    ] + list(_MIDDLE_LIMBS.items())
    rows = []
    for (a, b), metres in named:
        first, second = fmt.find(a), fmt.find(b)
        # A limb that the format lacks keeps its place, without length.
        known = first is not None and second is not None
        rows.append(((first, second), metres) if known else ((0, 0), 0.0))
    return tuple(rows)  # type: ignore[arg-type]
