"""Several uncalibrated views of one person: exact derivatives, shared shape and pose, and better depth."""

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.fitting.seen_people import SeenPeople, seen_people
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.open_body import open_body
from vitruvian.errors import InputError
from vitruvian.evaluation.metrics import pa_error_mm
from vitruvian.fitting.config import FitConfig
from vitruvian.fitting.fit import fit_keypoints
from vitruvian.fitting.fit_views import ViewsConfig, fit_views
from vitruvian.fitting.fitter import Fitter
from vitruvian.fitting.lbfgs import LBFGS
from vitruvian.fitting.levenberg_marquardt import LevenbergMarquardt
from vitruvian.fitting.multiview import MultiViewProblem, MultiViewState
from vitruvian.fitting.problem import BodyEvaluation, BodyProblem, FitState
from vitruvian.fitting.solution import Solution
from vitruvian.fitting.stages import DEFAULT_SCHEDULE
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.observations import Keypoints


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return open_body(num_shape=10, num_expression=10)


@cache
def coupled() -> tuple[MultiViewProblem, MultiViewState]:
    """Two people in three views, one of which the second lacks, on a body without correctives, in float64."""
    body = replace(open_body().to(dtype=torch.float64), correctives=None)
    people = seen_people(body, 2, views=3, noise_px=2.0)
    fitter = Fitter(body, "openpose", FitConfig(), None)
    observed = fitter.observe(people.keypoints, people.camera, torch.arange(6))
    spaces = fitter.spaces(torch.arange(6))
    state = fitter.state_from(people.params, spaces)
    trunk = next(stage for stage in DEFAULT_SCHEDULE if stage.name == "trunk")
    views = fitter.problem(trunk, state, observed, spaces)
    active = fitter.active_parts(trunk)
    moving = type(state)(tuple(state.poses[k] for k in active), state.betas, state.expression, state.transl)
    present = torch.tensor([[True, True, True], [True, False, True]])
    problem = MultiViewProblem(views, 3, consistency=5.0, shared_joints=tuple(range(1, 22)), present=present)
    generator = torch.Generator().manual_seed(1)
    away = 0.1 * torch.randn(2, problem.size, generator=generator, dtype=torch.float64)
    return problem, problem.retract(MultiViewState.of_views(moving, 3), away)


