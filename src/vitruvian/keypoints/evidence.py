"""Whether keypoints say anything about a pose: points in one place, or on one line, fit every body."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MIN_SPREAD_PX = 3.0
"""Least root mean square distance of the points from their middle; within a few pixels no limb can be told."""
MIN_WIDTH_SHARE = 0.02
"""Least spread across the line that fits the points best, as a share of the spread along it."""
MIN_WIDTH_PX = 0.2


def spans_a_person(
    positions: Float[Tensor, "*batch keypoint 2"], seen: Bool[Tensor, "*batch keypoint"]
) -> Bool[Tensor, "*batch"]:
    """Whether the seen points spread in both directions of the picture.

    False where all of them lie in one place, within a few pixels of each other, or on a straight line: a person at any
    distance and in any pose may have such an image. The spreads are roots of the eigenvalues of the points' covariance.
    """
    weights = seen.to(positions.dtype)
    count = weights.sum(-1, keepdim=True).clamp_min(1)
    points = torch.where(seen[..., None], positions, 0.0)
    middle = (points * weights[..., None]).sum(-2, keepdim=True) / count[..., None]
    x, y = ((points - middle) * weights[..., None]).unbind(-1)
    xx, yy, xy = ((a * b).sum(-1) / count[..., 0] for a, b in ((x, x), (y, y), (x, y)))
    mean, gap = (xx + yy) / 2, torch.hypot((xx - yy) / 2, xy)
    along, across = (mean + gap).clamp_min(0).sqrt(), (mean - gap).clamp_min(0).sqrt()
    least = (MIN_WIDTH_SHARE * along).clamp_min(MIN_WIDTH_PX)
    return (torch.hypot(along, across) >= MIN_SPREAD_PX) & (across >= least)
