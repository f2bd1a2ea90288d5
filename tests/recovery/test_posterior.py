"""The posterior record and its pose spaces, with an untrained network: laws hold whatever the weights are."""

import math

import pytest
import torch

from tests.recovery.networks import PEOPLE, people, small_network
from vitruvian.errors import ShapeError
from vitruvian.geometry.rotations import log_so3
from vitruvian.keypoints.canonical import CANONICAL
from vitruvian.keypoints.observations import Keypoints
from vitruvian.priors.pose_spaces import PoseSpace
from vitruvian.recovery.chart import BODY
from vitruvian.recovery.posterior import BodyPosterior, PoseSamples, infer
from vitruvian.recovery.symmetry import mirrored_view
from vitruvian.recovery.views import view_of


@pytest.fixture(scope="module")
def posterior() -> BodyPosterior:
    return infer(small_network(), *people())


def test_mode_has_the_highest_density_and_latent_zero(posterior: BodyPosterior, generator: torch.Generator) -> None:
    mode = posterior.mode()
    samples = posterior.sample(200, generator=generator)
    assert (mode.log_prob > samples.log_prob.amax(0)).all()
    assert mode.rotations.shape == (PEOPLE, 55, 3, 3)
    assert samples.rotations.shape == (200, PEOPLE, 55, 3, 3)


def test_log_prob_of_rotations_is_that_of_their_latent(posterior: BodyPosterior, generator: torch.Generator) -> None:
    latent = 0.1 * torch.randn(4, PEOPLE, 66, generator=generator, dtype=torch.float64)
    hands = torch.zeros(4, PEOPLE, 2, 6, dtype=torch.float64)
    poses = posterior.decode(latent, hands)
    torch.testing.assert_close(posterior.log_prob(poses.rotations), posterior.body.log_prob_of_latent(latent))


def test_samples_say_the_density_of_each_part_and_no_sum(posterior: BodyPosterior, generator: torch.Generator) -> None:
    samples = posterior.sample(50, generator=generator)
    torch.testing.assert_close(samples.log_prob, posterior.log_prob(samples.rotations))
    hands = posterior.hands.from_latent(samples.hand_latent)
    torch.testing.assert_close(samples.log_prob_hands, posterior.log_prob_of_hands(hands))
    z = (samples.betas - posterior.betas) / posterior.network.shape_std
    gaussian = -0.5 * (z.square() + math.log(2 * math.pi)) - posterior.network.shape_std.log()
    torch.testing.assert_close(samples.log_prob_shape, gaussian.sum(-1))
    mode = posterior.mode()
    assert (mode.log_prob_hands > samples.log_prob_hands.amax(0)).all()
    assert (mode.log_prob_shape > samples.log_prob_shape.amax(0)).all()


def test_turns_beyond_half_a_turn_count_as_the_shorter_ones(posterior: BodyPosterior) -> None:
    """Both latents make one pose, so one density is said of it, whichever was drawn."""
    base = torch.zeros(PEOPLE, 22, 3, dtype=torch.float64)
    base[:, 0, 0], base[:, 3, 1] = 0.1, 0.2
    long = base.clone()
    long[:, 7, 2] = math.pi + 0.4
    short = base.clone()
    short[:, 7, 2] = 0.4 - math.pi
    above = [BODY.parents[joint] for joint in range(1, 22)]

    def poses(turns: torch.Tensor) -> PoseSamples:
        chart = torch.cat((turns[:, :1], turns[:, 1:] - turns[:, above]), dim=1).flatten(1)
        return posterior.decode(posterior.body.to_latent(chart), torch.zeros(PEOPLE, 2, 6, dtype=torch.float64))

    torch.testing.assert_close(poses(long).rotations, poses(short).rotations)
    assert not torch.allclose(poses(long).latent, poses(short).latent)
    torch.testing.assert_close(poses(long).log_prob, poses(short).log_prob)
    torch.testing.assert_close(poses(short).log_prob, posterior.body.log_prob_of_latent(poses(short).latent))


def test_rotations_of_a_posterior_are_rotations(posterior: BodyPosterior, generator: torch.Generator) -> None:
    R = posterior.sample(5, generator=generator).rotations
    torch.testing.assert_close(R @ R.transpose(-1, -2), torch.eye(3, dtype=torch.float64).expand_as(R))
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(R.shape[:-2], dtype=torch.float64))


