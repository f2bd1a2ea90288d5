"""L-BFGS: optima, strong Wolfe steps, its memory against the two-loop recursion, independence, and how items end."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from tests.fitting.body_problems import BodyCase, body_case, body_spaces
from tests.fitting.vector_problems import Vector, VectorProblem, quadratic, rosenbrock
from vitruvian.errors import InputError
from vitruvian.fitting.lbfgs import LBFGS, _Memory, _Point
from vitruvian.fitting.levenberg_marquardt import LevenbergMarquardt
from vitruvian.fitting.multiview import MultiViewProblem, MultiViewState
from vitruvian.fitting.problem import FitState
from vitruvian.fitting.solution import Status

TIGHT = LBFGS(relative_tolerance=0.0, gradient_tolerance=1e-9)


def leaves(state: FitState) -> list[Tensor]:
    return [*state.poses, state.betas, state.expression, state.transl]


def assert_states_close(a: FitState, b: FitState, *, atol: float) -> None:
    for x, y in zip(leaves(a), leaves(b), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=atol)


@pytest.mark.parametrize("history", [1, 5, 100])
def test_quadratics_are_solved(generator: torch.Generator, history: int) -> None:
    problem, start, optimum = quadratic(8, 12, generator)
    solution = replace(TIGHT, history=history).solve(problem, start)
    assert (solution.status == Status.CONVERGED).all()
    torch.testing.assert_close(solution.state.x, optimum, rtol=0, atol=1e-8)
    assert problem.gradient(solution.state).abs().amax() <= 1e-9


def test_rosenbrock_is_solved_from_many_starts(generator: torch.Generator) -> None:
    problem, start = rosenbrock(50, 6, generator)
    solution = TIGHT.solve(problem, start)
    assert (solution.status == Status.CONVERGED).all()
    torch.testing.assert_close(solution.state.x, torch.ones_like(start.x), rtol=0, atol=1e-7)
    assert 20 < float(solution.iterations.float().mean()) < 120


def test_accepted_steps_fulfil_the_strong_wolfe_conditions(generator: torch.Generator) -> None:
    """With one step more at a time, every iterate comes to light; s = t d makes both conditions free of t."""
    problem, start = rosenbrock(20, 4, generator)
    solver = replace(TIGHT, c2=0.4)
    points = [solver.solve(problem, start).state for solver in (replace(solver, max_iterations=k) for k in range(13))]
    compared = 0
    for before, after in pairwise(points):
        step = after.x - before.x
        moved = step.abs().amax(-1) > 0
        slope = (problem.gradient(before) * step).sum(-1)
        slope_after = (problem.gradient(after) * step).sum(-1)
        cost, cost_after = problem.cost(before), problem.cost(after)
        assert (slope[moved] < 0).all()
        assert (cost_after <= cost + solver.c1 * slope + 4e-15 * cost).all()
        assert (slope_after.abs() <= solver.c2 * slope.abs() + 1e-15).all()
        compared += int(moved.sum())
    assert compared > 200


def two_loop_recursion(pairs: list[tuple[Tensor, Tensor]], gradient: Tensor) -> Tensor:
    """Nocedal and Wright 2006, algorithm 7.4, for one item."""
    q = gradient.clone()
    alphas = []
    for s, y in reversed(pairs):
        alpha = (s @ q) / (s @ y)
        q = q - alpha * y
        alphas.append(alpha)
    s, y = pairs[-1]
    r = (s @ y) / (y @ y) * q
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        r = r + (alpha - (y @ r) / (s @ y)) * s
    return r


def test_the_memory_is_the_two_loop_recursion_of_each_item(generator: torch.Generator) -> None:
    """With pairs pushed to some items at a time, pairs without curvature, forgotten ones, and full rings."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    batch, size, history = 6, 9, 4
    factor = normal(batch, size, size)
    hessian = factor @ factor.transpose(1, 2) + torch.eye(size, dtype=torch.float64)
    memory = _Memory(normal(batch, size), history)
    pairs: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(batch)]
    for turn in range(12):
        s = normal(batch, size)
        y = (hessian @ s[..., None])[..., 0]
        mask = torch.rand(batch, generator=generator) < 0.7
        mask[5] = turn < 2
        y[4] = -y[4] if turn % 3 == 0 else y[4]
        memory.push(mask, s, y)
        for item in range(batch):
            if mask[item] and s[item] @ y[item] > 0:
                pairs[item] = [*pairs[item], (s[item], y[item])][-history:]
        if turn == 7:
            memory.forget(torch.arange(batch) == 2)
            pairs[2] = []
        gradient = normal(batch, size)
        result = memory.inverse_hessian(gradient)
        for item in range(batch):
            expected = two_loop_recursion(pairs[item], gradient[item]) if pairs[item] else gradient[item]
            torch.testing.assert_close(result[item], expected, rtol=1e-8, atol=1e-8)
    assert memory.count.tolist() != [12] * batch
    assert memory.steps.shape == memory.changes.shape == (batch, history, size)
    kept = torch.tensor([5, 1])
    torch.testing.assert_close(memory[kept].inverse_hessian(gradient[kept]), result[kept])


