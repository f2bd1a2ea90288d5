"""The law that solvers rest on: autograd of the objective is the closed-form gradient, in all spaces, term by term."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import TypeVar

import pytest
import torch

from tests.fitting.body_problems import LEFT_HAND, RIGHT_HAND, BodyCase, Draw, body_case, gaussian, random_hand
from vitruvian.bodies.open_body import open_body
from vitruvian.bodies.skeletons import SMPLX
from vitruvian.fitting.problem import Term
from vitruvian.fitting.residuals import CoefficientPrior, PosePrior, PoseSpacePrior, Scaled, Upright
from vitruvian.flows import FlowConfig, Glow
from vitruvian.geometry.rotations import exp_so3, orthonormalized
from vitruvian.priors.bending import BendingPrior
from vitruvian.priors.joint_limits import JointLimits
from vitruvian.priors.mixture import MixturePrior
from vitruvian.priors.pose_spaces import PlainRotations, PoseSpace
from vitruvian.priors.vposer import VPoser, VPoserSettings
from vitruvian.priors.vposer_space import VPoserSpace
from vitruvian.recovery.flow_spaces import FlowHandSpace, FlowPoseSpace

BATCH = 3
Learnt = TypeVar("Learnt", MixturePrior, JointLimits)


def random_flow(num_features: int, draw: Draw) -> Glow:
    """A small flow whose every weight is random, so that context and couplings all count."""
    flow = Glow(
        FlowConfig(num_features=num_features, context_features=4, num_layers=2, hidden=16, num_blocks=1, scale_hidden=8)
    ).double()
    for parameter in flow.parameters():
        parameter.data = draw.normal(*parameter.shape, scale=0.08)
    return flow.eval().requires_grad_(False)


def plain(draw: Draw) -> list[PoseSpace]:
    joints = tuple(range(23))
    return [PlainRotations(joints, prior=gaussian((*range(1, 15), 22, *range(15, 22)), draw))]


def hand_components(draw: Draw) -> list[PoseSpace]:
    return [*plain(draw), random_hand(draw, LEFT_HAND), random_hand(draw, RIGHT_HAND)]


def vposer(draw: Draw) -> list[PoseSpace]:
    network = VPoser(VPoserSettings(latent=8, hidden=16, decoder_hidden=16)).double()
    for parameter in network.parameters():
        parameter.data = draw.normal(*parameter.shape, scale=0.3)
    return [PlainRotations((0,)), VPoserSpace(network)]


def flows(draw: Draw) -> list[PoseSpace]:
    body = random_flow(66, draw)(draw.normal(BATCH, 4))
    hands = [random_flow(6, draw)(draw.normal(BATCH, 4)) for _ in range(2)]
    base, camera = exp_so3(draw.normal(BATCH, 22, 3, scale=0.3)), exp_so3(draw.normal(BATCH, 3, scale=0.3))
    return [
        FlowPoseSpace(body, base, camera, 0.5 + draw.uniform(BATCH)),
        FlowHandSpace(hands[0], random_hand(draw, LEFT_HAND, 6)),
        FlowHandSpace(hands[1], random_hand(draw, RIGHT_HAND, 6)),
    ]


SPACES: dict[str, Callable[[Draw], list[PoseSpace]]] = {
    "plain": plain,
    "hand components": hand_components,
    "vposer": vposer,
    "flows": flows,
}


def exact(prior: Learnt) -> Learnt:
    """A learnt prior in float64 whose reference, stored in float32, is a rotation to all digits."""
    prior = prior.to(dtype=torch.float64)
    return replace(prior, reference=orthonormalized(orthonormalized(prior.reference)))


def upright(case: BodyCase) -> Term:
    return Upright(torch.tensor([0.1, -0.9, 0.2], dtype=torch.float64), torch.tensor([0.5, 2.0, 0.1]).double())


TERMS: dict[str, Callable[[BodyCase], Term]] = {
    "keypoints": lambda case: case.reprojection,
    "first space": lambda case: PoseSpacePrior(0, 1.3),
    "last space": lambda case: PoseSpacePrior(len(case.problem.spaces) - 1, 0.7),
    "mixture": lambda case: PosePrior(exact(MixturePrior.learnt()), 0.6),
    "limits": lambda case: PosePrior(exact(JointLimits.learnt(SMPLX)), 1.1),
    "bending": lambda case: PosePrior(BendingPrior.of(SMPLX), 1.7),
    "shape": lambda case: CoefficientPrior("betas", 1.3),
    "expression": lambda case: CoefficientPrior("expression", 0.6),
    "upright": upright,
    "scaled": lambda case: Scaled(case.reprojection, torch.tensor([0.5, 2.0, 1.0]).double()),
    "scaled shape": lambda case: Scaled(CoefficientPrior("betas", 1.3), torch.tensor([0.5, 2.0, 1.0]).double()),
}


@cache
def case_of(name: str) -> BodyCase:
    return body_case(BATCH, spaces=SPACES[name](Draw(11, torch.float64)), offset=0.1)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("term", TERMS)
def test_autograd_of_the_cost_is_the_gradient_of_the_normal_equations(name: str, term: str) -> None:
    case = case_of(name)
    problem = case.with_terms(TERMS[term](case))
    equations = problem.linearize(case.start)
    step = torch.zeros(BATCH, problem.size, dtype=torch.float64, requires_grad=True)
    cost = problem.cost(problem.retract(case.start, step))
    torch.testing.assert_close(cost.detach(), equations.cost, rtol=1e-12, atol=1e-12)
    if not cost.requires_grad:
        assert term == "first space"
        assert name == "vposer"  # a free root has no prior
        assert not equations.gradient.any()
        return
    (gradient,) = torch.autograd.grad(cost.sum(), step, materialize_grads=True)
    torch.testing.assert_close(equations.gradient, gradient, rtol=1e-7, atol=1e-8)
    if (term, name) != ("first space", "vposer"):
        assert gradient.abs().amax() > 1e-3


@pytest.mark.parametrize("name", SPACES)
def test_a_space_of_chosen_people_is_theirs(name: str) -> None:
    case = case_of(name)
    index = torch.tensor([2, 0, 2])
    for space, state in zip(case.problem.spaces, case.start.poses, strict=True):
        torch.testing.assert_close(space.select(index).decode(state[index]), space.decode(state)[index])
        torch.testing.assert_close(space.select(index).residual(state[index]), space.residual(state)[index])


def test_all_spaces_keep_the_protocol() -> None:
    for name in SPACES:
        assert all(isinstance(space, PoseSpace) for space in case_of(name).problem.spaces)


def test_the_open_body_bends_its_gradient_by_its_correctives_only_a_little() -> None:
    """The derivative of pose correctives is left out of the closed form: a few parts in a thousand."""
    assert open_body().correctives is not None
    case = body_case(BATCH, correctives=True)
    equations = case.problem.linearize(case.start)
    step = torch.zeros(BATCH, case.problem.size, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(case.problem.cost(case.problem.retract(case.start, step)).sum(), step)
    difference = (equations.gradient - gradient).norm() / gradient.norm()
    assert 0 < difference < 0.05