def test_gradient_of_coupled_views_equals_autograd() -> None:
    problem, start = coupled()
    equations = problem.linearize(start)
    step = torch.zeros(2, problem.size, dtype=torch.float64, requires_grad=True)
    cost = problem.cost(problem.retract(start, step))
    (gradient,) = torch.autograd.grad(cost.sum(), step)
    torch.testing.assert_close(equations.cost, cost.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(equations.gradient, gradient, rtol=1e-7, atol=1e-7)


def test_curvature_of_the_agreement_is_that_of_its_residual() -> None:
    """JᵀJ of the whole disagreement, mean and all, by autograd of every one of its numbers."""
    problem, start = coupled()
    bare = BodyProblem(
        problem.views.body,
        problem.views.spaces,
        [],
        num_shape=problem.views.num_shape,
        num_expression=problem.views.num_expression,
        fixed_rotations=problem.views.fixed_rotations,
    )
    alone = MultiViewProblem(bare, 3, consistency=5.0, shared_joints=problem.shared_joints, present=problem.present)

    def disagreement(step: Tensor) -> Tensor:
        body = bare.evaluate(alone.retract(start, step).flat(), with_jacobian=False)
        R = body.rotations[:, list(alone.shared_joints)].unflatten(0, (2, 3))
        rows = []
        for person in range(2):
            there = R[person, alone.present[person]]
            rows.append(torch.cat([(5.0 * (view - there.mean(0))).flatten() for view in there]))
        return torch.cat(rows)

    J = torch.autograd.functional.jacobian(disagreement, torch.zeros(2, alone.size, dtype=torch.float64))
    expected = torch.einsum("rpi,rpj->pij", J, J)
    torch.testing.assert_close(alone.linearize(start).hessian, expected, rtol=1e-8, atol=1e-8)


def test_bodies_are_posed_once_per_linearisation(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, start = coupled()
    calls = []
    evaluate = BodyProblem.evaluate

    def counted(self: BodyProblem, state: FitState, *, with_jacobian: bool) -> BodyEvaluation:
        calls.append(with_jacobian)
        return evaluate(self, state, with_jacobian=with_jacobian)

    monkeypatch.setattr(BodyProblem, "evaluate", counted)
    problem.linearize(start)
    problem.cost(start)
    assert calls == [True, False]


def views_of(people: SeenPeople, rows: list[int]) -> tuple[Keypoints, Camera]:
    """One person in the views that are some rows of the people."""
    return people.keypoints[rows].map(lambda x: x[None]), people.camera[rows].map(lambda x: x[None])


def test_copies_of_a_view_give_the_fit_of_that_view(body: BodyModel) -> None:
    """What is believed of shape, pose, hands and jaw counts once, and so does what one picture says."""
    people = seen_people(body, 1, noise_px=2.0, seed=4)
    alone = fit_keypoints(body, people.keypoints, people.camera)
    for count in (2, 3):
        together = fit_views(body, *views_of(people, [0] * count))
        difference = body.pose(together.params).joints - body.pose(alone.params).joints[:, None]
        assert difference.abs().max() < 5e-3
        torch.testing.assert_close(together.cost, alone.cost, rtol=2e-3, atol=0)


def test_a_view_that_shows_nothing_adds_nothing(body: BodyModel) -> None:
    people = seen_people(body, 1, views=3, noise_px=2.0, seed=6)
    keypoints, camera = views_of(people, [0, 1, 2])
    confidence = keypoints.confidence.clone()
    confidence[:, 1] = 0.0
    blind = fit_views(body, replace(keypoints, confidence=confidence), camera)
    without = fit_views(body, *views_of(people, [0, 2]))
    torch.testing.assert_close(blind.cost, without.cost, rtol=1e-3, atol=0)
    difference = body.pose(blind.params).joints[:, [0, 2]] - body.pose(without.params).joints
    assert difference.abs().max() < 5e-3
    torch.testing.assert_close(blind.params.rotations[:, 1, 1:], blind.params.rotations[:, 0, 1:])


def test_the_order_of_views_does_not_matter(body: BodyModel) -> None:
    people = seen_people(body, 1, views=3, noise_px=2.0, seed=6)
    forth = fit_views(body, *views_of(people, [0, 1, 2]))
    back = fit_views(body, *views_of(people, [2, 0, 1]))
    difference = body.pose(forth.params).joints - body.pose(back.params).joints[:, [1, 2, 0]]
    assert difference.abs().max() < 5e-3


def test_the_configured_solver_fits_the_views(body: BodyModel) -> None:
    class Counted:
        """Solves as Levenberg-Marquardt does, and remembers what."""

        def __init__(self) -> None:
            self.problems: list[type] = []

        def solve(self, problem: Any, start: Any) -> Solution:
            self.problems.append(type(problem))
            return LevenbergMarquardt(max_iterations=2).solve(problem, start)

    solver = Counted()
    people = seen_people(body, 1, views=2, noise_px=2.0)
    fit_views(body, *views_of(people, [0, 1]), config=ViewsConfig(fit=FitConfig(solver=solver)))
    assert solver.problems.count(MultiViewProblem) == len(ViewsConfig().consistency)


@pytest.mark.slow
def test_lbfgs_fits_views_as_well(body: BodyModel) -> None:
    people = seen_people(body, 1, views=2, noise_px=2.0)
    config = FitConfig(schedule=DEFAULT_SCHEDULE[-1:])
    costs = []
    for solver in (LevenbergMarquardt(max_iterations=100, relative_tolerance=1e-6), LBFGS(max_iterations=300)):
        views = ViewsConfig(fit=replace(config, solver=solver))
        costs.append(fit_views(body, *views_of(people, [0, 1]), config=views, start=people.params).cost)
    torch.testing.assert_close(costs[1], costs[0], rtol=0.02, atol=0)


def test_views_agree_and_beat_the_single_view() -> None:
    body = open_body()
    views = seen_people(body, 3, views=4, noise_px=2.0, seed=3)
    keypoints = views.keypoints.map(lambda x: x.unflatten(0, (3, 4)))
    camera = views.camera.map(lambda x: x.unflatten(0, (3, 4)))
    fits = fit_views(body, keypoints, camera)
    torch.testing.assert_close(fits.params.betas, fits.params.betas[:, :1].expand_as(fits.params.betas))
    spread = fits.params.rotations[:, :, 1:22] - fits.params.rotations[:, :, 1:22].mean(1, keepdim=True)
    assert spread.abs().max() < 0.05
    true = body.pose(views.params).joints[:, :22]
    together = pa_error_mm(body.pose(fits.params).joints[..., :22, :].flatten(0, 1), true).mean()
    single = fit_keypoints(body, views.keypoints, views.camera)
    alone = pa_error_mm(body.pose(single.params).joints[:, :22], true).mean()
    assert together < 0.75 * alone
    assert (fits.reprojection_px < 6).all()


def test_a_view_without_the_person_is_left_out() -> None:
    body = open_body()
    views = seen_people(body, 1, views=3, noise_px=1.0)
    keypoints = views.keypoints.map(lambda x: x[None])
    confidence = keypoints.confidence.clone()
    confidence[:, 1] = 0.0
    fits = fit_views(body, Keypoints(keypoints.positions, confidence, "openpose"), views.camera.map(lambda x: x[None]))
    assert fits.reprojection_px[0, 1].isnan()
    assert (fits.reprojection_px[0, [0, 2]] < 6).all()
    assert fits.params.rotations.isfinite().all()


def test_a_single_view_is_refused() -> None:
    people = seen_people(open_body(), 1)
    with pytest.raises(InputError, match="at least two views"):
        fit_views(open_body(), people.keypoints, people.camera)