def test_the_secant_equation_holds(generator: torch.Generator) -> None:
    """The newest pair is reproduced: H y = s."""
    memory = _Memory(torch.zeros(3, 7), 5)
    for _ in range(8):
        s = torch.randn(3, 7, generator=generator)
        y = s * torch.rand(3, 7, generator=generator) + 0.5 * s
        memory.push(torch.ones(3, dtype=torch.bool), s, y)
    torch.testing.assert_close(memory.inverse_hessian(y), s, rtol=1e-4, atol=1e-5)


def linear_in_one(x: Tensor, data: Tensor) -> Tensor:
    """Optimum at zero; the data are the curvatures."""
    return data.sqrt() * x


def test_the_stopping_test_is_on_the_largest_magnitude() -> None:
    """At this start the largest entry of the gradient, with its sign, is nearly zero."""
    start = Vector(torch.tensor([[-1.0, -1e-12], [-1e-12, -1e-12]], dtype=torch.float64))
    problem = VectorProblem(linear_in_one, torch.ones(2, 2, dtype=torch.float64), 2)
    solution = LBFGS(gradient_tolerance=1e-6).solve(problem, start)
    assert solution.iterations.tolist()[0] > 0
    assert solution.iterations.tolist()[1] == 0
    assert solution.status.tolist() == [Status.CONVERGED, Status.CONVERGED]
    torch.testing.assert_close(solution.state.x, torch.zeros(2, 2, dtype=torch.float64), rtol=0, atol=1e-6)


def test_each_item_stops_by_its_own_gradient(generator: torch.Generator) -> None:
    problem, start, optimum = quadratic(5, 6, generator)
    start.x[3] = optimum[3]
    solution = TIGHT.solve(problem, start)
    assert solution.iterations[3] == 0
    assert len(set(solution.iterations.tolist())) > 1
    assert (problem.gradient(solution.state).abs().amax(-1) <= 1e-9).all()


def test_the_iteration_limit_is_a_status(generator: torch.Generator) -> None:
    problem, start = rosenbrock(4, 4, generator)
    solution = replace(TIGHT, max_iterations=5).solve(problem, start)
    assert (solution.status == Status.ITERATION_LIMIT).all()
    assert (solution.iterations == 5).all()
    assert (solution.cost < problem.cost(start)).all()
    none = replace(TIGHT, max_iterations=0).solve(problem, start)
    assert (none.status == Status.ITERATION_LIMIT).all()
    torch.testing.assert_close(none.state.x, start.x, rtol=0, atol=0)


class WrongWay(VectorProblem):
    """Autograd is told the opposite of the gradient, so that no step lowers the objective."""

    def cost(self, state: Vector) -> Tensor:
        cost = super().cost(state)
        return 2 * cost.detach() - cost

    def __getitem__(self, index: Tensor) -> "WrongWay":
        return WrongWay(self.residual, self.data[index], self.size, self.batches)


