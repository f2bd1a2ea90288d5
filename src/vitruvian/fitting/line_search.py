"""Line searches for the strong Wolfe conditions, of many items at once and one evaluation at a time."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitruvian.tensors import BatchRecord

_GROWTH = (2.0, 10.0)
"""A step grows by factors between these while nothing bounds it."""
_MARGIN = 0.1
"""A trial stays this share of the bracket away from its ends."""
_SHRINK = 0.66
"""Where an evaluation leaves more than this share of the bracket, the next one halves it (Moré and Thuente 1994)."""
_ROUNDING = 4.0
"""Differences of the objective below this many units of its last place count as none."""


@dataclass(frozen=True)
class WolfeConditions:
    """φ(t) ≤ φ(0) + c1 t φ'(0) and |φ'(t)| ≤ c2 |φ'(0)| (Nocedal and Wright 2006, eq. 3.7).

    Attributes:
        c1: share of the decrease that the first slope promises.
        c2: share of the first slope that may be left.
        max_evaluations: evaluations of one search at most.
    """

    c1: float = 1e-4
    c2: float = 0.9
    max_evaluations: int = 25


@dataclass(frozen=True, eq=False)
class LineSearch(BatchRecord):
    """Searches along φ_i(t) = f_i(x_i ⊕ t d_i), one per item of the batch, each in a phase of its own.

    The bracket lies between `low`, the best step so far, which decreases the objective enough, and `high`, on the side
    to which the objective falls from there. Until there is a `high`, it is infinite and the step grows.
    """

    start_cost: Float[Tensor, "batch"]
    start_slope: Float[Tensor, "batch"]
    low: Float[Tensor, "batch"]
    low_cost: Float[Tensor, "batch"]
    low_slope: Float[Tensor, "batch"]
    high: Float[Tensor, "batch"]
    high_cost: Float[Tensor, "batch"]
    high_slope: Float[Tensor, "batch"]
    trial: Float[Tensor, "batch"]
    """Step to evaluate next."""
    evaluations: Int[Tensor, "batch"]

    @staticmethod
    def begin(
        cost: Float[Tensor, "batch"], slope: Float[Tensor, "batch"], trial: Float[Tensor, "batch"]
    ) -> "LineSearch":
        """Searches from φ(0) and φ'(0) < 0 that evaluate `trial` first."""
        infinite = torch.full_like(cost, torch.inf)
        return LineSearch(
            start_cost=cost,
            start_slope=slope,
            low=torch.zeros_like(cost),
            low_cost=cost,
            low_slope=slope,
            high=infinite,
            high_cost=infinite,
            high_slope=infinite,
            trial=trial,
            evaluations=torch.zeros_like(cost, dtype=torch.long),
        )

    def advance(
        self, cost: Float[Tensor, "batch"], slope: Float[Tensor, "batch"], conditions: WolfeConditions
    ) -> "LineSearchAdvance":
        """Take in φ and φ' at `trial` and choose the next trial (Nocedal and Wright 2006, alg. 3.5 and 3.6).

        Bracketing and zoom are one rule here: as long as `high` is infinite, the objective falls towards it where the
        slope is negative. A value that is not finite counts as too high.
        """
        t = self.trial
        slack = _ROUNDING * torch.finfo(cost.dtype).eps * torch.maximum(self.start_cost.abs(), cost.abs())
        promised = self.start_cost + conditions.c1 * t * self.start_slope
        # Where rounding hides which of two values is lower, the slopes tell on which side of the minimum they are.
        tie = cost >= self.low_cost - slack
        behind = (slope * (t - self.low) >= 0) & (slope.abs() >= self.low_slope.abs())
        improved = (cost <= promised + slack) & (cost <= self.low_cost + slack) & ~(tie & behind)
        improved &= torch.isfinite(cost) & torch.isfinite(slope)
        accepted = improved & (slope.abs() <= -conditions.c2 * self.start_slope)
        ahead = torch.where(self.high > t, slope >= 0, slope <= 0)
        flips = improved & ahead
        high, high_cost, high_slope = (
            torch.where(flips, low, torch.where(improved, high, new))
            for low, high, new in (
                (self.low, self.high, t),
                (self.low_cost, self.high_cost, cost),
                (self.low_slope, self.high_slope, slope),
            )
        )
        moved = replace(
            self,
            low=torch.where(improved, t, self.low),
            low_cost=torch.where(improved, cost, self.low_cost),
            low_slope=torch.where(improved, slope, self.low_slope),
            high=high,
            high_cost=high_cost,
            high_slope=high_slope,
            evaluations=self.evaluations + 1,
        )
        width = (moved.high - moved.low).abs()
        smallest = 4 * torch.finfo(cost.dtype).eps * torch.maximum(moved.low, t)
        exhausted = ~accepted & ((moved.evaluations >= conditions.max_evaluations) | (width <= smallest))
        moved = replace(moved, trial=torch.where(torch.isinf(high), moved._grown(self), moved._zoomed(self)))
        return LineSearchAdvance(moved, improved, accepted, exhausted)

    def _grown(self, before: "LineSearch") -> Float[Tensor, "batch"]:
        """Next trial beyond `low`, by the cubic through it and the one before."""
        guess = _cubic_minimum(before.low, before.low_cost, before.low_slope, self.low, self.low_cost, self.low_slope)
        lowest, highest = _GROWTH[0] * self.low, _GROWTH[1] * self.low
        return torch.where(torch.isfinite(guess), guess, highest).clamp(lowest, highest)

    def _zoomed(self, before: "LineSearch") -> Float[Tensor, "batch"]:
        """Next trial inside the bracket, by the cubic through its ends or, where that shrinks it too little, half."""
        width = (self.high - self.low).abs()
        middle = 0.5 * (self.low + self.high)
        guess = _cubic_minimum(self.low, self.low_cost, self.low_slope, self.high, self.high_cost, self.high_slope)
        width_before = (before.high - before.low).abs()
        halve = torch.isfinite(width_before) & (width > _SHRINK * width_before)
        inside = torch.minimum(self.low, self.high) + _MARGIN * width
        guess = torch.where(halve | ~torch.isfinite(guess), middle, guess)
        return guess.clamp(inside, inside + (1 - 2 * _MARGIN) * width)


@dataclass(frozen=True, eq=False)
class LineSearchAdvance(BatchRecord):
    """Searches after one evaluation.

    Attributes:
        search: the searches; `low` is the step to take where they ended.
        improved: the trial has become `low`.
        accepted: it fulfils the strong Wolfe conditions; the search is over.
        exhausted: the search is over without such a step; `low` is still the best one, and may be zero.
    """

    search: LineSearch
    improved: Bool[Tensor, "batch"]
    accepted: Bool[Tensor, "batch"]
    exhausted: Bool[Tensor, "batch"]


def _cubic_minimum(a: Tensor, f_a: Tensor, df_a: Tensor, b: Tensor, f_b: Tensor, df_b: Tensor) -> Tensor:
    """Minimum of the cubic through two values and slopes (Nocedal and Wright 2006, eq. 3.59); NaN without one."""
    d1 = df_a + df_b - 3 * (f_a - f_b) / (a - b)
    d2 = torch.sign(b - a) * (d1 * d1 - df_a * df_b).sqrt()
    return b - (b - a) * (df_b + d2 - d1) / (df_b - df_a + 2 * d2)
