"""Batched L-BFGS: every item has its own direction, memory, line search, stopping test and status.

The solver moves on the manifold of the states. The gradient at a state is the one by the step, at zero step there. So
every evaluated state is a new anchor, no chart is left far from its origin, and a trial costs one evaluation, whose
gradient serves the line search and the next direction alike. Pairs and directions are carried from state to state as
they are. Where states move by vector sums or by R ← R exp([δ]ₓ), as in all pose spaces here, steps along one direction
add up, retract(retract(x, s d), t d) = retract(x, (s + t) d), and this transport keeps a search exact: g·d is the slope
along it, yᵀs = t (φ'(t) − φ'(0)), and the strong Wolfe conditions make every pair positive.
"""

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitruvian.errors import InputError
from vitruvian.fitting.line_search import LineSearch, LineSearchAdvance, WolfeConditions
from vitruvian.fitting.solution import Solution, Status
from vitruvian.tensors import BatchRecord, TensorRecord, put_rows, tensors_of, where_rows

State = TypeVar("State", bound=BatchRecord)


@runtime_checkable
class Differentiable(Protocol[State]):
    """A batch of independent problems whose objective autograd can differentiate."""

    @property
    def size(self) -> int: ...

    def cost(self, state: State) -> Float[Tensor, "batch"]: ...

    def curvature(self, state: State) -> Float[Tensor, "batch D"]:
        """About the second derivative of the objective by every variable; ones where nothing is known of it."""
        ...

    def retract(self, state: State, step: Tensor) -> State: ...

    def __getitem__(self, index: Int[Tensor, "kept"]) -> "Differentiable[State]": ...


@dataclass(frozen=True, eq=False)
class _InUnits(Generic[State]):
    """A problem whose step is measured in units of each variable's own curvature.

    Metres, radians and standard deviations differ by orders of magnitude in what they change; steps that know of it
    need a fraction of the evaluations.
    """

    problem: Differentiable[State]
    unit: Float[Tensor, "batch D"]

    @staticmethod
    def at(problem: Differentiable[State], state: State) -> "_InUnits[State]":
        curvature = problem.curvature(state)
        known = torch.isfinite(curvature) & (curvature > torch.finfo(curvature.dtype).tiny)
        return _InUnits(problem, torch.where(known, curvature, 1.0).rsqrt())

    @property
    def size(self) -> int:
        return self.problem.size

    def cost(self, state: State) -> Float[Tensor, "batch"]:
        return self.problem.cost(state)

    def retract(self, state: State, step: Tensor) -> State:
        return self.problem.retract(state, self.unit * step)

    def __getitem__(self, index: Int[Tensor, "kept"]) -> "_InUnits[State]":
        return _InUnits(self.problem[index], self.unit[index])


@dataclass(frozen=True)
class LBFGS:
    """Configuration of the solver; the line search is that of SMPLify-X, with a unit step first.

    Attributes:
        max_iterations: accepted steps per item; 900 are the 30 × 30 of SMPLify-X.
        history: pairs of steps and gradient changes kept per item; the memory is 2 · history · B · D numbers.
        c1, c2: constants of the strong Wolfe conditions.
        max_line_search: evaluations of one line search at most.
        gradient_tolerance: an item ends when no entry of its gradient is larger than this.
        relative_tolerance: an item ends when `patience` steps in a row each gain less than this share of its objective.
        patience: see `relative_tolerance`; one short step in a narrow valley is no end.
        compact_below: finished items leave the batch when the share of unfinished ones falls below this.
    """

    max_iterations: int = 900
    history: int = 100
    c1: float = 1e-4
    c2: float = 0.9
    max_line_search: int = 25
    gradient_tolerance: float = 1e-6
    relative_tolerance: float = 1e-6
    patience: int = 3
    compact_below: float = 0.75

    def __post_init__(self) -> None:
        if not 0 < self.c1 < self.c2 < 1:
            raise InputError(
                "constants of the Wolfe conditions out of order", seen=(self.c1, self.c2), expected="0 < c1 < c2 < 1"
            )
        if min(self.history, self.max_line_search, self.patience) < 1:
            raise InputError(
                "a count of the solver is too small",
                seen=(self.history, self.max_line_search, self.patience),
                expected="history, max_line_search and patience of at least 1",
            )

    @torch.no_grad()
    def solve(self, problem: Differentiable[State], start: State) -> Solution[State]:
        """Minimise from `start`. Items never influence each other; a failed one keeps its start.

        `iterations` of the result counts accepted steps; `history` has the objective after every evaluation.

        Raises:
            InputError: called under `torch.inference_mode`, where there are no gradients.
        """
        if torch.is_inference_mode_enabled():
            raise InputError(
                "L-BFGS needs gradients, which inference mode forbids",
                hint="call it under torch.no_grad(), or use Levenberg-Marquardt",
            )
        run = _Run(self, problem, start.detach())
        while run.step():
            pass
        return run.finish()


