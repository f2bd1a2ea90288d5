"""Laws of pose spaces and of priors on rotations: differentials against autograd, encoding, batches."""

import pytest
import torch
from torch import Tensor

from vitruvian.bodies.skeletons import SMPLH, SMPLX
from vitruvian.errors import InputError
from vitruvian.geometry.rotations import exp_so3, geodesic_angle, log_so3
from vitruvian.priors.bending import BendingPrior
from vitruvian.priors.joint_limits import JointLimits
from vitruvian.priors.mixture import MixturePrior
from vitruvian.priors.pose_spaces import HandPCA, PlainRotations, PoseSpace, RotationPrior
from vitruvian.priors.vposer import VPoser, VPoserSettings
from vitruvian.priors.vposer_space import VPoserSpace

BODY = tuple(range(1, 22))


def random_mixture(generator: torch.Generator) -> MixturePrior:
    roots = 0.2 * torch.randn(3, 63, 63, generator=generator, dtype=torch.float64).tril()
    roots.diagonal(dim1=-2, dim2=-1).abs_().add_(0.5)
    reference = exp_so3(torch.randn(21, 3, generator=generator, dtype=torch.float64))
    means = 0.3 * torch.randn(3, 63, generator=generator, dtype=torch.float64)
    return MixturePrior(reference, torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), means, roots)


def random_vposer(generator: torch.Generator) -> VPoser:
    network = VPoser(VPoserSettings(latent=6, hidden=40, decoder_hidden=30))
    for parameter in network.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return network.double()


@pytest.fixture(params=["plain", "plain with prior", "left hand", "right hand", "vposer"])
def space(request: pytest.FixtureRequest, generator: torch.Generator) -> PoseSpace:
    match request.param:
        case "plain":
            return PlainRotations((0, 3, 7))
        case "plain with prior":
            return PlainRotations((0, *BODY, 22), prior=random_mixture(generator))
        case "left hand":
            return HandPCA.learnt("left", num_components=12)
        case "right hand":
            return HandPCA.learnt("right", num_components=45)
        case _:
            return VPoserSpace(random_vposer(generator))


def random_state(space: PoseSpace, batch: int, generator: torch.Generator) -> Tensor:
    start = space.initial(batch, dtype=torch.float64, device=torch.device("cpu"))
    step = 0.5 * torch.randn(batch, space.num_parameters, generator=generator, dtype=torch.float64)
    return space.retract(start, step)


def test_protocol_is_met(space: PoseSpace) -> None:
    assert isinstance(space, PoseSpace)


def test_differential_is_the_derivative_of_decoding_along_steps(space: PoseSpace, generator: torch.Generator) -> None:
    state = random_state(space, 3, generator)
    base = space.decode(state)

    def turn(step: Tensor) -> Tensor:
        moved = space.decode(space.retract(state, step))
        return log_so3(base.mT @ moved).flatten(1).sum(0)  # items do not mix, so the sum separates them

    zero = torch.zeros(3, space.num_parameters, dtype=torch.float64)
    expected = torch.autograd.functional.jacobian(turn, zero).permute(1, 0, 2)
    found = space.differential(state)
    if found is None:
        found = torch.eye(space.num_parameters, dtype=torch.float64).expand(3, -1, -1)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_evaluate_is_decode_and_differential(space: PoseSpace, generator: torch.Generator) -> None:
    state = random_state(space, 3, generator)
    both, alone = space.evaluate(state), space.evaluate(state, with_jacobian=False)
    torch.testing.assert_close(both.rotations, space.decode(state))
    torch.testing.assert_close(alone.rotations, both.rotations)
    assert alone.differential is None
    differential = space.differential(state)
    assert (both.differential is None) == (differential is None)
    if differential is not None:
        torch.testing.assert_close(both.differential, differential)


def test_residual_jacobian_is_the_derivative_along_steps(space: PoseSpace, generator: torch.Generator) -> None:
    state = random_state(space, 3, generator)
    zero = torch.zeros(3, space.num_parameters, dtype=torch.float64)
    if space.residual(state).shape[1] == 0:
        assert space.residual_jacobian(state).shape == (3, 0, space.num_parameters)
        return
    expected = torch.autograd.functional.jacobian(lambda d: space.residual(space.retract(state, d)).sum(0), zero)
    found = space.residual_jacobian(state)
    assert found.shape == (3, space.residual(state).shape[1], space.num_parameters)
    torch.testing.assert_close(found, expected.permute(1, 0, 2), rtol=1e-6, atol=1e-7)


def test_decoded_matrices_are_rotations(space: PoseSpace, generator: torch.Generator) -> None:
    rotations = space.decode(random_state(space, 4, generator))
    assert rotations.shape == (4, len(space.joints), 3, 3)
    identity = torch.eye(3, dtype=torch.float64).expand_as(rotations)
    torch.testing.assert_close(rotations.mT @ rotations, identity, rtol=0, atol=1e-9)
    assert (torch.linalg.det(rotations) > 0).all()


