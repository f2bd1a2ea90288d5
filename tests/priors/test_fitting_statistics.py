"""Statistics recover the distributions they are fitted to: hands, mean rotations, mixtures."""

import torch

from vitruvian.geometry.rotations import exp_so3, geodesic_angle
from vitruvian.priors.hand_statistics import fit_hand_statistics, mirror_hand_statistics, read_hand_statistics
from vitruvian.priors.mixture import MixturePrior, fit_mixture, mean_rotations


def test_hand_statistics_recover_a_gaussian(generator: torch.Generator) -> None:
    basis, _ = torch.linalg.qr(torch.randn(45, 45, generator=generator, dtype=torch.float64))
    std = torch.cat((torch.tensor([1.0, 0.5, 0.25]), torch.full((42,), 0.01))).double()
    mean = 0.3 * torch.randn(45, generator=generator, dtype=torch.float64)
    poses = mean + (torch.randn(40_000, 45, generator=generator, dtype=torch.float64) * std) @ basis
    weights = torch.ones(40_000, dtype=torch.float64)
    found = fit_hand_statistics(poses, weights, widen=1.0, floor_rad=0.0)
    torch.testing.assert_close(found.mean, mean, rtol=0, atol=0.03)
    torch.testing.assert_close(found.std[:3], std[:3], rtol=0.02, atol=0)
    torch.testing.assert_close((found.components[:3] @ basis[:3].T).abs(), torch.eye(3).double(), rtol=0, atol=0.05)
    torch.testing.assert_close(found.components @ found.components.T, torch.eye(45).double(), rtol=0, atol=1e-9)
    wider = fit_hand_statistics(poses, weights, widen=2.0, floor_rad=0.1)
    torch.testing.assert_close(wider.std, ((2 * found.std) ** 2 + 0.01).sqrt())


def test_hand_weights_count_as_repetitions(generator: torch.Generator) -> None:
    poses = torch.randn(30, 45, generator=generator, dtype=torch.float64)
    weights = torch.randint(1, 4, (30,), generator=generator)
    weighted = fit_hand_statistics(poses, weights.double())
    repeated = fit_hand_statistics(poses.repeat_interleave(weights, 0), torch.ones(int(weights.sum())).double())
    torch.testing.assert_close(weighted.mean, repeated.mean)
    torch.testing.assert_close(weighted.std, repeated.std)


def test_the_packaged_hands_are_mirror_images() -> None:
    left, right = read_hand_statistics("left"), read_hand_statistics("right")
    mirrored = mirror_hand_statistics(left)
    torch.testing.assert_close(mirrored.mean, right.mean)
    torch.testing.assert_close(mirrored.components, right.components)
    assert (left.std[1:] <= left.std[:-1]).all()


def test_mean_rotation_is_the_centre_of_a_symmetric_set(generator: torch.Generator) -> None:
    centre = exp_so3(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    steps = 0.5 * torch.randn(50, 3, 3, generator=generator, dtype=torch.float64)
    rotations = centre @ exp_so3(torch.cat((steps, -steps)))
    found = mean_rotations(rotations, torch.ones(100, dtype=torch.float64))
    assert float(geodesic_angle(found, centre).max()) < 1e-6


def test_em_recovers_a_mixture_and_never_loses_likelihood(generator: torch.Generator) -> None:
    # Two clusters of poses of two joints, 40% and 60%, far apart.
    means = torch.tensor([[0.8, 0, 0, 0, 0.5, 0], [-0.6, 0.2, 0, 0.3, -0.5, 0.2]], dtype=torch.float64)
    roots = 8.0 * torch.eye(6, dtype=torch.float64).repeat(2, 1, 1)
    roots[1, 1, 0] = 3.0
    reference = exp_so3(torch.randn(2, 3, generator=generator, dtype=torch.float64))
    truth = MixturePrior(reference, torch.tensor([0.4, 0.6]).double(), means, roots, (0, 1))
    poses = truth.sample(6000, generator=generator)
    ones = torch.ones(6000, dtype=torch.float64)
    fit = fit_mixture(poses, ones, num_components=2, floor_rad=0.0, rounds=25, generator=generator)
    gains = torch.tensor(fit.log_likelihoods).diff()
    assert float(gains.min()) > -1e-9
    order = fit.prior.weights.argsort()
    torch.testing.assert_close(fit.prior.weights[order], truth.weights, rtol=0, atol=0.03)
    fitted = fit.prior.pose(fit.prior.means[order])
    assert float(geodesic_angle(fitted, truth.pose(means)).max()) < 0.03
    # The density differs from the true one only by the change of reference.
    gap = fit.prior.log_prob(poses) - truth.log_prob(poses)
    assert float(gap.std()) < 0.3
    single = fit_mixture(poses, ones, num_components=1, floor_rad=0.0, rounds=1, generator=generator)
    assert float(single.prior.log_prob(poses).mean()) < float(fit.prior.log_prob(poses).mean()) - 0.5


def test_a_floor_keeps_stiff_joints_finite(generator: torch.Generator) -> None:
    poses = exp_so3(torch.zeros(50, 2, 3, dtype=torch.float64))
    poses[:, 0] = exp_so3(0.2 * torch.randn(50, 3, generator=generator, dtype=torch.float64))
    ones = torch.ones(50, dtype=torch.float64)
    prior = fit_mixture(poses, ones, num_components=1, floor_rad=0.05, rounds=1, generator=generator).prior
    spread = prior.precision_roots[0].diagonal().reciprocal()
    assert torch.isfinite(prior.log_prob(poses)).all()
    torch.testing.assert_close(spread[3:], torch.full((3,), 0.05, dtype=torch.float64))
