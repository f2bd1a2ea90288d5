"""Levenberg-Marquardt: exactness, descent, independence of the items, and how they end."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.fitting.body_problems import BodyCase, body_case, body_spaces
from tests.fitting.vector_problems import Vector, VectorProblem, quadratic, rosenbrock
from vitruvian.fitting.levenberg_marquardt import LevenbergMarquardt
from vitruvian.fitting.normal_equations import DenseNormalEquations
from vitruvian.fitting.problem import FitState
from vitruvian.fitting.solution import Status

TIGHT = LevenbergMarquardt(max_iterations=100, relative_tolerance=1e-12)


def leaves(state: FitState) -> list[Tensor]:
    return [*state.poses, state.betas, state.expression, state.transl]


def assert_states_close(a: FitState, b: FitState, *, atol: float) -> None:
    for x, y in zip(leaves(a), leaves(b), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=atol)


def test_one_step_solves_a_quadratic(generator: torch.Generator) -> None:
    problem, start, optimum = quadratic(6, 8, generator)
    solver = LevenbergMarquardt(max_iterations=1, initial_damping=1e-12)
    solution = solver.solve(problem, start)
    torch.testing.assert_close(solution.state.x, optimum, rtol=0, atol=1e-8)
    assert (solution.iterations == 1).all()


def test_rosenbrock_is_solved_from_many_starts(generator: torch.Generator) -> None:
    problem, start = rosenbrock(40, 6, generator)
    solution = TIGHT.solve(problem, start)
    assert (solution.status == Status.CONVERGED).all()
    torch.testing.assert_close(solution.state.x, torch.ones_like(start.x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["rosenbrock", "body"])
def test_the_objective_never_rises(generator: torch.Generator, name: str) -> None:
    if name == "body":
        case = body_case(6, offset=0.4)
        solution = TIGHT.solve(case.problem, case.start)
    else:
        solution = TIGHT.solve(*rosenbrock(40, 4, generator))
    history = torch.stack(solution.history)
    assert (history.diff(dim=0) <= 0).all()
    assert (history[-1] < 0.9 * history[0]).all()
    torch.testing.assert_close(history[-1], solution.cost, rtol=0, atol=0)


def test_the_optimum_of_a_body_problem_has_no_gradient_and_the_cost_it_says() -> None:
    case = body_case(4)
    solution = TIGHT.solve(case.problem, case.start)
    equations = case.problem.linearize(solution.state)
    torch.testing.assert_close(equations.cost, solution.cost, rtol=1e-12, atol=0)
    scale = equations.hessian.diagonal(dim1=1, dim2=2).sqrt() * equations.cost.sqrt()[:, None]
    assert (equations.gradient.abs() / scale).amax() < 1e-4


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
def test_an_item_of_a_batch_equals_the_item_alone(dtype: torch.dtype, atol: float) -> None:
    case = body_case(5, dtype=dtype, spaces=body_spaces(dtype), offset=0.05, noise_px=0.5)
    solver = LevenbergMarquardt(max_iterations=4, relative_tolerance=0.0, gradient_tolerance=0.0)
    together = solver.solve(case.problem, case.start)
    for item in range(5):
        index = torch.tensor([item])
        alone = solver.solve(case.problem[index], case.start[index])
        assert_states_close(alone.state, together.state[index], atol=atol)
        torch.testing.assert_close(
            alone.cost, together.cost[index], rtol=1e-3 if dtype == torch.float32 else 1e-9, atol=0
        )
        assert alone.status.tolist() == together.status[index].tolist()


def test_compaction_changes_no_result_and_drops_finished_items(generator: torch.Generator) -> None:
    problem, start = rosenbrock(30, 4, generator)
    start.x[:10] = 1 + 1e-3 * (start.x[:10] - 1)
    kept = replace(TIGHT, compact_below=0.0).solve(problem, start)
    assert set(problem.batches) == {30}
    problem.batches.clear()
    compacted = replace(TIGHT, compact_below=1.0).solve(problem, start)
    assert min(problem.batches) < 10
    torch.testing.assert_close(compacted.state.x, kept.state.x, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.stack(compacted.history), torch.stack(kept.history))
    assert compacted.status.tolist() == kept.status.tolist()
    assert compacted.iterations.tolist() == kept.iterations.tolist()


def test_compaction_of_a_body_problem_changes_no_result() -> None:
    case = body_case(6)
    kept = replace(TIGHT, compact_below=0.0).solve(case.problem, case.start)
    compacted = replace(TIGHT, compact_below=1.0).solve(case.problem, case.start)
    assert len(set(kept.iterations.tolist())) > 1
    assert_states_close(compacted.state, kept.state, atol=1e-7)
    torch.testing.assert_close(compacted.cost, kept.cost, rtol=1e-10, atol=0)


def bad_position(case: BodyCase) -> Tensor:
    positions = case.reprojection.positions.clone()
    positions[1, int(case.reprojection.weights[1].argmax())] = torch.nan
    return positions


def test_a_bad_item_fails_keeps_its_start_and_spoils_no_other() -> None:
    case = body_case(4)
    expected = TIGHT.solve(case.problem, case.start)
    solution = TIGHT.solve(case.with_positions(bad_position(case)), case.start)
    assert solution.status[1] == Status.FAILED
    assert solution.iterations[1] == 0
    assert torch.isnan(solution.cost[1])
    index = torch.tensor([1])
    assert_states_close(solution.state[index], case.start[index], atol=0)
    others = torch.tensor([0, 2, 3])
    assert_states_close(solution.state[others], expected.state[others], atol=1e-9)
    assert solution.status[others].tolist() == expected.status[others].tolist()


class WrongWay(VectorProblem):
    """Its gradient points away from descent, so that no step lowers the objective."""

    def linearize(self, state: Vector) -> DenseNormalEquations:
        equations = super().linearize(state)
        return replace(equations, gradient=-equations.gradient)

    def __getitem__(self, index: Tensor) -> "WrongWay":
        return WrongWay(self.residual, self.data[index], self.size, self.batches)


def test_an_item_that_no_step_improves_has_stalled_at_its_start(generator: torch.Generator) -> None:
    problem, start, _ = quadratic(3, 4, generator)
    solution = TIGHT.solve(WrongWay(problem.residual, problem.data, problem.size), start)
    assert (solution.status == Status.STALLED).all()
    torch.testing.assert_close(solution.state.x, start.x, rtol=0, atol=0)
    # Damping that grows faster and faster reaches its limit in few steps: 1e-3 · 2^(n (n + 1) / 2) > 1e6.
    assert (solution.iterations == 8).all()


def test_a_step_onto_what_is_not_finite_is_refused(generator: torch.Generator) -> None:
    """√x has its optimum at the edge of where it is defined; a step beyond gives NaN."""

    def residual(x: Tensor, data: Tensor) -> Tensor:
        return x.sqrt() - data

    data = torch.full((3, 1), 0.01, dtype=torch.float64)
    start = Vector(torch.tensor([[4.0], [1.0], [0.5]], dtype=torch.float64))
    solution = TIGHT.solve(VectorProblem(residual, data, 1), start)
    assert (solution.status == Status.CONVERGED).all()
    torch.testing.assert_close(solution.state.x, torch.full((3, 1), 1e-4, dtype=torch.float64), rtol=1e-4, atol=0)
    assert torch.isfinite(torch.stack(solution.history)).all()


def test_iteration_limit_and_optimal_start(generator: torch.Generator) -> None:
    problem, start = rosenbrock(2, 2, generator)
    start.x[1] = 1
    solution = replace(TIGHT, max_iterations=2).solve(problem, start)
    assert solution.status.tolist() == [Status.ITERATION_LIMIT, Status.CONVERGED]
    assert solution.iterations.tolist() == [2, 1]
    assert solution.cost[1] == 0


def test_no_iterations_return_the_start(generator: torch.Generator) -> None:
    problem, start = rosenbrock(3, 2, generator)
    solution = replace(TIGHT, max_iterations=0).solve(problem, start)
    assert (solution.status == Status.ITERATION_LIMIT).all()
    torch.testing.assert_close(solution.state.x, start.x)
    assert len(solution.history) == 1


def test_the_start_is_not_modified() -> None:
    case = body_case(2)
    before = case.start.map(torch.clone)
    TIGHT.solve(case.problem, case.start)
    assert_states_close(case.start, before, atol=0)


def test_parameters_that_nothing_sees_stay_where_they_are(generator: torch.Generator) -> None:
    """A zero row and column of the Gauss-Newton matrix makes no step and no failure."""

    def residual(x: Tensor, data: Tensor) -> Tensor:
        return data * (x[:, :2] - 3)

    data = torch.full((2, 1), 50.0, dtype=torch.float64)
    start = Vector(torch.randn(2, 4, generator=generator, dtype=torch.float64))
    solution = TIGHT.solve(VectorProblem(residual, data, 4), start)
    assert (solution.status == Status.CONVERGED).all()
    torch.testing.assert_close(solution.state.x[:, :2], torch.full((2, 2), 3.0, dtype=torch.float64))
    torch.testing.assert_close(solution.state.x[:, 2:], start.x[:, 2:], rtol=0, atol=0)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_units_of_the_parameters_and_of_the_objective_do_not_matter(
    generator: torch.Generator, scale: float
) -> None:
    problem, start, optimum = quadratic(4, 5, generator)
    units = torch.logspace(-3, 3, 5, dtype=torch.float64)
    scaled = problem.data.clone()
    scaled[:, :-1] = scale * problem.data[:, :-1] / units
    scaled[:, -1] = problem.data[:, -1] * units
    solver = replace(TIGHT, max_iterations=3, initial_damping=1.0)
    plain = solver.solve(problem, start)
    solution = solver.solve(VectorProblem(problem.residual, scaled, 5), Vector(start.x * units))
    assert (plain.state.x - optimum).abs().amax() > 1e-3
    torch.testing.assert_close(solution.state.x / units, plain.state.x, rtol=1e-8, atol=0)
    torch.testing.assert_close(solution.cost, scale**2 * plain.cost)