def test_an_item_that_no_step_improves_has_stalled_at_its_start(generator: torch.Generator) -> None:
    problem, start, _ = quadratic(3, 4, generator)
    solution = TIGHT.solve(WrongWay(problem.residual, problem.data, problem.size), start)
    assert (solution.status == Status.STALLED).all()
    # A step so short that rounding hides the rise may be taken once.
    assert (solution.iterations <= 1).all()
    torch.testing.assert_close(solution.state.x, start.x, rtol=1e-12, atol=0)


def test_an_item_that_is_not_finite_has_failed_and_keeps_its_start(generator: torch.Generator) -> None:
    problem, start = rosenbrock(3, 2, generator)
    start.x[1, 0] = torch.nan
    solution = TIGHT.solve(problem, start)
    assert solution.status.tolist() == [Status.CONVERGED, Status.FAILED, Status.CONVERGED]
    assert torch.isnan(solution.cost[1])
    torch.testing.assert_close(solution.state.x[1], start.x[1], rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(solution.state.x[[0, 2]], torch.ones(2, 2, dtype=torch.float64), rtol=0, atol=1e-7)


def test_a_cost_that_is_finite_without_a_finite_gradient_has_failed() -> None:
    problem = VectorProblem(lambda x, data: x.abs().sqrt() + data, torch.ones(1, 1, dtype=torch.float64), 1)
    solution = TIGHT.solve(problem, Vector(torch.zeros(1, 1, dtype=torch.float64)))
    assert solution.status.tolist() == [Status.FAILED]


def test_steps_onto_what_is_not_finite_are_shortened() -> None:
    """√x has its optimum close to the edge of where it is defined."""

    def residual(x: Tensor, data: Tensor) -> Tensor:
        return x.sqrt() - data

    data = torch.full((3, 1), 0.1, dtype=torch.float64)
    start = Vector(torch.tensor([[4.0], [1.0], [0.5]], dtype=torch.float64))
    solution = TIGHT.solve(VectorProblem(residual, data, 1), start)
    assert (solution.status == Status.CONVERGED).all()
    torch.testing.assert_close(solution.state.x, torch.full((3, 1), 0.01, dtype=torch.float64), rtol=1e-6, atol=0)
    assert torch.isfinite(torch.stack(solution.history)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_objective_never_rises(dtype: torch.dtype) -> None:
    case = body_case(4, dtype=dtype)
    solution = LBFGS(max_iterations=60, relative_tolerance=0.0).solve(case.problem, case.start)
    history = torch.stack(solution.history)
    assert (history.diff(dim=0) <= 0).all()
    assert (history[-1] < 0.1 * history[0]).all()
    torch.testing.assert_close(history[-1], solution.cost, rtol=0, atol=0)
    torch.testing.assert_close(case.problem.cost(solution.state), solution.cost, rtol=1e-4, atol=0)


def test_single_precision_ends_at_its_own_rounding(generator: torch.Generator) -> None:
    """No tolerance at all: an item ends where a step changes nothing any more, as converged."""
    problem, start, optimum = quadratic(6, 8, generator, condition=10)
    single = VectorProblem(
        lambda x, data: torch.cat((problem.residual(x, data), torch.ones_like(x)), dim=1), problem.data.float(), 8
    )
    solver = LBFGS(relative_tolerance=0.0, gradient_tolerance=0.0)
    solution = solver.solve(single, start.to(dtype=torch.float32))
    assert (solution.status == Status.CONVERGED).all()
    assert solution.iterations.max() < 60
    torch.testing.assert_close(solution.state.x, optimum.float(), rtol=0, atol=1e-3)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
def test_an_item_of_a_batch_equals_the_item_alone(dtype: torch.dtype, atol: float) -> None:
    case = body_case(3, dtype=dtype)
    solver = LBFGS(max_iterations=10, relative_tolerance=0.0)
    together = solver.solve(case.problem, case.start)
    for item in range(3):
        index = torch.tensor([item])
        alone = solver.solve(case.problem[index], case.start[index])
        assert_states_close(alone.state, together.state[index], atol=atol)
        assert alone.iterations.tolist() == together.iterations[index].tolist()
        assert alone.status.tolist() == together.status[index].tolist()


def test_items_of_very_different_problems_equal_themselves_alone(generator: torch.Generator) -> None:
    problem, start = rosenbrock(5, 4, generator)
    problem.data.copy_(torch.tensor([[0.1], [1.0], [3.0], [10.0], [30.0]]))
    together = TIGHT.solve(problem, start)
    alone = [TIGHT.solve(problem[index], start[index]) for index in torch.arange(5)[:, None]]
    assert together.iterations.max() > 3 * together.iterations.min()
    torch.testing.assert_close(together.state.x, torch.cat([s.state.x for s in alone]), rtol=0, atol=1e-8)
    assert together.status.tolist() == [int(solution.status) for solution in alone]


def test_a_bad_item_spoils_no_other_of_a_body_problem() -> None:
    case = body_case(3)
    positions = case.reprojection.positions.clone()
    positions[1, int(case.reprojection.weights[1].argmax())] = torch.nan
    solver = LBFGS(max_iterations=15, relative_tolerance=0.0)
    expected = solver.solve(case.problem, case.start)
    solution = solver.solve(case.with_positions(positions), case.start)
    assert solution.status.tolist() == [Status.ITERATION_LIMIT, Status.FAILED, Status.ITERATION_LIMIT]
    assert_states_close(solution.state[torch.tensor([1])], case.start[torch.tensor([1])], atol=0)
    others = torch.tensor([0, 2])
    assert_states_close(solution.state[others], expected.state[others], atol=1e-9)


def test_compaction_changes_no_result_and_drops_finished_items(generator: torch.Generator) -> None:
    problem, start = rosenbrock(30, 4, generator)
    start.x[:10] = 1 + 1e-3 * (start.x[:10] - 1)
    kept = replace(TIGHT, compact_below=0.0).solve(problem, start)
    assert set(problem.batches) == {30}
    problem.batches.clear()
    compacted = replace(TIGHT, compact_below=1.0).solve(problem, start)
    assert min(problem.batches) < 10
    torch.testing.assert_close(compacted.state.x, kept.state.x, rtol=0, atol=1e-8)
    torch.testing.assert_close(compacted.cost, kept.cost, rtol=0, atol=1e-15)
    assert compacted.status.tolist() == kept.status.tolist()
    # Matrix products round differently in batches of another size, and a valley makes something of it in 50 steps.
    assert (compacted.iterations - kept.iterations).abs().max() <= 3


def test_no_evaluation_waits_for_the_slowest_search(generator: torch.Generator) -> None:
    """The evaluations of a batch are those of its longest item, not the sum over iterations of the longest search."""
    problem, start = rosenbrock(6, 2, generator)
    together = TIGHT.solve(problem, start)
    alone = [len(TIGHT.solve(problem[index], start[index]).history) for index in torch.arange(6)[:, None]]
    assert len(together.history) == max(alone)


def near_its_optimum(batch: int, *, correctives: bool = False) -> BodyCase:
    """Close enough to the truth for one optimum in reach."""
    spaces = body_spaces(torch.float64)
    return body_case(batch, spaces=spaces, offset=0.02, noise_px=0.3, correctives=correctives)


def test_the_optimum_of_a_body_problem_is_that_of_levenberg_marquardt() -> None:
    case = near_its_optimum(4)
    least_squares = LevenbergMarquardt(max_iterations=200, relative_tolerance=1e-13).solve(case.problem, case.start)
    solution = LBFGS(relative_tolerance=1e-10, gradient_tolerance=1e-4).solve(case.problem, case.start)
    assert (solution.status == Status.CONVERGED).all()
    assert (solution.cost <= least_squares.cost * (1 + 1e-6)).all()
    torch.testing.assert_close(solution.cost, least_squares.cost, rtol=1e-6, atol=0)
    assert_states_close(solution.state, least_squares.state, atol=1e-3)


def test_pose_correctives_are_part_of_the_gradient() -> None:
    """Autograd sees what the closed-form Jacobian leaves out, so it goes on where Levenberg-Marquardt ends."""
    case = near_its_optimum(2, correctives=True)
    first = LevenbergMarquardt(max_iterations=100, relative_tolerance=1e-12).solve(case.problem, case.start)
    assert (_Point.at(case.problem, first.state).gradient.abs().amax(-1) > 1e-2).all()
    solution = LBFGS(relative_tolerance=0.0, gradient_tolerance=1e-4).solve(case.problem, first.state)
    assert (solution.status == Status.CONVERGED).all()
    assert (solution.cost < first.cost).all()
    assert _Point.at(case.problem, solution.state).gradient.abs().amax() <= 1e-4


def test_views_of_one_person_are_fitted_together() -> None:
    """Against Levenberg-Marquardt: another state, another problem, the same optimum."""
    case = near_its_optimum(4)
    problem = MultiViewProblem(
        case.problem,
        2,
        consistency=1.0,
        shared_joints=tuple(range(1, 22)),
        present=torch.ones(2, 2, dtype=torch.bool),
    )
    start = MultiViewState.of_views(case.start, 2)
    first = LevenbergMarquardt(max_iterations=100, relative_tolerance=1e-12).solve(problem, start)
    direction = torch.randn(2, problem.size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    solution = LBFGS(relative_tolerance=1e-7).solve(problem, problem.retract(first.state, 0.01 * direction))
    assert (solution.history[0] > 1.01 * first.cost).all()
    torch.testing.assert_close(solution.cost, first.cost, rtol=1e-5, atol=0)


def test_the_gradient_carried_along_a_search_is_its_slope() -> None:
    """g·d at x ⊕ t d is dφ/dt, although every evaluation has an anchor of its own."""
    case = body_case(3)
    direction = torch.randn(3, case.problem.size, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    t = torch.tensor([0.1, 0.7, 2.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(case.problem.cost(case.problem.retract(case.start, t[:, None] * direction)).sum(), t)
    point = _Point.at(case.problem, case.problem.retract(case.start, t.detach()[:, None] * direction))
    torch.testing.assert_close((point.gradient * direction).sum(-1), slope, rtol=1e-9, atol=0)


def test_it_needs_no_grad_mode_and_leaves_its_start_alone(generator: torch.Generator) -> None:
    case: BodyCase = body_case(2)
    before = case.start.map(torch.clone)
    solver = LBFGS(max_iterations=3)
    with torch.no_grad():
        quiet = solver.solve(case.problem, case.start)
    loud = solver.solve(case.problem, case.start.map(lambda x: x.clone().requires_grad_()))
    assert_states_close(quiet.state, loud.state, atol=0)
    assert not any(x.requires_grad for x in leaves(loud.state))
    assert not loud.cost.requires_grad
    assert_states_close(case.start, before, atol=0)


def test_inference_mode_is_refused_with_advice(generator: torch.Generator) -> None:
    problem, start = rosenbrock(1, 2, generator)
    with torch.inference_mode(), pytest.raises(InputError, match="no_grad"):
        LBFGS().solve(problem, start)


@pytest.mark.parametrize("wrong", [{"c1": 0.95}, {"c2": 1.0}, {"c1": 0.0}, {"history": 0}, {"max_line_search": 0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        LBFGS(**wrong)  # type: ignore[arg-type]


def test_an_empty_batch_is_solved() -> None:
    problem = VectorProblem(linear_in_one, torch.ones(0, 2), 2)
    solution = LBFGS().solve(problem, Vector(torch.zeros(0, 2)))
    assert solution.cost.shape == (0,)
    assert solution.state.x.shape == (0, 2)