def test_items_are_independent_and_a_nan_item_spoils_no_other(space: PoseSpace, generator: torch.Generator) -> None:
    state = random_state(space, 4, generator)
    alone = space.evaluate(state[2:3])
    spoilt = state.clone()
    spoilt[1] = torch.nan
    together = space.evaluate(spoilt)
    torch.testing.assert_close(together.rotations[2:3], alone.rotations)
    torch.testing.assert_close(space.residual(spoilt)[2:3], space.residual(state[2:3]))
    torch.testing.assert_close(space.residual_jacobian(spoilt)[2:3], space.residual_jacobian(state[2:3]))
    if alone.differential is not None:
        torch.testing.assert_close(together.differential[2:3], alone.differential)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_follows_the_state(space: PoseSpace, dtype: torch.dtype) -> None:
    state = space.initial(2, dtype=dtype, device=torch.device("cpu"))
    evaluation = space.evaluate(state)
    assert evaluation.rotations.dtype == dtype
    assert space.residual(state).dtype == dtype
    assert space.residual_jacobian(state).dtype == dtype


def test_zero_step_changes_nothing(space: PoseSpace, generator: torch.Generator) -> None:
    state = random_state(space, 2, generator)
    still = space.retract(state, torch.zeros(2, space.num_parameters, dtype=torch.float64))
    torch.testing.assert_close(still, state, rtol=0, atol=1e-12)


def test_encoding_what_a_space_can_express_returns_it(generator: torch.Generator) -> None:
    for space in (PlainRotations((1, 2)), HandPCA.learnt("left", num_components=9)):
        state = random_state(space, 3, generator)
        torch.testing.assert_close(space.encode(space.decode(state)), state, rtol=0, atol=1e-6)


def test_hand_encoding_is_the_nearest_state(generator: torch.Generator) -> None:
    space = HandPCA.learnt("right", num_components=6)
    pose = 0.3 * torch.randn(1, 45, generator=generator, dtype=torch.float64)
    state = space.encode(exp_so3(pose.unflatten(-1, (15, 3))))

    def distance(z: Tensor) -> Tensor:
        return (log_so3(space.decode(z)).flatten(1) - pose).norm()

    for _ in range(20):
        other = state + 0.1 * torch.randn(state.shape, generator=generator, dtype=torch.float64)
        assert distance(state) < distance(other)


def test_plain_rotations_stay_rotations_over_many_float32_steps(generator: torch.Generator) -> None:
    space = PlainRotations((1,))
    state = space.initial(8, dtype=torch.float32, device=torch.device("cpu"))
    for _ in range(500):
        state = space.retract(state, torch.randn(8, 3, generator=generator))
    torch.testing.assert_close(state.mT @ state, torch.eye(3).expand_as(state), rtol=0, atol=3e-5)


def test_left_and_right_hand_are_mirror_images() -> None:
    left, right = HandPCA.learnt("left"), HandPCA.learnt("right")
    state = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(2, 12)
    flip = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    mirrored = flip[:, None] * left.decode(state) * flip
    torch.testing.assert_close(right.decode(state), mirrored, rtol=0, atol=1e-6)
    # Fingers of the left hand close about −z in the rest frame, so the mean, half-closed hand has negative z there.
    assert log_so3(left.decode(0 * state))[0, 0, 2] < -0.1


def test_hand_rows_follow_the_skeleton() -> None:
    assert HandPCA.learnt("right").joints == tuple(range(40, 55))
    assert HandPCA.learnt("right", skeleton=SMPLH).joints == tuple(range(37, 52))


def test_impossible_options_are_refused(generator: torch.Generator) -> None:
    with pytest.raises(InputError, match="components"):
        HandPCA.learnt("left", num_components=46)
    with pytest.raises(InputError, match="side"):
        HandPCA.learnt("middle")
    with pytest.raises(InputError, match="outside"):
        PlainRotations((1, 2), prior=random_mixture(generator))


@pytest.fixture(params=["mixture", "learnt mixture", "limits", "bending"])
def prior(request: pytest.FixtureRequest, generator: torch.Generator) -> RotationPrior:
    match request.param:
        case "mixture":
            return random_mixture(generator)
        case "learnt mixture":
            return MixturePrior.learnt().to(dtype=torch.float64)
        case "limits":
            return JointLimits.learnt(SMPLX)
        case _:
            return BendingPrior.of(SMPLX)


def random_rotations(prior: RotationPrior, batch: int, generator: torch.Generator) -> Tensor:
    return exp_so3(0.8 * torch.randn(batch, len(prior.joints), 3, generator=generator, dtype=torch.float64))


def test_prior_jacobian_is_the_derivative_by_right_perturbations(
    prior: RotationPrior, generator: torch.Generator
) -> None:
    rotations = random_rotations(prior, 3, generator)

    def residual(step: Tensor) -> Tensor:
        return prior.residual(rotations @ exp_so3(step.unflatten(-1, (-1, 3)))).sum(0)

    zero = torch.zeros(3, 3 * len(prior.joints), dtype=torch.float64)
    expected = torch.autograd.functional.jacobian(residual, zero).permute(1, 0, 2)
    assert expected.abs().max() > 0.1
    # Reference rotations come from files in single precision, and are orthonormal to that only.
    torch.testing.assert_close(prior.jacobian(rotations), expected, rtol=1e-4, atol=1e-4)


