"""The distribution given keypoints and cues, with an untrained network: laws of Bayes hold whatever the weights are."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.recovery.test_posterior import people, small_network
from vitruvian.apps.picture_posterior import PicturePosterior, given_cues
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.open_body import open_body
from vitruvian.errors import InputError
from vitruvian.fitting.directions import bone_vectors
from vitruvian.keypoints.depth_cues import BONES, DepthCues
from vitruvian.recovery.posterior import BodyPosterior, PoseSamples, infer

SIGMA = 0.35


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return replace(open_body(num_shape=10, num_expression=10).to(dtype=torch.float64), correctives=None)


@pytest.fixture(scope="module")
def posterior() -> BodyPosterior:
    return infer(small_network(), *people())


def bones_of(body: BodyModel, rotations: Tensor) -> Tensor:
    return torch.nn.functional.normalize(
        body.with_shape().with_pose(rotations).points(bone_vectors(body).points), dim=-1
    )


def cues_from(body: BodyModel, poses: PoseSamples, generator: torch.Generator) -> DepthCues:
    """What the likelihood would have shown of poses: their directions with its noise; the last person has none."""
    true = bones_of(body, poses.rotations)
    noise = torch.randn(true.shape, generator=generator, dtype=true.dtype)
    seen = torch.nn.functional.normalize(true + SIGMA * noise, dim=-1)
    confidence = torch.ones_like(seen[..., 0])
    confidence[-1] = 0
    return DepthCues(seen, confidence)


@pytest.fixture(scope="module")
def given(posterior: BodyPosterior, body: BodyModel) -> PicturePosterior:
    generator = torch.Generator().manual_seed(3)
    true = posterior.sample(1, generator=generator)[0]
    return given_cues(posterior, body, cues_from(body, true, generator), generator=generator)


def test_the_mode_has_the_highest_density(given: PicturePosterior, generator: torch.Generator) -> None:
    mode = given.mode()
    samples = given.sample(50, generator=generator)
    assert (mode.log_prob >= samples.log_prob.amax(0)).all()
    for step in 1e-2 * torch.randn(20, *given.center.shape, generator=generator, dtype=torch.float64):
        near = given.keypoints.decode(given.center + step, mode.hand_latent)
        density = given.log_prob(near.rotations) + (mode.log_prob - given.log_prob(mode.rotations))
        assert (density <= mode.log_prob + 1e-4).all()


def test_density_integrates_to_one(given: PicturePosterior, generator: torch.Generator) -> None:
    """E over the flow's own samples of p(z | picture) / p(z | keypoints) is one: Z is right."""
    samples = given.keypoints.sample(1500, generator=generator)
    ratio = (given.log_prob(samples.rotations) - given.keypoints.log_prob(samples.rotations)).exp()
    error = ratio.std(0) / math.sqrt(len(ratio))
    assert ((ratio.mean(0) - 1).abs() < 4 * error + 0.05).all()


def test_samples_know_their_own_density(given: PicturePosterior, generator: torch.Generator) -> None:
    samples = given.sample(6, generator=generator)
    hands = given.keypoints.hands.log_prob_of_latent(samples.hand_latent).sum(-1)
    torch.testing.assert_close(samples.log_prob, given.log_prob(samples.rotations) + hands, rtol=1e-6, atol=1e-5)


def test_samples_are_those_of_the_weighted_flow(given: PicturePosterior, generator: torch.Generator) -> None:
    """Means over samples agree with importance sampling from the flow itself, which needs no proposal."""
    samples = bones_of(given.likelihood.body, given.sample(400, generator=generator).rotations)
    plain = given.keypoints.sample(4000, generator=generator).rotations
    weight = torch.softmax(given.likelihood.log(plain), 0)
    bones = bones_of(given.likelihood.body, plain)
    expected = (weight[..., None, None] * bones).sum(0)
    effective = 1 / weight.square().sum(0)
    spread = samples.std(0) * (1 / 400 + 1 / effective[:, None, None]).sqrt()
    assert (effective > 50).all()
    z = (samples.mean(0) - expected) / spread
    assert z.abs().amax() < 5
    assert z.square().mean() < 2


def test_cues_lower_the_entropy_and_their_absence_leaves_everything(
    given: PicturePosterior, generator: torch.Generator
) -> None:
    before, after = given.keypoints.entropy, given.entropy
    assert (after[:-1] < before[:-1] - 1).all()
    assert after[-1] == before[-1]
    assert given.log_evidence[-1] == 0
    assert (given.effective > 0.2).all()
    mode, plain = given.mode(), given.keypoints.mode()
    torch.testing.assert_close(mode.rotations[-1], plain.rotations[-1])
    torch.testing.assert_close(mode.log_prob[-1], plain.log_prob[-1])
    # The entropy is the mean of −log p over samples (of the body alone).
    samples = given.sample(400, generator=generator)
    values = -given.log_prob(samples.rotations)
    error = values.std(0) / 20
    assert ((values.mean(0) - after).abs() < 4 * error + 0.3).all()


def test_calibrated_where_truth_is_drawn_from_the_model(
    posterior: BodyPosterior, body: BodyModel, generator: torch.Generator
) -> None:
    """Ranks of the truth among samples are uniform, in the directions of bones (simulation-based calibration)."""
    repeats, count = 40, 19
    many = posterior[torch.arange(2).repeat(repeats)]
    true = many.sample(1, generator=generator)[0]
    cues = cues_from(body, true, generator)[:-1]
    many, true = many[: len(cues.confidence)], true[: len(cues.confidence)]
    given = given_cues(many, body, cues, generator=generator)
    samples = bones_of(body, given.sample(count, generator=generator).rotations)
    rank = (samples < bones_of(body, true.rotations)).sum(0).double()  # 0 … 19, uniform if calibrated
    people = len(rank)
    # Ranks of one person hang together; the mean over bones of a person is one draw with at most this deviation.
    sd = math.sqrt(((count + 1) ** 2 - 1) / 12)
    assert abs(float(rank.mean()) - count / 2) < 4 * sd / math.sqrt(people * 3)
    inside = ((rank >= 2) & (rank <= count - 2)).double().mean((1, 2))
    assert abs(float(inside.mean()) - 0.8) < 4 * float(inside.std()) / math.sqrt(people)


def test_cues_must_belong_to_the_people(posterior: BodyPosterior, body: BodyModel) -> None:
    with pytest.raises(InputError, match="one row of depth cues"):
        given_cues(posterior, body, DepthCues.absent(len(posterior) + 1))
    assert len(BONES) == len(bone_vectors(body).rows)
