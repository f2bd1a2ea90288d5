"""Depth cues in the fit: the term against autograd in every kind of pose space, and what cues may change."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.fitting.body_problems import Draw
from tests.fitting.seen_people import SeenPeople, seen_people
from tests.recovery.test_posterior import people as canonical_people
from tests.recovery.test_posterior import small_network
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.open_body import open_body
from vitruvian.bodies.params import BodyParams
from vitruvian.errors import InputError
from vitruvian.fitting.config import FitConfig
from vitruvian.fitting.directions import BoneDirections, bone_vectors, cue_terms
from vitruvian.fitting.fit import fit_keypoints
from vitruvian.fitting.fit_views import ViewsConfig, fit_views
from vitruvian.fitting.multiview import MultiViewProblem, MultiViewState
from vitruvian.fitting.parts import body_prior
from vitruvian.fitting.problem import BodyProblem, FitState
from vitruvian.fitting.stages import Stage
from vitruvian.geometry.rotations import exp_so3
from vitruvian.keypoints.depth_cues import BONE_NAMES, BONES, DepthCues
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.people import People
from vitruvian.keypoints.places import SIDES
from vitruvian.keypoints.targets import keypoint_targets
from vitruvian.priors.pose_spaces import PlainRotations, PoseSpace
from vitruvian.priors.vposer import VPoser
from vitruvian.priors.vposer_space import VPoserSpace
from vitruvian.recovery.posterior import infer

NUM_SHAPE, NUM_EXPRESSION = 4, 2
QUICK = FitConfig(
    schedule=(Stage("trunk", robust_scale=40.0, iterations=8), Stage("limbs", robust_scale=20.0, iterations=10)),
    num_expression=0,
    cue_spread=0.3,
)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    """The open body without pose correctives, whose derivatives the solver leaves out."""
    return replace(open_body(num_shape=6, num_expression=3).to(dtype=torch.float64), correctives=None)


@pytest.fixture(scope="module")
def float_body() -> BodyModel:
    return open_body()


def random_cues(draw: Draw, count: int) -> DepthCues:
    """Random directions; the second bone of everybody is unknown, and that of a third bone is no number."""
    directions = torch.nn.functional.normalize(draw.normal(count, len(BONES), 3), dim=-1)
    confidence = draw.uniform(count, len(BONES))
    confidence[:, 1] = confidence[:, 5] = 0
    directions[:, 5] = torch.nan
    return DepthCues(directions, confidence)


def true_cues(body: BodyModel, people: SeenPeople) -> DepthCues:
    vectors = body.pose(people.params).points(bone_vectors(body).points)
    return DepthCues(torch.nn.functional.normalize(vectors, dim=-1), torch.ones_like(vectors[..., 0]))


SPACES: dict[str, Callable[[BodyModel], tuple[PoseSpace, ...]]] = {
    "free rotations": lambda body: (PlainRotations((0,)), PlainRotations(tuple(range(1, 22)))),
    "VPoser": lambda body: (PlainRotations((0,)), VPoserSpace(deepcopy(VPoser.learnt()).double())),
    "flow": lambda body: (infer(small_network(), *canonical_people()).pose_space(),),
}


def problem_with_cues(body: BodyModel, name: str, *, robust_scale: float) -> tuple[BodyProblem, FitState]:
    draw = Draw(3, torch.float64)
    spaces = SPACES[name](body)
    moving = tuple(joint for space in spaces for joint in space.joints)
    term = BoneDirections.of(
        random_cues(draw, 3),
        body,
        moving,
        NUM_SHAPE,
        NUM_EXPRESSION,
        robust_scale=robust_scale,
    )
    poses = tuple(
        exp_so3(draw.normal(3, len(space.joints), 3, scale=0.4))
        if isinstance(space, PlainRotations)
        else draw.normal(3, space.num_parameters, scale=0.5)
        for space in spaces
    )
    state = FitState(poses, draw.normal(3, 6), draw.normal(3, 3), draw.normal(3, 3))
    return BodyProblem(body, spaces, [term], num_shape=NUM_SHAPE, num_expression=NUM_EXPRESSION), state


def finite_difference(problem: BodyProblem, state: FitState, direction: Tensor) -> Tensor:
    """Derivative of the cost along a step, by central differences: latent spaces decode without gradients."""
    h = 1e-5
    ahead, behind = (problem.cost(problem.retract(state, s * h * direction)) for s in (1, -1))
    return (ahead - behind) / (2 * h)


@pytest.mark.parametrize("robust_scale", [1.0, 3.0, 1000.0])
def test_jacobian_times_residual_is_the_gradient_of_the_cost(body: BodyModel, robust_scale: float) -> None:
    problem, state = problem_with_cues(body, "free rotations", robust_scale=robust_scale)
    step = torch.zeros(3, problem.size, dtype=torch.float64, requires_grad=True)
    cost = problem.cost(problem.retract(state, step))
    (gradient,) = torch.autograd.grad(cost.sum(), step)
    equations = problem.linearize(state)
    assert gradient.abs().amax() > 0.1
    torch.testing.assert_close(equations.cost, cost.detach(), rtol=1e-12, atol=0)
    # The weights of the points sum to one to nine digits; what is left moves with the body, and is left out.
    limit = 1e-7 * float(gradient.abs().amax())
    torch.testing.assert_close(equations.gradient, gradient, rtol=0, atol=limit)
    assert gradient[:, problem.layout.transl].abs().amax() < limit, "directions do not depend on where the body is"


@pytest.mark.parametrize("name", ["VPoser", "flow"])
def test_gradients_in_latent_spaces(body: BodyModel, name: str) -> None:
    problem, state = problem_with_cues(body, name, robust_scale=3.0)
    gradient = problem.linearize(state).gradient
    for seed in range(3):
        direction = Draw(seed, torch.float64).normal(3, problem.size)
        found = finite_difference(problem, state, direction)
        torch.testing.assert_close((gradient * direction).sum(-1), found, rtol=1e-5, atol=1e-6)


def test_jacobian_is_the_derivative_of_the_residual_where_errors_count_fully(body: BodyModel) -> None:
    problem, state = problem_with_cues(body, "free rotations", robust_scale=1e6)
    (term,) = problem.terms
    block = term.evaluate(problem.evaluate(state, with_jacobian=True), with_jacobian=True)

    def summed(step: Tensor) -> Tensor:
        moved = problem.evaluate(problem.retract(state, step), with_jacobian=False)
        return term.evaluate(moved, with_jacobian=False).residual.sum(0)

    zero = torch.zeros(3, problem.size, dtype=torch.float64)
    expected = torch.autograd.functional.jacobian(summed, zero, vectorize=True).transpose(0, 1)
    assert block.jacobian is not None
    torch.testing.assert_close(block.jacobian, expected[..., block.columns], rtol=0, atol=1e-9)


def test_gradients_of_views_that_share_a_pose(body: BodyModel) -> None:
    """One person in three views, each with cues of its own."""
    views, flat = problem_with_cues(body, "free rotations", robust_scale=3.0)
    state = MultiViewState.of_views(flat, 3)
    present = torch.ones(1, 3, dtype=torch.bool)
    problem = MultiViewProblem(views, 3, consistency=2.0, shared_joints=(4, 5, 18), present=present)
    step = torch.zeros(1, problem.size, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(problem.cost(problem.retract(state, step)).sum(), step)
    limit = 1e-9 * float(gradient.abs().amax())
    torch.testing.assert_close(problem.linearize(state).gradient, gradient, rtol=0, atol=limit)


def test_bones_are_vectors_between_the_points_that_the_network_means(body: BodyModel) -> None:
    draw = Draw(4, torch.float64)
    betas, rotations = draw.normal(2, 6), exp_so3(draw.normal(2, body.num_joints, 3, scale=0.4))
    posed = body.with_shape(betas).with_pose(rotations, draw.normal(2, 3))
    bones = bone_vectors(body)
    assert bones.rows == tuple(range(len(BONES)))
    targets = keypoint_targets(body, "mediapipe-pose33")
    points = posed.points(targets.points)
    found = posed.points(bones.points)
    for row, name in enumerate(BONE_NAMES):
        start, end = (targets.find(f"mediapipe:{place}") for place in BONES[name])
        torch.testing.assert_close(found[:, row], points[:, end] - points[:, start])


def quick_fit(body: BodyModel, people: SeenPeople, cues: DepthCues | None) -> BodyParams:
    """One start, standing as the person does, without hands and face."""
    return fit_keypoints(
        body,
        people.keypoints,
        people.camera,
        config=QUICK,
        prior=body_prior("hand-set", body.skeleton),
        start=standing(people),
        terms=cue_terms(cues, spread=QUICK.cue_spread),
    ).params


def standing(people: SeenPeople) -> BodyParams:
    rotations = torch.eye(3).expand_as(people.params.rotations).clone()
    rotations[:, 0] = people.params.rotations[:, 0]
    return replace(people.params, rotations=rotations, betas=torch.zeros_like(people.params.betas))


def test_cues_without_confidence_change_nothing(float_body: BodyModel) -> None:
    people = seen_people(float_body, 4, noise_px=1.0)
    plain = quick_fit(float_body, people, None)
    assert torch.equal(plain.rotations, quick_fit(float_body, people, DepthCues.absent(4)).rotations)
    cues = true_cues(float_body, people)
    some = replace(cues, confidence=cues.confidence * torch.tensor([1.0, 0.0, 1.0, 0.0])[:, None])
    mixed = quick_fit(float_body, people, some)
    moved = (float_body.pose(mixed).joints - float_body.pose(plain).joints).norm(dim=-1).amax(-1)
    assert (moved[[1, 3]] < 2e-4).all(), "a person without cues is fitted as before, whoever else has some"
    assert (moved[[0, 2]] > 5e-3).all()


def test_each_person_is_fitted_with_their_own_cues(float_body: BodyModel) -> None:
    people = seen_people(float_body, 3, noise_px=1.0)
    cues = true_cues(float_body, people)
    row = slice(2, 3)
    alone = SeenPeople(people.params[row], people.keypoints[row], people.camera[row])
    together = float_body.pose(quick_fit(float_body, people, cues)[row]).joints
    difference = together - float_body.pose(quick_fit(float_body, alone, cues[row])).joints
    assert difference.norm(dim=-1).amax() < 2e-3


def error_m(body: BodyModel, params: BodyParams, truth: BodyParams) -> float:
    """Mean distance of the body joints, the pelvis at the origin."""
    found, true = (body.pose(p).joints[:, :22] for p in (params, truth))
    return float((found - found[:, :1] - true + true[:, :1]).norm(dim=-1).mean())


def test_true_directions_bring_the_body_nearer_to_the_truth(float_body: BodyModel) -> None:
    people = seen_people(float_body, 8, noise_px=2.0)
    without, with_cues = (
        error_m(float_body, quick_fit(float_body, people, cues), people.params)
        for cues in (None, true_cues(float_body, people))
    )
    assert with_cues < 0.7 * without


def test_true_directions_in_several_views(float_body: BodyModel) -> None:
    """Legs that no keypoint shows in either view follow the cues that one of them has."""
    people = seen_people(float_body, 4, views=2)
    definition = people.keypoints.definition
    confidence = people.keypoints.confidence.clone()
    for side in SIDES:
        for place in ("knee", "ankle", "heel", "big_toe", "small_toe"):
            confidence[:, definition.index(f"{side}_{place}")] = 0
    people = replace(people, keypoints=replace(people.keypoints, confidence=confidence))
    cues = true_cues(float_body, people)
    only_second = replace(cues, confidence=cues.confidence * torch.tensor([0.0, 1.0]).repeat(4)[:, None])

    def split(x: Tensor) -> Tensor:
        return x.unflatten(0, (4, 2))

    errors = []
    for seen in (None, only_second):
        fits = fit_views(
            float_body,
            people.keypoints.map(split),
            people.camera.map(split),
            config=ViewsConfig(fit=QUICK, iterations=8),
            prior=body_prior("hand-set", float_body.skeleton),
            start=standing(people),
            terms=cue_terms(seen, spread=QUICK.cue_spread),
        )
        errors.append(error_m(float_body, fits.params.map(lambda x: x[:, 0]), people.params[::2]))
    assert errors[1] < 0.6 * errors[0]


def test_cues_must_belong_to_the_people(float_body: BodyModel) -> None:
    camera = seen_people(float_body, 1).camera
    with pytest.raises(InputError, match="one row of depth cues per person"):
        People.in_picture(Keypoints.empty("openpose", people=2), camera[[0, 0]], cues=DepthCues.absent(3))
