"""The distribution given keypoints and cues: Bayes' law holds, and truth from the model is found as often as said."""

import math

import pytest
import torch
from torch import Tensor

from tests.fitting.seen_people import seen_people
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.open_body import open_body
from vitruvian.errors import InputError
from vitruvian.estimation.picture_posterior import PicturePosterior, given_cues
from vitruvian.fitting.directions import ROBUST_SCALE, bone_vectors, expected_errors
from vitruvian.fitting.residuals import geman_mcclure
from vitruvian.keypoints.depth_cues import DepthCues
from vitruvian.recovery.posterior import BodyPosterior, infer
from vitruvian.recovery.weights import pose_network

PEOPLE = 3
"""The last of them has no cues."""


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return open_body(num_shape=10, num_expression=10)


@pytest.fixture(scope="module")
def posterior(body: BodyModel) -> BodyPosterior:
    people = seen_people(body, PEOPLE, noise_px=3.0)
    return infer(pose_network(), people.keypoints, people.camera)


def bones_of(body: BodyModel, rotations: Tensor) -> Tensor:
    posed = body.with_shape().with_pose(rotations)
    return torch.nn.functional.normalize(posed.points(bone_vectors(body).points), dim=-1)


def cues_from(true: Tensor, generator: torch.Generator) -> DepthCues:
    """What the likelihood would show of directions `(person, bone, 3)`: drawn by weight from all over the sphere."""
    sphere = torch.nn.functional.normalize(torch.randn(4000, *true.shape, generator=generator), dim=-1)
    sigma = torch.tensor(expected_errors())[:, None]
    value, _ = geman_mcclure(((sphere - true) / sigma).square().sum(-1), ROBUST_SCALE)
    chosen = torch.multinomial(torch.softmax(-0.5 * value, 0).flatten(1).T, 1, generator=generator).view(
        true.shape[:-1]
    )
    seen = sphere.gather(0, chosen[None, ..., None].expand(1, *true.shape))[0]
    return DepthCues(seen, torch.ones(true.shape[:-1]))


@pytest.fixture(scope="module")
def given(posterior: BodyPosterior, body: BodyModel) -> PicturePosterior:
    generator = torch.Generator().manual_seed(3)
    true = posterior.sample(1, generator=generator)[0]
    cues = cues_from(bones_of(body, true.rotations), generator)
    cues.confidence[-1] = 0
    return given_cues(posterior, body, cues, generator=generator)


def test_the_mode_has_the_highest_density(given: PicturePosterior, generator: torch.Generator) -> None:
    mode = given.mode()
    samples = given.sample(50, generator=generator)
    assert (mode.log_prob >= samples.log_prob.amax(0)).all()
    steps = 0.1 * torch.randn(20, *given.center.shape, generator=generator)
    near = given.keypoints.decode(given.center + steps, mode.hand_latent.expand(20, -1, -1, -1))
    assert (given.log_prob(near.rotations) <= given.log_prob(mode.rotations) + 1e-2).all()


def test_density_integrates_to_one(given: PicturePosterior, generator: torch.Generator) -> None:
    """E over the flow's own samples of p(z | picture) / p(z | keypoints) is one: Z is right."""
    samples = given.keypoints.sample(1000, generator=generator)
    ratio = (given.log_prob(samples.rotations) - given.keypoints.log_prob(samples.rotations)).exp()
    error = ratio.std(0) / math.sqrt(len(ratio))
    assert ((ratio.mean(0) - 1).abs() < 4 * error + 0.05).all()


def test_samples_know_their_own_density(given: PicturePosterior, generator: torch.Generator) -> None:
    samples = given.sample(6, generator=generator)
    torch.testing.assert_close(samples.log_prob, given.log_prob(samples.rotations), rtol=1e-4, atol=2e-2)


def test_samples_are_those_of_the_weighted_flow(given: PicturePosterior, generator: torch.Generator) -> None:
    """Means over samples agree with importance sampling from the flow itself, which needs no proposal."""
    samples = bones_of(given.likelihood.body, given.sample(100, generator=generator).rotations)
    plain = given.keypoints.sample(2000, generator=generator).rotations
    weight = torch.softmax(given.likelihood.log(plain), 0)
    bones = bones_of(given.likelihood.body, plain)
    expected = (weight[..., None, None] * bones).sum(0)
    effective = 1 / weight.square().sum(0)
    spread = samples.std(0) * (1 / 100 + 1 / effective[:, None, None]).sqrt()
    assert (effective > 20).all()
    z = (samples.mean(0) - expected) / spread
    assert z.abs().amax() < 5
    assert z.square().mean() < 2


def test_cues_lower_the_entropy_and_their_absence_leaves_everything(
    given: PicturePosterior, generator: torch.Generator
) -> None:
    before, after = given.keypoints.entropy, given.entropy
    assert (after[:-1] < before[:-1] - 0.3).all()
    assert after[-1] == before[-1]
    assert given.log_evidence[-1] == 0
    assert (given.effective > 0.2).all()
    mode, plain = given.mode(), given.keypoints.mode()
    torch.testing.assert_close(mode.rotations[-1], plain.rotations[-1])
    torch.testing.assert_close(mode.log_prob[-1], plain.log_prob[-1])
    # The entropy is the mean of −log p over samples (of the body alone).
    samples = given.sample(100, generator=generator)
    values = -given.log_prob(samples.rotations)
    error = values.std(0) / 10
    assert ((values.mean(0) - after).abs() < 4 * error + 0.3).all()


def test_calibrated_where_truth_is_drawn_from_the_model(
    posterior: BodyPosterior, body: BodyModel, generator: torch.Generator
) -> None:
    """Ranks of the truth among samples are uniform (simulation-based calibration, Talts et al. 2018)."""
    repeats, count = 10, 19
    many = posterior[torch.arange(2).repeat(repeats)]
    true = bones_of(body, many.sample(1, generator=generator)[0].rotations)
    given = given_cues(many, body, cues_from(true, generator), generator=generator)
    samples = bones_of(body, given.sample(count, generator=generator).rotations)
    rank = (samples < true).sum(0).double().flatten(1)  # 0 … 19
    for inside, share in (
        ((rank >= 2) & (rank <= 17), 16 / 20),
        (rank < 10, 1 / 2),
        ((rank >= 5) & (rank < 15), 1 / 2),
    ):
        per_person = inside.double().mean(1)  # bones of one person hang together, people do not
        assert abs(float(per_person.mean()) - share) < 4 * float(per_person.std()) / math.sqrt(len(per_person))


def test_cues_must_belong_to_the_people(posterior: BodyPosterior, body: BodyModel) -> None:
    with pytest.raises(InputError, match="one row of depth cues"):
        given_cues(posterior, body, DepthCues.absent(len(posterior) + 1))
