"""Every term of the fit against autograd of its cost, and what weights and bad observations may influence."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.fitting.body_problems import BODY_JOINTS, BodyCase, Draw, body_case, gaussian, random_hand
from vitruvian.fitting.problem import BodyProblem, FitState, Term
from vitruvian.fitting.residuals import (
    CoefficientPrior,
    PosePrior,
    PoseSpacePrior,
    Reprojection,
    Upright,
    geman_mcclure,
)
from vitruvian.priors.pose_spaces import PlainRotations, PoseSpace


def upright(case: BodyCase) -> Term:
    return Upright(torch.tensor([0.1, -0.9, 0.2], dtype=torch.float64), torch.tensor([0.5, 2.0, 0.0]).double())


def pose_prior(case: BodyCase) -> Term:
    """On moving joints in another order than theirs, and on two that rest."""
    return PosePrior(gaussian((18, 23, 4, 30, 50, 1, 24), Draw(8, torch.float64)), 1.7)


TERMS: dict[str, Callable[[BodyCase], Term]] = {
    "keypoints": lambda case: case.reprojection,
    "keypoints, weakly robust": lambda case: replace(case.reprojection, robust_scale=1000.0),
    "keypoints, strongly robust": lambda case: replace(case.reprojection, robust_scale=3.0),
    "prior of free rotations": lambda case: PoseSpacePrior(0, 1.3),
    "prior of a hand": lambda case: PoseSpacePrior(2, 0.7),
    "pose prior": pose_prior,
    "shape": lambda case: CoefficientPrior("betas", 1.3),
    "shape about an estimate": lambda case: CoefficientPrior(
        "betas",
        1.3,
        torch.linspace(-1, 1, 3 * case.start.betas.shape[1], dtype=torch.float64).view(3, -1),
        torch.linspace(0.5, 1.5, case.start.betas.shape[1], dtype=torch.float64),
    ),
    "shape about an estimate of fewer coefficients": lambda case: CoefficientPrior(
        "betas", 0.9, torch.tensor([[0.7], [-0.4], [0.1]], dtype=torch.float64), torch.tensor([0.5]).double()
    ),
    "expression": lambda case: CoefficientPrior("expression", 0.6),
    "upright": upright,
}
ROBUST = [name for name in TERMS if name.startswith("keypoints")]


@pytest.fixture(scope="module")
def case() -> BodyCase:
    return body_case(3, fixed=True, offset=0.3)


def autograd_gradient(problem: BodyProblem, state: FitState) -> tuple[Tensor, Tensor]:
    step = torch.zeros(state.batch_size, problem.size, dtype=torch.float64, requires_grad=True)
    cost = problem.cost(problem.retract(state, step))
    (gradient,) = torch.autograd.grad(cost.sum(), step)
    return cost.detach(), gradient


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("extra_coefficients", [0, 2])
def test_jacobian_times_residual_is_the_gradient_of_the_cost(name: str, extra_coefficients: int) -> None:
    case = body_case(3, fixed=True, offset=0.3, extra_coefficients=extra_coefficients)
    problem = case.with_terms(TERMS[name](case))
    cost, gradient = autograd_gradient(problem, case.start)
    equations = problem.linearize(case.start)
    assert gradient.abs().amax() > 0.1
    torch.testing.assert_close(equations.cost, cost, rtol=1e-12, atol=0)
    torch.testing.assert_close(equations.gradient, gradient, rtol=0, atol=1e-9 * float(gradient.abs().amax()))


@pytest.mark.parametrize("name", [name for name in TERMS if name not in ROBUST])
def test_the_cost_is_half_the_square_of_the_residual_and_the_jacobian_its_derivative(case: BodyCase, name: str) -> None:
    term, problem = TERMS[name](case), case.with_terms()
    posed = problem.evaluate(case.start, with_jacobian=True)
    block = term.evaluate(posed, with_jacobian=True)
    torch.testing.assert_close(block.cost, 0.5 * (block.residual**2).sum(-1))

    def summed(step: Tensor) -> Tensor:
        moved = problem.evaluate(problem.retract(case.start, step), with_jacobian=False)
        return term.evaluate(moved, with_jacobian=False).residual.sum(0)

    zero = torch.zeros(3, problem.size, dtype=torch.float64)
    expected = torch.autograd.functional.jacobian(summed, zero, vectorize=True).transpose(0, 1)
    if block.jacobian is None:
        scaled = block.scale * torch.eye(block.residual.shape[1], dtype=torch.float64)
        jacobian = scaled.expand(3, -1, -1)
    else:
        jacobian = block.jacobian
    full = torch.zeros_like(expected)
    full[..., block.columns] = jacobian
    torch.testing.assert_close(full, expected, rtol=0, atol=1e-9)


def test_normal_equations_of_all_terms_are_the_sums_of_those_of_each(case: BodyCase) -> None:
    terms = [make(case) for make in TERMS.values()]
    together = case.with_terms(*terms).linearize(case.start)
    apart = [case.with_terms(term).linearize(case.start) for term in terms]
    for name in ("cost", "gradient", "hessian"):
        expected = torch.stack([getattr(equations, name) for equations in apart]).sum(0)
        torch.testing.assert_close(getattr(together, name), expected)


def test_gauss_newton_matrix_of_weakly_robust_keypoints_is_that_of_the_squared_error(case: BodyCase) -> None:
    """With a scale far above every error, Geman-McClure is the square, whose second derivative autograd knows."""
    term = replace(case.reprojection, robust_scale=1e6)
    equations = case.with_terms(term).linearize(case.start)
    posed = case.with_terms().evaluate(case.start, with_jacobian=True)
    block = term.evaluate(posed, with_jacobian=True)
    assert block.jacobian is not None
    torch.testing.assert_close(equations.hessian, block.jacobian.transpose(1, 2) @ block.jacobian)
    torch.testing.assert_close(block.cost, 0.5 * (block.residual**2).sum(-1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_geman_mcclure_is_the_square_near_zero_and_bounded_far_away(dtype: torch.dtype) -> None:
    scale = 3.0
    squared = torch.tensor([0.0, 1e-6, 0.5, 9.0, 1e4, 1e12], dtype=dtype, requires_grad=True)
    value, weight = geman_mcclure(squared, scale)
    (slope,) = torch.autograd.grad(value.sum(), squared)
    torch.testing.assert_close(weight, slope)
    assert value[0] == 0
    assert weight[0] == 1
    torch.testing.assert_close(value[1], squared[1], rtol=1e-5, atol=0)
    torch.testing.assert_close(value[3], torch.tensor(scale**2 / 2, dtype=dtype))
    assert (value.diff() > 0).all()
    assert (value <= scale**2).all()


@pytest.mark.parametrize("value", [0.0, 1e7, torch.nan, torch.inf])
def test_an_observation_of_weight_zero_has_no_influence(case: BodyCase, value: float) -> None:
    unseen = case.reprojection.weights == 0
    assert 0 < unseen.sum() < unseen.numel()
    positions = torch.where(unseen[..., None], value, case.reprojection.positions)
    changed = case.with_positions(positions)
    expected = case.problem.linearize(case.start)
    equations = changed.linearize(case.start)
    for name in ("cost", "gradient", "hessian"):
        torch.testing.assert_close(getattr(equations, name), getattr(expected, name), rtol=0, atol=0)
    torch.testing.assert_close(
        autograd_gradient(changed, case.start)[1], autograd_gradient(case.problem, case.start)[1], rtol=0, atol=0
    )


def test_a_point_behind_the_camera_leaves_everything_finite(case: BodyCase) -> None:
    state = replace(case.start, transl=case.start.transl - torch.tensor([0.0, 0.0, 8.0], dtype=torch.float64))
    cost, gradient = autograd_gradient(case.problem, state)
    equations = case.problem.linearize(state)
    assert torch.isfinite(equations.hessian).all()
    torch.testing.assert_close(equations.cost, cost)
    torch.testing.assert_close(equations.gradient, gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("where", ["position", "state"])
def test_a_bad_item_spoils_no_other(case: BodyCase, where: str) -> None:
    problem, start = case.problem, case.start
    if where == "position":
        positions = case.reprojection.positions.clone()
        positions[1, int(case.reprojection.weights[1].argmax())] = torch.nan
        problem = case.with_positions(positions)
    else:
        poses = tuple(pose.clone() for pose in start.poses)
        poses[1][1] = torch.nan
        start = replace(start, poses=poses)
    expected, equations = case.problem.linearize(case.start), problem.linearize(start)
    assert torch.isnan(equations.cost[1])
    for name in ("cost", "gradient", "hessian"):
        good, clean = getattr(equations, name)[[0, 2]], getattr(expected, name)[[0, 2]]
        torch.testing.assert_close(good, clean, rtol=0, atol=0)
    gradient = autograd_gradient(problem, start)[1]
    torch.testing.assert_close(gradient[[0, 2]], expected.gradient[[0, 2]], rtol=0, atol=1e-9)


def test_some_items_of_a_problem_are_those_of_the_whole(case: BodyCase) -> None:
    index = torch.tensor([2, 0])
    whole, part = case.problem.linearize(case.start)[index], case.problem[index].linearize(case.start[index])
    for name in ("cost", "gradient", "hessian"):
        torch.testing.assert_close(getattr(part, name), getattr(whole, name))


def test_terms_on_joints_that_rest_give_their_cost_and_no_gradient() -> None:
    spaces: list[PoseSpace] = [random_hand(Draw(4, torch.float64), tuple(range(25, 40)))]
    case = body_case(3, spaces=spaces, fixed=True)
    problem = case.with_terms(upright(case), PosePrior(gaussian(BODY_JOINTS, Draw(9, torch.float64)), 1.0))
    equations = problem.linearize(case.start)
    torch.testing.assert_close(equations.cost, problem.cost(case.start))
    assert (equations.cost > 1).all()
    assert not equations.gradient.any()
    assert not equations.hessian.any()


def test_retract_by_zero_and_along_one_direction(case: BodyCase) -> None:
    """Steps along one direction add up; L-BFGS relies on it."""
    problem, start = case.problem, case.start
    direction = Draw(6, torch.float64).normal(3, problem.size)
    both = problem.retract(problem.retract(start, 0.3 * direction), 0.5 * direction)
    once = problem.retract(start, 0.8 * direction)
    same = problem.retract(start, torch.zeros_like(direction))
    for a, b, c, d in zip(*(leaves(state) for state in (both, once, same, start)), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
        torch.testing.assert_close(c, d, rtol=0, atol=1e-12)


def leaves(state: FitState) -> list[Tensor]:
    return [*state.poses, state.betas, state.expression, state.transl]


def test_rotations_drift_little_over_many_steps_and_are_restored_when_encoded() -> None:
    space = PlainRotations(range(4))
    draw = Draw(7, torch.float32)
    rotations = space.initial(5, dtype=torch.float32, device=torch.device("cpu"))
    for _ in range(300):
        rotations = space.retract(rotations, draw.normal(5, 12))
    identity = torch.eye(3).expand_as(rotations)
    torch.testing.assert_close(rotations @ rotations.mT, identity, rtol=0, atol=3e-5)
    restored = space.encode(rotations)
    torch.testing.assert_close(restored @ restored.mT, identity, rtol=0, atol=1e-6)
    torch.testing.assert_close(restored, rotations, rtol=0, atol=3e-5)


def test_reprojection_selects_all_it_holds(case: BodyCase) -> None:
    index = torch.tensor([1])
    part = case.reprojection[index]
    assert isinstance(part, Reprojection)
    for name in ("positions", "weights", "sigma_px"):
        torch.testing.assert_close(getattr(part, name), getattr(case.reprojection, name)[index])
    torch.testing.assert_close(part.camera.focal_px, case.reprojection.camera.focal_px[index])
