"""Closed-form Jacobians of points of the body against autograd in float64."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.fitting.body_problems import (
    BODY_JOINTS,
    LEFT_HAND,
    NUM_EXPRESSION,
    NUM_SHAPE,
    POINT_JOINTS,
    RIGHT_HAND,
    BodyCase,
    Draw,
    all_spaces,
    body_case,
    body_points,
    point_weights,
    random_hand,
)
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.skeletons import SMPLX
from vitruvian.fitting.kinematics import PointKinematics
from vitruvian.fitting.problem import FitState
from vitruvian.geometry.rotations import exp_so3
from vitruvian.priors.pose_spaces import PlainRotations, PoseSpace


def hands_before_body() -> list[PoseSpace]:
    draw = Draw(5, torch.float64)
    return [random_hand(draw, RIGHT_HAND, 3), PlainRotations((0, 3, 9, 21, 22)), random_hand(draw, LEFT_HAND, 45)]


SPACES: dict[str, Callable[[], list[PoseSpace]]] = {
    "all joints free": lambda: [PlainRotations(range(len(SMPLX)))],
    "body free, hands by components": lambda: all_spaces(torch.float64),
    "hands first, few body joints": hands_before_body,
    "no root": lambda: [PlainRotations((20, 4, 12, 27))],
    "root alone": lambda: [PlainRotations((0,))],
}


@pytest.fixture(params=SPACES)
def spaces(request: pytest.FixtureRequest) -> list[PoseSpace]:
    return SPACES[request.param]()


def points_at(case: BodyCase, state: FitState, *, constant_features: bool = False) -> Tensor:
    """The points by the slow way, `SkinnedPoints.place`."""
    posed = case.problem.evaluate(state, with_jacobian=False)
    points = case.kinematics.points
    features = posed.pose_features if points.pose_dirs is not None else None
    if features is not None and constant_features:
        features = features.detach()
    return points.place(posed.world_rotations, posed.joints, state.betas, state.expression, features)


def autograd_jacobian(case: BodyCase, *, constant_features: bool = False) -> Tensor:
    """∂p/∂step at zero step: (batch, point, 3, step)."""

    def summed(step: Tensor) -> Tensor:
        state = case.problem.retract(case.start, step)
        return points_at(case, state, constant_features=constant_features).sum(0)

    zero = case.start.transl.new_zeros(case.start.batch_size, case.problem.size)
    return torch.autograd.functional.jacobian(summed, zero, vectorize=True).permute(2, 0, 1, 3)


def closed_jacobian(case: BodyCase) -> Tensor:
    problem, kinematics, state = case.problem, case.kinematics, case.start
    posed = problem.evaluate(state, with_jacobian=True)
    features = posed.pose_features if kinematics.points.pose_dirs is not None else None
    offsets = kinematics.points.offsets(state.betas, state.expression, features)
    sums = kinematics.group_sums(posed.world_rotations, posed.joints, offsets)
    rows = torch.eye(3, dtype=sums.dtype).expand(state.batch_size, kinematics.num_points, 3, 3)
    turned = kinematics.rotation_jacobian(rows, sums, posed.world_rotations, posed.joints)
    parts = [
        posed.pull_back(turned.flatten(1, 2)).unflatten(1, (-1, 3)),
        kinematics.shape_jacobian(rows, posed.world_rotations),
        rows,
    ]
    return torch.cat(parts, dim=-1)


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("extra_coefficients", [0, 2])
def test_the_jacobian_is_the_derivative(spaces: list[PoseSpace], fixed: bool, extra_coefficients: int) -> None:
    case = body_case(2, spaces=spaces, fixed=fixed, extra_coefficients=extra_coefficients)
    expected = autograd_jacobian(case)
    assert expected.abs().amax() > 0.1
    torch.testing.assert_close(closed_jacobian(case), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("correctives", [False, True])
def test_the_first_sums_are_the_points(correctives: bool) -> None:
    case = body_case(2, correctives=correctives, fixed=True)
    state, kinematics, body = case.start, case.kinematics, case.problem.body
    posed = case.problem.evaluate(state, with_jacobian=False)
    mesh = body.with_shape(state.betas, state.expression).with_pose(posed.rotations, state.transl)
    vertex_weights, joint_weights = point_weights(body)
    expected = vertex_weights @ mesh.vertices + joint_weights @ mesh.joints
    features = posed.pose_features if correctives else None
    offsets = kinematics.points.offsets(state.betas, state.expression, features)
    sums = kinematics.group_sums(posed.world_rotations, posed.joints, offsets)
    torch.testing.assert_close(sums[:, : kinematics.num_points], expected, rtol=0, atol=1e-12)


def test_pose_correctives_count_in_the_value_and_are_constant_in_the_jacobian() -> None:
    case = body_case(2, correctives=True, spaces=[PlainRotations(range(len(SMPLX)))])
    closed = closed_jacobian(case)
    torch.testing.assert_close(closed, autograd_jacobian(case, constant_features=True), rtol=0, atol=1e-9)

    # What is left out, of point k and joint i, is Σ_n G_n P_n ∂(R_i − I), and |R [e]ₓ|² = 2 for each of three axes.
    left_out = (autograd_jacobian(case) - closed)[..., : 3 * len(SMPLX)].unflatten(-1, (-1, 3)).norm(dim=(2, 4))
    dirs = case.kinematics.points.pose_dirs
    assert dirs is not None
    per_attachment = dirs.unflatten(-1, (-1, 9)).norm(dim=(1, 3))
    bound = dirs.new_zeros(case.kinematics.num_points, per_attachment.shape[1])
    bound.index_add_(0, case.kinematics.points.point, per_attachment)
    assert (left_out[:, :, 0] < 1e-12).all()
    assert (left_out[:, :, 1:] <= 6**0.5 * bound + 1e-12).all()
    skinned = bound.amax(-1) > 0
    assert (left_out[:, skinned].amax(-1) > 1e-4).all()
    assert (left_out[:, ~skinned] < 1e-12).all()


def test_a_point_is_moved_only_by_the_joints_above_it() -> None:
    case = body_case(1, spaces=[PlainRotations(range(len(SMPLX)))])
    turned = (
        closed_jacobian(case)[0, : len(POINT_JOINTS), :, : 3 * len(SMPLX)].unflatten(-1, (-1, 3)).abs().amax((1, 3))
    )
    for row, joint in enumerate(POINT_JOINTS):
        above = SMPLX.chains[joint][:-1]
        rest = [other for other in range(len(SMPLX)) if other not in above]
        assert (turned[row, list(above)] > 1e-6).all()
        # A joint does not move itself; the difference of its sum and its position is rounding.
        assert (turned[row, rest] < 1e-12).all()


def test_without_coefficients_the_shape_has_no_columns() -> None:
    case = body_case(1)
    kinematics = PointKinematics.build(
        case.problem.body,
        case.kinematics.points,
        moving_joints=case.problem.moving_joints,
        num_shape=0,
        num_expression=0,
    )
    rows = torch.eye(3, dtype=torch.float64).expand(1, kinematics.num_points, 3, 3)
    posed = case.problem.evaluate(case.start, with_jacobian=False)
    assert kinematics.shape_jacobian(rows, posed.world_rotations).shape == (1, kinematics.num_points, 3, 0)


@pytest.mark.parametrize("hidden", ["pose", "shape"])
def test_a_surface_point_at_the_place_of_its_joint_still_follows_the_surface(hidden: str) -> None:
    """Its offset at rest is zero; pose correctives, and coefficients that are no variables, move it all the same."""
    case = body_case(2, correctives=True, fixed=True, extra_coefficients=2)
    body = at_its_joint(case.problem.body, vertex=0, joint=4, keep=hidden)
    points = body_points(body)
    kinematics = PointKinematics.build(
        body,
        points,
        moving_joints=BODY_JOINTS,
        num_shape=NUM_SHAPE,
        num_expression=NUM_EXPRESSION,
    )
    draw = Draw(3, torch.float64)
    rotations = exp_so3(draw.normal(2, body.num_joints, 3))
    betas, expression = draw.normal(2, body.num_shape), draw.normal(2, body.num_expression)
    posed = body.with_shape(betas, expression).with_pose(rotations)
    offsets = points.offsets(betas, expression, (rotations[:, 1:] - torch.eye(3, dtype=torch.float64)).flatten(1))
    sums = kinematics.group_sums(posed.world_rotations, posed.joints, offsets)
    torch.testing.assert_close(sums[:, : points.num_points], posed.points(points), rtol=0, atol=1e-12)


def at_its_joint(body: BodyModel, *, vertex: int, joint: int, keep: str) -> BodyModel:
    """The body with a vertex that hangs on one joint, lies on it, and leaves it only by the pose or by late shape."""
    copied = body.map(torch.clone)
    assert copied.correctives is not None
    dense = copied.correctives.dense
    assert dense is not None
    copied.template[vertex] = copied.joint_template[joint]
    copied.skinning_weights[vertex] = 0
    copied.skinning_weights[vertex, joint] = 1
    copied.expression_dirs[vertex] = copied.joint_expression_dirs[joint]
    if keep == "pose":
        copied.shape_dirs[vertex] = copied.joint_shape_dirs[joint]
        return copied
    copied.shape_dirs[vertex, :, :NUM_SHAPE] = copied.joint_shape_dirs[joint, :, :NUM_SHAPE]
    dense[vertex] = 0
    return copied