@dataclass(frozen=True, eq=False)
class _Point(BatchRecord, Generic[State]):
    """A state with its objective and its gradient by the step."""

    state: State
    cost: Float[Tensor, "batch"]
    gradient: Float[Tensor, "batch D"]

    @staticmethod
    def at(problem: _InUnits[State], state: State) -> "_Point[State]":
        like = next(x for x in tensors_of(state) if x.is_floating_point())
        with torch.enable_grad():
            step = like.new_zeros(like.shape[0], problem.size).requires_grad_()
            cost = problem.cost(problem.retract(state, step))
            (gradient,) = torch.autograd.grad(cost.sum(), step, materialize_grads=True)
        return _Point(state, cost.detach(), gradient)


class _Memory:
    """The last pairs (s, y) of every item, in rings of their own, and the inverse Hessian that they stand for."""

    def __init__(self, like: Float[Tensor, "batch D"], history: int) -> None:
        batch, size = like.shape
        self.steps = like.new_zeros(batch, history, size)
        self.changes = like.new_zeros(batch, history, size)
        self.products = like.new_zeros(batch, history, history)
        """s_i · y_j."""
        self.scale = like.new_ones(batch)
        self.count = torch.zeros(batch, dtype=torch.long, device=like.device)
        self.used = 0
        """No item has more pairs than this."""

    def __getitem__(self, index: Int[Tensor, "kept"]) -> "_Memory":
        kept = object.__new__(_Memory)
        for name in ("steps", "changes", "products", "scale", "count"):
            setattr(kept, name, getattr(self, name)[index])
        kept.used = self.used
        return kept

    def push(self, mask: Bool[Tensor, "batch"], s: Float[Tensor, "batch D"], y: Float[Tensor, "batch D"]) -> None:
        """Add a pair to the items of the mask, except where its curvature is not positive."""
        curvature = (s * y).sum(-1)
        enough = curvature > torch.finfo(s.dtype).eps * s.norm(dim=-1) * y.norm(dim=-1)
        rows = (mask & enough & torch.isfinite(curvature)).nonzero()[:, 0]
        if not len(rows):
            return
        history = self.steps.shape[1]
        slot = self.count[rows] % history
        self.used = min(self.used + 1, history)
        self.steps[rows, slot] = s[rows]
        self.changes[rows, slot] = y[rows]
        used = slice(0, self.used)
        self.products[rows, slot, used] = (self.changes[:, used] @ s[..., None])[rows, :, 0]
        self.products[rows, used, slot] = (self.steps[:, used] @ y[..., None])[rows, :, 0]
        self.count[rows] += 1
        self.scale[rows] = (curvature / (y * y).sum(-1))[rows]

    def forget(self, mask: Bool[Tensor, "batch"]) -> None:
        """Empty the memory of the items of the mask."""
        rows = mask.nonzero()[:, 0]
        for buffer in (self.steps, self.changes, self.products, self.count):
            buffer[rows] = 0
        self.scale[rows] = 1

    def inverse_hessian(self, gradient: Float[Tensor, "batch D"]) -> Float[Tensor, "batch D"]:
        """H g by the two-loop recursion (Nocedal and Wright 2006, alg. 7.4), without its loops.

        The first loop, from the newest pair to the oldest, is back substitution in R α = Sᵀg, where R holds s_i·y_j for
        i not newer than j; the second is forward substitution in Rᵀ c = diag(s·y) α − γ Yᵀq for what it adds to each s.
        Empty slots have a one on the diagonal and nothing else.
        """
        if self.used == 0:
            return gradient * self.scale[:, None]
        S, Y = self.steps[:, : self.used], self.changes[:, : self.used]
        products = self.products[:, : self.used, : self.used]
        order = torch.arange(self.used, device=gradient.device).expand(len(gradient), -1)
        if self.used == self.steps.shape[1]:
            oldest = torch.where(self.count >= self.used, self.count, 0)
            order = (order + oldest[:, None]) % self.used
            products = products.gather(1, order[:, :, None].expand_as(products))
            products = products.gather(2, order[:, None, :].expand_as(products))
        R = products.triu()
        curvature = R.diagonal(dim1=1, dim2=2).clone()
        R.diagonal(dim1=1, dim2=2)[curvature == 0] = 1
        projected = (S @ gradient[..., None])[..., 0].gather(1, order)
        alpha = torch.linalg.solve_triangular(R, projected[..., None], upper=True)[..., 0]
        ring = torch.zeros_like(alpha).scatter(1, order, alpha)
        q = self.scale[:, None] * (gradient - (ring[:, None] @ Y)[:, 0])
        right = curvature * alpha - (Y @ q[..., None])[..., 0].gather(1, order)
        added = torch.linalg.solve_triangular(R.transpose(1, 2), right[..., None], upper=False)[..., 0]
        ring = torch.zeros_like(added).scatter(1, order, added)
        return q + (ring[:, None] @ S)[:, 0]


