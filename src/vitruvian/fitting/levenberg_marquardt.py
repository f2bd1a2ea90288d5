"""Batched Levenberg-Marquardt: every item has its own damping, acceptance, stopping and status."""

from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitruvian.fitting.normal_equations import NormalEquations
from vitruvian.fitting.solution import Solution, Status
from vitruvian.tensors import BatchRecord, put_rows, where_rows

State = TypeVar("State", bound=BatchRecord)
DEFAULT_ITERATIONS = 30


@runtime_checkable
class LeastSquares(Protocol[State]):
    """A batch of independent problems that can be linearised."""

    def linearize(self, state: State) -> NormalEquations: ...

    def retract(self, state: State, step: Tensor) -> State: ...

    def __getitem__(self, index: Int[Tensor, "kept"]) -> "LeastSquares[State]": ...


@dataclass(frozen=True)
class LevenbergMarquardt:
    """Configuration of the solver.

    Attributes:
        max_iterations: trial steps per item; those of the stage in a staged fit, else `DEFAULT_ITERATIONS`, if None. A
            number given here holds in every stage.
        initial_damping: first factor on the diagonal.
        relative_tolerance: an accepted step that lowers the objective by less than this share ends the item.
        gradient_tolerance: an item ends when the largest entry of its gradient, scaled by the diagonal, is below this.
        minimum_damping, maximum_damping: bounds of the factor; an item that needs more than the maximum has stalled.
        compact_below: finished items leave the batch when the share of unfinished ones falls below this.
    """

    max_iterations: int | None = None
    initial_damping: float = 1e-3
    relative_tolerance: float = 1e-4
    gradient_tolerance: float = 1e-6
    minimum_damping: float = 1e-7
    maximum_damping: float = 1e6
    compact_below: float = 0.75

    @torch.no_grad()
    def solve(self, problem: LeastSquares[State], start: State) -> Solution[State]:
        """Minimise from `start`. Items never influence each other; a failed one keeps its start."""
        equations = problem.linearize(start)
        run = _Run(self, problem, start, equations)
        for _ in range(DEFAULT_ITERATIONS if self.max_iterations is None else self.max_iterations):
            if not run.step():
                break
        return run.finish()


class _Run:
    """The state of one call: all items, and the working set of those not yet finished."""

    def __init__(
        self, config: LevenbergMarquardt, problem: LeastSquares, start: BatchRecord, equations: NormalEquations
    ) -> None:
        self.config = config
        self.problem = problem
        self.state = start
        self.equations = equations
        cost = equations.cost
        batch, device = cost.shape[0], cost.device
        self.rows = torch.arange(batch, device=device)
        self.damping = torch.full_like(cost, config.initial_damping)
        self.growth = torch.full_like(cost, 2.0)
        self.status = torch.full((batch,), int(Status.ITERATION_LIMIT), device=device)
        self.status[~torch.isfinite(cost)] = int(Status.FAILED)
        self.active = torch.isfinite(cost)
        self.iterations = torch.zeros(batch, dtype=torch.long, device=device)
        self.result = start
        self.result_cost = cost.clone()
        self.history = [cost]

    def step(self) -> bool:
        """One trial step of every unfinished item; False when none is left."""
        num_active = int(self.active.sum())
        if num_active == 0:
            return False
        if num_active < self.config.compact_below * len(self.active):
            self._compact()
        current = self.equations
        damped = current.damped_step(self.damping)
        trial_state = self.problem.retract(self.state, damped.step)
        trial = self.problem.linearize(trial_state)

        decrease = current.cost - trial.cost
        push = self.damping[:, None] * current.diagonal * damped.step
        predicted = 0.5 * (damped.step * (push - current.gradient)).sum(-1)
        accepted = self.active & damped.solved & torch.isfinite(trial.cost) & (decrease > 0)
        ratio = decrease / predicted.clamp_min(torch.finfo(predicted.dtype).tiny)

        # Nielsen's rule: a good step lowers the damping smoothly, a bad one raises it faster and faster.
        shrink = (1 - (2 * ratio.clamp(0, 1) - 1) ** 3).clamp_min(1 / 10)
        self.damping = torch.where(accepted, self.damping * shrink, self.damping * self.growth)
        self.damping = self.damping.clamp_min(self.config.minimum_damping)
        self.growth = torch.where(accepted, torch.full_like(self.growth, 2.0), self.growth * 2)

        self.state = where_rows(accepted, trial_state, self.state)
        self.equations = where_rows(accepted, trial, current)
        self.iterations[self.rows] += self.active.long()
        self._stop(accepted, decrease, current.cost)
        self.history.append(self._costs())
        return True

    def _stop(self, accepted: Tensor, decrease: Tensor, previous: Tensor) -> None:
        config, equations = self.config, self.equations
        small_step = accepted & (decrease <= config.relative_tolerance * previous)
        scale = equations.diagonal.clamp_min(torch.finfo(previous.dtype).tiny).sqrt()
        flat = (equations.gradient / scale).abs().amax(-1) <= config.gradient_tolerance * equations.cost.sqrt()
        converged = self.active & (small_step | flat)
        stalled = self.active & ~converged & (self.damping > config.maximum_damping)
        self.status[self.rows[converged]] = int(Status.CONVERGED)
        self.status[self.rows[stalled]] = int(Status.STALLED)
        self.active = self.active & ~converged & ~stalled

    def _costs(self) -> Float[Tensor, "batch"]:
        cost = self.result_cost.clone()
        cost[self.rows] = self.equations.cost
        return cost

    def _store(self) -> None:
        self.result = put_rows(self.result, self.rows, self.state)
        self.result_cost = self._costs()

    def _compact(self) -> None:
        self._store()
        kept = self.active.nonzero()[:, 0]
        self.rows = self.rows[kept]
        self.problem = self.problem[kept]
        self.state = self.state[kept]
        self.equations = self.equations[kept]
        self.damping, self.growth = self.damping[kept], self.growth[kept]
        self.active = self.active[kept]

    def finish(self) -> Solution:
        self._store()
        return Solution(self.result, self.result_cost, self.status, self.iterations, tuple(self.history))