def test_prior_items_are_independent(prior: RotationPrior, generator: torch.Generator) -> None:
    rotations = random_rotations(prior, 4, generator)
    spoilt = rotations.clone()
    spoilt[0] = torch.nan
    torch.testing.assert_close(prior.residual(spoilt)[2:3], prior.residual(rotations[2:3]))
    torch.testing.assert_close(prior.jacobian(spoilt)[2:3], prior.jacobian(rotations[2:3]))


def test_mixture_residual_is_the_energy_of_the_best_component(generator: torch.Generator) -> None:
    mixture = random_mixture(generator)
    rotations = random_rotations(mixture, 50, generator)
    energy = -mixture.log_densities(mixture.coordinates(rotations)).amax(dim=-1)
    half = 0.5 * mixture.residual(rotations).square().sum(-1)
    torch.testing.assert_close(half - half[0], energy - energy[0], rtol=1e-9, atol=1e-9)


def test_mixture_density_is_that_of_torch(generator: torch.Generator) -> None:
    mixture = random_mixture(generator)
    x = torch.randn(20, 63, generator=generator, dtype=torch.float64)
    precision = mixture.precision_roots @ mixture.precision_roots.mT
    torch_mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(mixture.weights),
        torch.distributions.MultivariateNormal(mixture.means, precision_matrix=precision),
    )
    torch.testing.assert_close(mixture.log_densities(x).logsumexp(-1), torch_mixture.log_prob(x))


def test_mixture_samples_have_its_mean_and_spread(generator: torch.Generator) -> None:
    mixture = random_mixture(generator)
    x = mixture.coordinates(mixture.sample(20_000, generator=generator))
    single = MixturePrior(
        mixture.reference, torch.ones(1).double(), mixture.means[:1], 4 * torch.eye(63)[None].double()
    )
    x = single.coordinates(single.sample(20_000, generator=generator))
    torch.testing.assert_close(x.mean(0), single.means[0], rtol=0, atol=0.01)
    torch.testing.assert_close(x.std(0), torch.full((63,), 0.25, dtype=torch.float64), rtol=0.05, atol=0)


def test_limits_are_silent_inside_and_grow_outside() -> None:
    limits = JointLimits.learnt(SMPLX)
    middle = 0.5 * (limits.lower + limits.upper)
    inside = limits.reference @ exp_so3(middle)
    assert float(limits.residual(inside[None]).abs().max()) < 1e-3
    knee = limits.joints.index(SMPLX.index("left_knee"))
    bent = torch.eye(3, dtype=torch.float64).repeat(3, len(limits.joints), 1, 1)
    angles = torch.tensor([-0.2, -0.6, -1.0], dtype=torch.float64)
    bent[:, knee] = exp_so3(torch.stack((angles, 0 * angles, 0 * angles), dim=-1))
    excess = limits.excess(bent)[:, knee, 0]
    assert (excess[1:] < excess[:-1]).all()
    assert (excess < 0).all()


def test_limits_of_both_sides_mirror_each_other(generator: torch.Generator) -> None:
    limits = JointLimits.learnt(SMPLX)
    rotations = random_rotations(limits, 5, generator)
    names = [SMPLX.names[j] for j in limits.joints]
    swap = [names.index(n.replace("left", "#").replace("right", "left").replace("#", "right")) for n in names]
    flip = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    mirrored = (flip[:, None] * rotations * flip)[:, swap]
    # Rotation axes reflect in the plane x = 0: the sign of the turns about y and z changes.
    signs = torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    torch.testing.assert_close(limits.excess(mirrored), signs * limits.excess(rotations)[:, swap], rtol=0, atol=1e-5)


def test_bending_prior_punishes_the_wrong_way_only() -> None:
    prior = BendingPrior.of(SMPLX)
    names = [SMPLX.names[j] for j in prior.joints]
    right_way = {
        "left_knee": (1.0, 0, 0),
        "right_knee": (1.0, 0, 0),
        "left_elbow": (0, -1.0, 0),
        "right_elbow": (0, 1.0, 0),
    }
    axes = torch.tensor([right_way[name] for name in names], dtype=torch.float64)
    energy = [0.5 * prior.residual(exp_so3(angle * axes)[None]).square().sum(-1) for angle in (-1.0, 0.0, 1.0)]
    assert energy[0] > 2.5 * energy[1] > 6 * energy[2]
    torch.testing.assert_close(energy[1], torch.tensor([4.0], dtype=torch.float64))


def test_nearest_rotation_of_a_mixture_pose_round_trips(generator: torch.Generator) -> None:
    mixture = random_mixture(generator)
    rotations = random_rotations(mixture, 6, generator)
    back = mixture.pose(mixture.coordinates(rotations))
    assert float(geodesic_angle(back, rotations).max()) < 1e-6
