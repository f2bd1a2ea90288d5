"""Small random bodies of 55 joints, and people of them seen by a camera, for tests of the fitting engine."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vitruvian.bodies.correctives import PoseCorrectives
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.points import SkinnedPoints
from vitruvian.bodies.skeletons import SMPLX
from vitruvian.fitting.kinematics import PointKinematics
from vitruvian.fitting.problem import BodyProblem, FitState, Term
from vitruvian.fitting.residuals import CoefficientPrior, PoseSpacePrior, Reprojection, Upright
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.rotations import exp_so3
from vitruvian.priors.hand_set import GaussianRotations
from vitruvian.priors.pose_spaces import HandPCA, PlainRotations, PoseSpace

NUM_VERTICES = 120
NUM_SHAPE, NUM_EXPRESSION = 5, 4
BODY_JOINTS = tuple(range(23))
LEFT_HAND, RIGHT_HAND = tuple(range(25, 40)), tuple(range(40, 55))
POINT_JOINTS = (0, 1, 2, 4, 5, 7, 8, 12, 15, 16, 17, 18, 19, 20, 21, 27, 34, 39, 42, 54)
NUM_FREE_VERTICES, NUM_COMBINATIONS = 10, 6


class Draw:
    """Random tensors of one dtype from one generator."""

    def __init__(self, seed: int, dtype: torch.dtype) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype = dtype

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*shape, generator=self.generator, dtype=torch.float64).to(self.dtype)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, dtype=torch.float64).to(self.dtype)

    def indices(self, high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=self.generator)


def random_body(dtype: torch.dtype = torch.float64, *, correctives: bool = False, seed: int = 0) -> BodyModel:
    """A body whose vertices hang on three random bones each; it has more coefficients than the problems move."""
    draw = Draw(seed, dtype)
    joints = len(SMPLX)
    weights = torch.zeros(NUM_VERTICES, joints, dtype=dtype)
    weights.scatter_(1, draw.indices(joints, NUM_VERTICES, 3), draw.uniform(NUM_VERTICES, 3) + 0.1)
    regressor = draw.uniform(joints, NUM_VERTICES)
    return BodyModel(
        family="open",
        gender="neutral",
        skeleton=SMPLX,
        template=draw.normal(NUM_VERTICES, 3, scale=0.3),
        shape_dirs=draw.normal(NUM_VERTICES, 3, NUM_SHAPE + 2, scale=0.02),
        expression_dirs=draw.normal(NUM_VERTICES, 3, NUM_EXPRESSION + 1, scale=0.01),
        correctives=(
            PoseCorrectives.from_dense(draw.normal(NUM_VERTICES, 3, 9 * (joints - 1), scale=1e-3))
            if correctives
            else None
        ),
        joint_template=draw.normal(joints, 3, scale=0.1),
        joint_shape_dirs=draw.normal(joints, 3, NUM_SHAPE + 2, scale=0.01),
        joint_expression_dirs=draw.normal(joints, 3, NUM_EXPRESSION + 1, scale=0.002),
        joint_regressor=regressor / regressor.sum(1, keepdim=True),
        skinning_weights=weights / weights.sum(1, keepdim=True),
        faces=draw.indices(NUM_VERTICES, 20, 3),
    )


def point_weights(body: BodyModel) -> tuple[Tensor, Tensor]:
    """Vertex and joint weights of points that are joints, vertices, and combinations of two vertices and a joint."""
    first_vertex = len(POINT_JOINTS)
    first_mix = first_vertex + NUM_FREE_VERTICES
    num_points = first_mix + NUM_COMBINATIONS
    vertices = torch.zeros(num_points, body.num_vertices, dtype=body.dtype)
    joints = torch.zeros(num_points, body.num_joints, dtype=body.dtype)
    joints[range(first_vertex), POINT_JOINTS] = 1
    vertices[range(first_vertex, first_mix), range(0, 7 * NUM_FREE_VERTICES, 7)] = 1
    for k in range(NUM_COMBINATIONS):
        vertices[first_mix + k, [3 * k, 90 - k]] = torch.tensor([0.5, 0.3], dtype=body.dtype)
        joints[first_mix + k, 9 * k] = 0.2
    return vertices, joints


def body_points(body: BodyModel) -> SkinnedPoints:
    return body.regressed_points(*point_weights(body))


def random_hand(draw: Draw, joints: tuple[int, ...], num_components: int = 4) -> HandPCA:
    basis = torch.linalg.qr(draw.normal(45, 45)).Q
    std = 0.2 + 0.3 * draw.uniform(num_components)
    return HandPCA(draw.normal(45, scale=0.1), basis[:num_components], std, joints)


def gaussian(joints: tuple[int, ...], draw: Draw) -> GaussianRotations:
    """A prior on rotations with random mean and spread."""
    count = len(joints)
    return GaussianRotations(joints, exp_so3(draw.normal(count, 3, scale=0.2)), 0.3 + draw.uniform(count, 3))


def all_spaces(dtype: torch.dtype, *, seed: int = 1) -> list[PoseSpace]:
    """Free body joints with a prior on all but the root, and both hands by components; the eyes rest."""
    draw = Draw(seed, dtype)
    body = PlainRotations(BODY_JOINTS, prior=gaussian((*range(1, 15), 22, *range(15, 22)), draw))
    return [body, random_hand(draw, LEFT_HAND), random_hand(draw, RIGHT_HAND)]


def body_spaces(dtype: torch.dtype, *, seed: int = 1) -> list[PoseSpace]:
    """Free body joints with a prior on all but the root; the rest rests."""
    return all_spaces(dtype, seed=seed)[:1]


def random_state(spaces: list[PoseSpace], batch: int, draw: Draw, *, num_shape: int, num_expression: int) -> FitState:
    poses = tuple(
        exp_so3(draw.normal(batch, len(space.joints), 3, scale=0.4))
        if isinstance(space, PlainRotations)
        else draw.normal(batch, space.num_parameters)
        for space in spaces
    )
    away = torch.tensor([0.0, 0.0, 5.0], dtype=draw.dtype)
    return FitState(
        poses,
        draw.normal(batch, num_shape),
        draw.normal(batch, num_expression),
        away + draw.normal(batch, 3, scale=0.1),
    )


@dataclass(frozen=True, eq=False)
class BodyCase:
    """A problem, the state that made its observations, and a start some way off."""

    problem: BodyProblem
    kinematics: PointKinematics
    reprojection: Reprojection
    truth: FitState
    start: FitState

    def with_terms(self, *terms: Term) -> BodyProblem:
        problem = self.problem
        return BodyProblem(
            problem.body,
            problem.spaces,
            terms,
            num_shape=problem.num_shape,
            num_expression=problem.num_expression,
            fixed_rotations=problem.fixed_rotations,
        )

    def with_positions(self, positions: Tensor) -> BodyProblem:
        """The same problem with other observations."""
        changed = replace(self.reprojection, positions=positions)
        return self.with_terms(*(changed if term is self.reprojection else term for term in self.problem.terms))


def body_case(
    batch: int = 3,
    *,
    dtype: torch.dtype = torch.float64,
    spaces: list[PoseSpace] | None = None,
    correctives: bool = False,
    fixed: bool = False,
    extra_coefficients: int = 0,
    offset: float = 0.1,
    noise_px: float = 2.0,
    seed: int = 2,
) -> BodyCase:
    """People in random poses whose keypoints were seen with some noise; a fifth of them are missing.

    Args:
        fixed: joints in no space have random rotations of their own per person, instead of none.
        extra_coefficients: how many coefficients more than the problem moves the state has.
        offset: scale of the step from the truth to the start.
        noise_px: standard deviation of the error of the keypoints.
    """
    draw = Draw(seed, dtype)
    body = random_body(dtype, correctives=correctives)
    spaces = all_spaces(dtype) if spaces is None else spaces
    points = body_points(body)
    state = random_state(
        spaces,
        batch,
        draw,
        num_shape=NUM_SHAPE + extra_coefficients,
        num_expression=NUM_EXPRESSION + min(extra_coefficients, 1),
    )
    kinematics = PointKinematics.build(
        body,
        points,
        moving_joints=tuple(joint for space in spaces for joint in space.joints),
        num_shape=NUM_SHAPE,
        num_expression=NUM_EXPRESSION,
    )
    rotations = exp_so3(draw.normal(batch, body.num_joints, 3, scale=0.3)) if fixed else None
    bare = BodyProblem(body, spaces, [], num_shape=NUM_SHAPE, num_expression=NUM_EXPRESSION, fixed_rotations=rotations)
    posed = bare.evaluate(state, with_jacobian=False)
    features = posed.pose_features if correctives else None
    seen = points.place(posed.world_rotations, posed.joints, state.betas, state.expression, features)
    camera = Camera.from_image_size(1000, 800, focal_px=1000, dtype=dtype).map(lambda x: x.repeat(batch, 1))
    weights = draw.uniform(batch, points.num_points)
    reprojection = Reprojection(
        kinematics,
        camera.project(seen) + draw.normal(batch, points.num_points, 2, scale=noise_px),
        torch.where(weights < 0.2, 0.0, weights),
        3 + draw.uniform(batch),
        camera,
        robust_scale=10.0,
    )
    terms: list[Term] = [reprojection, CoefficientPrior("betas", 1.3), CoefficientPrior("expression", 0.8)]
    terms += [PoseSpacePrior(column, 0.9 + 0.1 * column) for column in range(len(spaces))]
    if 0 in bare.moving_joints:
        terms.append(Upright(torch.tensor([0.0, -1.0, 0.0], dtype=dtype), 0.5 + draw.uniform(batch)))
    problem = BodyProblem(
        body, spaces, terms, num_shape=NUM_SHAPE, num_expression=NUM_EXPRESSION, fixed_rotations=rotations
    )
    start = problem.retract(state, draw.normal(batch, problem.size, scale=offset))
    return BodyCase(problem, kinematics, reprojection, state, start)
