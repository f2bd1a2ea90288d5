"""Terms from outside: what a maker sees, what its term does to a fit, and how many steps the solver takes."""

from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from tests.fitting.seen_people import SeenPeople, seen_people
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.open_body import open_body
from vitruvian.fitting.config import FitConfig
from vitruvian.fitting.fit import fit_keypoints
from vitruvian.fitting.fit_views import ViewsConfig, fit_views
from vitruvian.fitting.lbfgs import LBFGS
from vitruvian.fitting.levenberg_marquardt import LevenbergMarquardt
from vitruvian.fitting.observed import Observations
from vitruvian.fitting.parts import body_prior
from vitruvian.fitting.problem import BodyEvaluation, ResidualBlock, Term
from vitruvian.fitting.solution import Status
from vitruvian.fitting.stages import DEFAULT_SCHEDULE
from vitruvian.fitting.structures import fitted_targets, point_kinematics
from vitruvian.fitting.term_makers import StageSetting
from vitruvian.tensors import TensorRecord

LAST = FitConfig(schedule=DEFAULT_SCHEDULE[-2:])


@dataclass(frozen=True, eq=False)
class Depth(TensorRecord):
    """½ w² (z − goal)² on the translation of each person."""

    goal: Tensor
    weight: float

    def evaluate(self, body: BodyEvaluation, *, with_jacobian: bool) -> ResidualBlock:
        residual = self.weight * (body.state.transl[:, 2:] - self.goal[:, None])
        cost = 0.5 * residual.square().sum(-1)
        if not with_jacobian:
            return ResidualBlock(residual, body.problem.layout.transl, None, cost)
        jacobian = self.weight * torch.eye(3).to(residual)[None, 2:].expand(len(residual), -1, -1)
        return ResidualBlock(residual, body.problem.layout.transl, jacobian, cost)


@dataclass
class DepthMaker:
    """Knows the depth of everybody; remembers what it saw."""

    depths: Tensor
    only_last: bool = True
    seen: list[tuple[StageSetting, Observations]] = field(default_factory=list)

    def __call__(self, setting: StageSetting, observed: Observations) -> Term | None:
        self.seen.append((setting, observed))
        if self.only_last and not setting.is_last:
            return None
        return Depth(self.depths[observed.rows], 1e4)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return open_body(num_shape=10, num_expression=10)


@pytest.fixture(scope="module")
def people(body: BodyModel) -> SeenPeople:
    return seen_people(body, 3, noise_px=1.0, seed=2)


def test_a_term_from_outside_moves_each_person_by_its_own_row(body: BodyModel, people: SeenPeople) -> None:
    depths = people.params.transl[:, 2] + torch.tensor([0.2, -0.2, 0.4])
    config = replace(LAST, chunk=2)
    maker = DepthMaker(depths)
    fits = fit_keypoints(body, people.keypoints, people.camera, start=people.params, config=config, terms=(maker,))
    torch.testing.assert_close(fits.params.transl[:, 2], depths, rtol=0, atol=5e-3)
    assert [setting.is_last for setting, _ in maker.seen] == [False, True] * 2
    assert [observed.rows.tolist() for _, observed in maker.seen] == [[0, 1]] * 2 + [[2]] * 2


def test_a_maker_sees_the_body_the_moving_joints_and_the_points(body: BodyModel, people: SeenPeople) -> None:
    maker = DepthMaker(people.params.transl[:, 2])
    fit_keypoints(body, people.keypoints, people.camera, start=people.params, config=LAST, terms=(maker,))
    setting, observed = maker.seen[-1]
    assert setting.body is body
    assert set(setting.moving_joints) == set(range(55)) - {23, 24}  # the eyes rest
    assert setting.kinematics.num_moving == len(setting.moving_joints)
    assert setting.kinematics.num_points == len(setting.counting) == len(setting.targets.keypoint)
    assert observed.weights.shape == (3, len(setting.targets.keypoint))


def test_terms_from_outside_count_while_starts_compete_and_in_views(body: BodyModel, people: SeenPeople) -> None:
    maker = DepthMaker(people.params.transl[:, 2] + 0.3, only_last=False)
    config = replace(FitConfig(), schedule=tuple(replace(stage, iterations=2) for stage in DEFAULT_SCHEDULE))
    prior = body_prior("vposer", body.skeleton)
    fit_keypoints(body, people.keypoints, people.camera, config=config, prior=prior, terms=(maker,))
    assert len(maker.seen) == len(DEFAULT_SCHEDULE)
    assert maker.seen[0][1].rows.tolist() == [row for row in range(3) for _ in range(config.starts)]
    maker.seen.clear()
    views = people.keypoints.map(lambda x: x[None]), people.camera.map(lambda x: x[None])
    fits = fit_views(body, *views, config=ViewsConfig(fit=LAST), start=people.params, terms=(maker,))
    torch.testing.assert_close(fits.params.transl[0, :, 2], maker.depths, rtol=0, atol=5e-3)
    assert maker.seen[-1][0].is_last


def test_steps_of_a_given_solver_count_and_else_those_of_the_stage(body: BodyModel, people: SeenPeople) -> None:
    def steps(solver: LevenbergMarquardt) -> int:
        config = FitConfig(schedule=(replace(DEFAULT_SCHEDULE[-1], iterations=4),), solver=solver)
        fits = fit_keypoints(body, people.keypoints, people.camera, start=people.params, config=config)
        return int(fits.iterations.max())

    patient = LevenbergMarquardt(relative_tolerance=0.0, gradient_tolerance=0.0)
    assert steps(patient) == 4
    assert steps(replace(patient, max_iterations=2)) == 2
    assert steps(replace(patient, max_iterations=6)) == 6


def test_structures_live_as_long_as_their_body_and_hold_no_people(body: BodyModel) -> None:
    import gc
    import weakref

    other = replace(body)
    assert fitted_targets(other, "openpose") is fitted_targets(other, "openpose")
    assert fitted_targets(other, "openpose") is not fitted_targets(body, "openpose")
    kinematics = point_kinematics(other, "openpose", (0, 1), moving_joints=(0, 1), num_shape=2, num_expression=0)
    assert kinematics is point_kinematics(
        other, "openpose", (0, 1), moving_joints=(0, 1), num_shape=2, num_expression=0
    )
    gone = weakref.ref(other)
    del other
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    "name",
    ["mixture", *(pytest.param(name, marks=pytest.mark.slow) for name in ("vposer", "hand-set", "none", "bending"))],
)
def test_both_solvers_end_at_the_same_objective(body: BodyModel, people: SeenPeople, name: str) -> None:
    two = slice(0, 2)
    costs = []
    for solver in (LevenbergMarquardt(max_iterations=100, relative_tolerance=1e-6), LBFGS(max_iterations=400)):
        config = FitConfig(schedule=DEFAULT_SCHEDULE[-1:], solver=solver)
        fits = fit_keypoints(
            body,
            people.keypoints[two],
            people.camera[two],
            start=people.params[two],
            config=config,
            prior=body_prior(name, body.skeleton),
        )
        assert not torch.isin(fits.status, torch.tensor([Status.FAILED, Status.NO_EVIDENCE])).any()
        costs.append(fits.cost)
    torch.testing.assert_close(costs[1], costs[0], rtol=0.01, atol=0)