class _Run:
    """The state of one call: all items, and the working set of those not yet finished.

    The items are in step with each other by evaluations only. One may begin a new iteration while another still looks
    for the end of its line search, so no evaluation waits for the slowest search.
    """

    def __init__(self, config: LBFGS, problem: Differentiable, start: TensorRecord) -> None:
        self.config = config
        self.conditions = WolfeConditions(config.c1, config.c2, config.max_line_search)
        self.problem = _InUnits.at(problem, start)
        self.point: _Point[Any] = _Point.at(self.problem, start)
        cost, gradient = self.point.cost, self.point.gradient
        batch, device = cost.shape[0], cost.device
        self.rows = torch.arange(batch, device=device)
        self.memory = _Memory(gradient, config.history)
        self.status = torch.full((batch,), int(Status.ITERATION_LIMIT), device=device)
        self.iterations = torch.zeros(batch, dtype=torch.long, device=device)
        self.short_steps = torch.zeros_like(self.iterations)
        failed = ~(torch.isfinite(cost) & torch.isfinite(gradient).all(-1))
        flat = ~failed & self._is_flat(gradient)
        self.status[failed] = int(Status.FAILED)
        self.status[flat] = int(Status.CONVERGED)
        self.active = ~failed & ~flat & (config.max_iterations > 0)
        self.result = start
        self.result_cost = cost.clone()
        self.history = [cost]
        self.best = self.point
        self.direction, self.search = self._aim()

    def step(self) -> bool:
        """One evaluation of every unfinished item; False when none is left."""
        num_active = int(self.active.sum())
        if num_active == 0:
            return False
        if num_active < self.config.compact_below * len(self.active):
            self._compact()
        trial_state = self.problem.retract(self.point.state, self.search.trial[:, None] * self.direction)
        trial = _Point.at(self.problem, trial_state)
        advance = self.search.advance(trial.cost, (trial.gradient * self.direction).sum(-1), self.conditions)
        self.search = advance.search
        self.best = where_rows(advance.improved, trial, self.best)
        self._conclude(advance)
        self.history.append(self._costs())
        return True

    def _conclude(self, advance: LineSearchAdvance) -> None:
        """Take the steps of the searches that ended, stop what is done, and begin the next searches."""
        config, low = self.config, self.search.low
        ended = self.active & (advance.accepted | advance.exhausted)
        decrease = self.point.cost - self.best.cost
        # The line search lets rounding pass; what rises is not taken, so that the objective never does.
        moved = ended & (low > 0) & torch.where(advance.accepted, decrease >= 0, decrease > 0)
        self.memory.push(moved, low[:, None] * self.direction, self.best.gradient - self.point.gradient)
        short = decrease <= config.relative_tolerance * self.point.cost.abs()
        self.short_steps = torch.where(ended, torch.where(short, self.short_steps + 1, 0), self.short_steps)
        tired = ended & (self.short_steps >= config.patience)
        at_rest = advance.accepted & (tired | (ended & (decrease <= 0)))
        self.point = where_rows(moved, self.best, self.point)
        self.best = where_rows(ended, self.point, self.best)
        self.iterations[self.rows] += moved.long()

        converged = at_rest | (moved & self._is_flat(self.point.gradient))
        stuck = ended & ~moved & ~converged
        stalled = (stuck & (self.memory.count == 0)) | (tired & ~converged)
        self.memory.forget(stuck)
        self.status[self.rows[converged]] = int(Status.CONVERGED)
        self.status[self.rows[stalled]] = int(Status.STALLED)
        used_up = self.iterations[self.rows] >= config.max_iterations
        self.active = self.active & ~converged & ~stalled & ~used_up

        direction, search = self._aim()
        self.direction = torch.where(ended[:, None], direction, self.direction)
        self.search = where_rows(ended, search, self.search)

    def _aim(self) -> tuple[Float[Tensor, "batch D"], LineSearch]:
        """Directions from the points where the items are, and searches along them."""
        gradient = self.point.gradient
        direction = -self.memory.inverse_hessian(gradient)
        slope = (gradient * direction).sum(-1)
        # Rounding can spoil a long memory; the negative gradient always descends.
        steepest = ~(slope < 0)
        direction = torch.where(steepest[:, None], -gradient, direction)
        slope = torch.where(steepest, -(gradient * gradient).sum(-1), slope)
        first = torch.where(
            steepest | (self.memory.count == 0), 1 / gradient.abs().sum(-1).clamp_min(1), torch.ones_like(slope)
        )
        return direction, LineSearch.begin(self.point.cost, slope, first)

    def _is_flat(self, gradient: Float[Tensor, "batch D"]) -> Bool[Tensor, "batch"]:
        return (gradient / self.problem.unit).abs().amax(-1) <= self.config.gradient_tolerance

    def _costs(self) -> Float[Tensor, "batch"]:
        cost = self.result_cost.clone()
        cost[self.rows] = self.point.cost
        return cost

    def _store(self) -> None:
        self.result = put_rows(self.result, self.rows, self.point.state)
        self.result_cost = self._costs()

    def _compact(self) -> None:
        self._store()
        kept = self.active.nonzero()[:, 0]
        self.rows, self.problem, self.memory = self.rows[kept], self.problem[kept], self.memory[kept]
        self.point, self.best, self.search = self.point[kept], self.best[kept], self.search[kept]
        self.direction, self.short_steps, self.active = (
            self.direction[kept],
            self.short_steps[kept],
            self.active[kept],
        )

    def finish(self) -> Solution:
        self._store()
        return Solution(self.result, self.result_cost, self.status, self.iterations, tuple(self.history))
