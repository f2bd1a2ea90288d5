"""The strong Wolfe line search on functions of one variable, many at once."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vitruvian.fitting.line_search import LineSearch, LineSearchAdvance, WolfeConditions

Function = Callable[[Tensor], Tensor]


def more_thuente_1(t: Tensor) -> Tensor:
    return -t / (t * t + 2)


def more_thuente_2(t: Tensor) -> Tensor:
    return (t + 0.004) ** 5 - 2 * (t + 0.004) ** 4


def yanai(t: Tensor, beta1: float, beta2: float) -> Tensor:
    gamma1, gamma2 = ((1 + b * b) ** 0.5 - b for b in (beta1, beta2))
    return gamma1 * ((1 - t) ** 2 + beta2**2).sqrt() + gamma2 * (t * t + beta1**2).sqrt()


FUNCTIONS: dict[str, tuple[Function, WolfeConditions]] = {
    "Moré-Thuente 1": (more_thuente_1, WolfeConditions(1e-3, 0.1)),
    "Moré-Thuente 2": (more_thuente_2, WolfeConditions(0.1, 0.11)),
    "Moré-Thuente 4": (lambda t: yanai(t, 0.001, 0.001), WolfeConditions(1e-3, 2e-3)),
    "Moré-Thuente 5": (lambda t: yanai(t, 0.01, 0.001), WolfeConditions(1e-3, 2e-3)),
    "Moré-Thuente 6": (lambda t: yanai(t, 0.001, 0.01), WolfeConditions(1e-3, 2e-3)),
    "parabola": (lambda t: (t - 0.3) ** 2, WolfeConditions()),
    "wall of a logarithm": (lambda t: 3 * t - torch.log(t + 1e-3) - torch.log(1 - t), WolfeConditions(1e-4, 0.1)),
    "waves": (lambda t: -t - 0.3 * torch.sin(20 * t) + 0.05 * t * t, WolfeConditions(1e-4, 0.2)),
}
"""The test problems of Moré and Thuente 1994 (with their constants), and some of our own."""


def value_and_slope(function: Function, t: Tensor) -> tuple[Tensor, Tensor]:
    t = t.detach().clone().requires_grad_()
    value = function(t)
    (slope,) = torch.autograd.grad(value.sum(), t)
    return value.detach(), slope


def run(function: Function, first: Tensor, conditions: WolfeConditions) -> LineSearchAdvance:
    """Advance all searches until each has ended; one that has ended keeps its state."""
    search = LineSearch.begin(*value_and_slope(function, torch.zeros_like(first)), first)
    ended: LineSearchAdvance | None = None
    for _ in range(conditions.max_evaluations):
        advance = search.advance(*value_and_slope(function, search.trial), conditions)
        if ended is None:
            ended = advance
        else:
            over = ended.accepted | ended.exhausted
            merged = [
                torch.where(over, getattr(ended.search, name), getattr(advance.search, name))
                for name in LineSearch.__dataclass_fields__
            ]
            ended = LineSearchAdvance(
                LineSearch(*merged),
                torch.where(over, ended.improved, advance.improved),
                torch.where(over, ended.accepted, advance.accepted),
                torch.where(over, ended.exhausted, advance.exhausted),
            )
        search = advance.search
    assert ended is not None
    return ended


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_step_fulfils_the_strong_wolfe_conditions_from_any_first_trial(name: str) -> None:
    function, conditions = FUNCTIONS[name]
    first = torch.logspace(-3, 3, 25, dtype=torch.float64)
    result = run(function, first, conditions)
    assert result.accepted.all()
    assert not result.exhausted.any()
    step = result.search.low
    assert (step > 0).all()
    start, start_slope = value_and_slope(function, torch.zeros_like(first))
    value, slope = value_and_slope(function, step)
    torch.testing.assert_close(result.search.low_cost, value, rtol=0, atol=0)
    assert (start_slope < 0).all()
    assert (value <= start + conditions.c1 * step * start_slope + 1e-15).all()
    assert (slope.abs() <= conditions.c2 * start_slope.abs()).all()
    assert result.search.evaluations.max() <= 20


def test_a_step_that_fulfils_the_conditions_is_taken_at_once() -> None:
    result = run(lambda t: (t - 1) ** 2, torch.tensor([0.5, 1.0, 1.2]), WolfeConditions())
    assert result.search.low.tolist() == pytest.approx([0.5, 1.0, 1.2])
    assert (result.search.evaluations == 1).all()


def test_the_cubic_finds_the_minimum_of_a_parabola_and_of_a_cubic() -> None:
    first = torch.tensor([3.0, 40.0], dtype=torch.float64)
    result = run(lambda t: (t - 1.7) ** 2, first, WolfeConditions(1e-4, 1e-6))
    assert result.search.evaluations.tolist()[0] == 2
    torch.testing.assert_close(result.search.low, torch.full_like(first, 1.7))
    result = run(lambda t: t**3 - 3 * t, torch.tensor([1.9], dtype=torch.float64), WolfeConditions(1e-4, 1e-6))
    assert result.search.evaluations.tolist() == [2]
    torch.testing.assert_close(result.search.low, torch.ones(1, dtype=torch.float64))


def test_searches_do_not_influence_each_other() -> None:
    functions = [function for function, _ in FUNCTIONS.values()]

    def all_at_once(t: Tensor) -> Tensor:
        return torch.stack([function(x) for function, x in zip(functions, t.unbind(), strict=True)])

    conditions = WolfeConditions(1e-3, 0.1)
    first = torch.full((len(functions),), 7.0, dtype=torch.float64)
    together = run(all_at_once, first, conditions)
    for row, function in enumerate(functions):
        alone = run(function, first[:1], conditions)
        for name in LineSearch.__dataclass_fields__:
            torch.testing.assert_close(getattr(together.search, name)[row], getattr(alone.search, name)[0])


@pytest.mark.parametrize("beyond", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite_bound_the_step(beyond: float) -> None:
    def function(t: Tensor) -> Tensor:
        return torch.where(t > 0.5, beyond, (t - 0.4) ** 2)

    result = run(function, torch.tensor([1.0, 100.0], dtype=torch.float64), WolfeConditions(1e-4, 0.1))
    assert result.accepted.all()
    torch.testing.assert_close(result.search.low, torch.full((2,), 0.4, dtype=torch.float64), rtol=0, atol=0.05)


def test_a_function_without_descent_exhausts_the_search_at_zero() -> None:
    def rises_after_all(t: Tensor) -> Tensor:
        return t.abs() - 2 * (t - t.detach())

    result = run(rises_after_all, torch.ones(2, dtype=torch.float64), WolfeConditions())
    assert result.exhausted.all()
    assert not result.accepted.any()
    assert (result.search.low == 0).all()


def test_a_function_without_bound_is_followed_to_the_last_evaluation() -> None:
    result = run(lambda t: -t, torch.ones(1, dtype=torch.float64), WolfeConditions(max_evaluations=6))
    assert result.exhausted.all()
    assert result.search.low.tolist() == [1e5]