@pytest.mark.parametrize("name", ["body", "left", "right"])
def test_pose_spaces_keep_the_contract_of_the_solver(
    posterior: BodyPosterior, name: str, generator: torch.Generator
) -> None:
    space = posterior.pose_space() if name == "body" else posterior.hand_pose_space(name)
    assert isinstance(space, PoseSpace)
    D = space.num_parameters
    # Small, so that no bone turns by more than 180° and comes back the other way.
    state = 0.1 * torch.randn(PEOPLE, D, generator=generator, dtype=torch.float64)
    evaluation = space.evaluate(state)
    assert evaluation.differential is not None
    R = evaluation.rotations
    torch.testing.assert_close(space.decode(state), R)
    torch.testing.assert_close(space.encode(R), state, atol=1e-7, rtol=1e-6)
    for column in range(0, D, 5):
        step = torch.zeros(PEOPLE, D, dtype=torch.float64)
        step[:, column] = 1e-6
        ahead, behind = space.decode(space.retract(state, step)), space.decode(space.retract(state, -step))
        numeric = (log_so3(R.transpose(-1, -2) @ ahead) - log_so3(R.transpose(-1, -2) @ behind)) / 2e-6
        torch.testing.assert_close(evaluation.differential[..., column], numeric.flatten(1), atol=1e-6, rtol=1e-5)
    J = space.residual_jacobian(state)
    step = torch.randn(PEOPLE, D, generator=generator, dtype=torch.float64)
    predicted = space.residual(state) + (J @ step[..., None])[..., 0]
    torch.testing.assert_close(space.residual(space.retract(state, step)), predicted)


def test_initial_state_is_the_mode(posterior: BodyPosterior) -> None:
    space = posterior.pose_space()
    state = space.initial(PEOPLE, dtype=torch.float64, device=torch.device("cpu"))
    torch.testing.assert_close(space.decode(state), posterior.mode().rotations[:, :22])


def test_selected_people_keep_their_own_context(posterior: BodyPosterior, generator: torch.Generator) -> None:
    index = torch.tensor([2, 0, 2])
    state = torch.randn(3, 66, generator=generator, dtype=torch.float64)
    whole = posterior.pose_space()
    chosen = whole.select(index)
    alone = torch.cat([whole.select(index[k : k + 1]).decode(state[k : k + 1]) for k in range(3)])
    torch.testing.assert_close(chosen.decode(state), alone)


def test_each_person_stands_alone() -> None:
    network = small_network()
    keypoints, camera = people()
    together = infer(network, keypoints, camera).mode()
    alone = infer(network, keypoints[1:2], camera[1:2]).mode()
    torch.testing.assert_close(together.rotations[1:2], alone.rotations)
    torch.testing.assert_close(together.pelvis[1:2], alone.pelvis)
    positions = keypoints.positions.clone()
    positions[0] = torch.nan
    spoilt = infer(network, Keypoints(positions, keypoints.confidence, CANONICAL), camera).mode()
    torch.testing.assert_close(spoilt.rotations[1:], together.rotations[1:])
    assert spoilt.rotations.isfinite().all()


def test_mirrored_hands_share_their_flow() -> None:
    network = small_network()
    for linear in network.hand_encoder.from_body:
        torch.nn.init.zeros_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    keypoints, camera = people(1)

    view = view_of(keypoints, camera)
    mirrored = mirrored_view(view)
    world = infer(network, keypoints, camera).base_world

    signs = torch.tensor([[1.0, -1.0, -1.0], [-1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]], dtype=torch.float64)
    mirrored_world = world.clone()
    for a, b in (("left_wrist", "right_wrist"), ("right_wrist", "left_wrist")):
        mirrored_world[:, BODY.index(a)] = world[:, BODY.index(b)] * signs
    context = torch.zeros(1, 16, dtype=torch.float64)
    plain = network.hand_encoder(view, world, context)
    other = network.hand_encoder(mirrored, mirrored_world, context)
    torch.testing.assert_close(other, plain.flip(1))


def test_rotations_of_other_people_are_refused(posterior: BodyPosterior) -> None:
    with pytest.raises(ShapeError):
        posterior.log_prob(torch.eye(3, dtype=torch.float64).expand(PEOPLE + 1, 22, 3, 3))
