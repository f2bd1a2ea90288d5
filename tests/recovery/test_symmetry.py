"""Laws of the answer of any network: the picture turned or mirrored, and points that do not count."""

import math
from dataclasses import replace

import pytest
import torch

from tests.recovery.networks import people, small_network
from vitruvian.geometry.rotations import exp_so3
from vitruvian.keypoints.canonical import CANONICAL
from vitruvian.keypoints.observations import Keypoints
from vitruvian.recovery.posterior import PoseSamples, infer
from vitruvian.recovery.symmetry import Mirror, mirrored_chart, mirrored_rotations, nearest_rotation

COUNT = 40
DRAWS = 3


def answers(keypoints: Keypoints, **known: torch.Tensor) -> tuple[PoseSamples, PoseSamples]:
    """Mode and samples of a fixed generator."""
    posterior = infer(small_network(), keypoints, people(COUNT)[1], **known)
    return posterior.mode(), posterior.sample(DRAWS, generator=torch.Generator().manual_seed(8))


def mirrored_joints(rotations: torch.Tensor) -> torch.Tensor:
    return mirrored_rotations(rotations[..., :22, :, :])


@pytest.mark.parametrize("with_gravity", [False, True])
def test_a_turned_picture_has_the_turned_answer(with_gravity: bool, generator: torch.Generator) -> None:
    keypoints, camera = people(COUNT)
    angle = 2 * math.pi * torch.rand(COUNT, generator=generator, dtype=torch.float64)
    turn = exp_so3(torch.stack((0 * angle, 0 * angle, angle), -1))
    center = camera.center_px[:, None]
    positions = (keypoints.positions - center) @ turn[:, :2, :2].transpose(-1, -2) + center
    gravity = torch.randn(COUNT, 3, generator=generator, dtype=torch.float64)
    known = {"gravity": gravity} if with_gravity else {}
    there = {"gravity": (turn @ gravity[..., None])[..., 0]} if with_gravity else {}
    straight = answers(keypoints, **known)
    turned = answers(replace(keypoints, positions=positions), **there)
    for a, b in zip(straight, turned, strict=True):
        torch.testing.assert_close(turn @ a.rotations[..., 0, :, :], b.rotations[..., 0, :, :], atol=1e-4, rtol=0)
        torch.testing.assert_close(a.rotations[..., 1:, :, :], b.rotations[..., 1:, :, :], atol=1e-4, rtol=0)
        torch.testing.assert_close(a.betas, b.betas, atol=1e-4, rtol=0)
        torch.testing.assert_close((turn @ a.pelvis[..., None])[..., 0], b.pelvis, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(a.log_prob, b.log_prob, atol=1e-4, rtol=0)


def test_gravity_that_is_known_changes_the_answer(generator: torch.Generator) -> None:
    keypoints, _ = people(COUNT)
    gravity = torch.randn(COUNT, 3, generator=generator, dtype=torch.float64)
    told, untold = answers(keypoints, gravity=gravity)[0], answers(keypoints)[0]
    assert float((told.rotations - untold.rotations).abs().amax()) > 1e-3


def test_a_mirrored_picture_has_the_mirrored_answer() -> None:
    keypoints, camera = people(COUNT)
    straight = answers(keypoints)
    mirrored = answers(keypoints.flip(float(camera.image_size[0, 0])))
    across = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    for a, b in zip(straight, mirrored, strict=True):
        torch.testing.assert_close(mirrored_joints(a.rotations), b.rotations[..., :22, :, :], atol=1e-6, rtol=0)
        hands = a.rotations[..., 25:, :, :].unflatten(-3, (2, 15)).flip(-4).flatten(-4, -3)
        torch.testing.assert_close(across[:, None] * hands * across, b.rotations[..., 25:, :, :], atol=1e-6, rtol=0)
        torch.testing.assert_close(a.betas, b.betas, atol=1e-6, rtol=0)
        torch.testing.assert_close(a.pelvis * across, b.pelvis, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(a.log_prob, b.log_prob, atol=1e-6, rtol=0)


def test_density_of_any_pose_is_that_of_its_mirror_image(generator: torch.Generator) -> None:
    keypoints, camera = people(COUNT)
    network = small_network()
    posterior = infer(network, keypoints, camera)
    assert 0 < int(posterior.mirrored.sum()) < COUNT  # both readings take part
    other = infer(network, keypoints.flip(float(camera.image_size[0, 0])), camera)
    nudge = exp_so3(0.1 * torch.randn(COUNT, 22, 3, generator=generator, dtype=torch.float64))
    poses = posterior.mode().rotations[:, :22] @ nudge
    torch.testing.assert_close(posterior.log_prob(poses), other.log_prob(mirrored_joints(poses)), atol=1e-6, rtol=0)


def test_points_below_the_limit_change_nothing(generator: torch.Generator) -> None:
    keypoints, _ = people(COUNT)
    sure = keypoints.confidence >= 0.1
    assert not bool(sure.all())
    clean = Keypoints(keypoints.positions, torch.where(sure, keypoints.confidence, 0.0), CANONICAL)
    shape = keypoints.confidence.shape
    junk = 0.0999 * torch.rand(shape, generator=generator, dtype=torch.float64)
    anywhere = 3000 * torch.randn(*shape, 2, generator=generator, dtype=torch.float64)
    dirty = Keypoints(
        torch.where(sure[..., None], keypoints.positions, anywhere),
        torch.where(sure, keypoints.confidence, junk),
        CANONICAL,
    )
    for a, b in zip(answers(clean), answers(dirty), strict=True):
        assert torch.equal(a.rotations, b.rotations)
        assert torch.equal(a.betas, b.betas)
        assert torch.equal(a.pelvis, b.pelvis)


def test_the_mirror_layer_is_its_own_inverse_and_has_its_differential(generator: torch.Generator) -> None:
    layer = Mirror(torch.tensor([True, False]))
    conditioning = layer.condition(torch.zeros(2, 0))
    x = torch.randn(5, 2, 66, generator=generator, dtype=torch.float64)
    y = layer.to_latent(x, conditioning)
    torch.testing.assert_close(layer.from_latent(y, conditioning), x)
    torch.testing.assert_close(y[:, 0], mirrored_chart(x[:, 0]))
    torch.testing.assert_close(y[:, 1], x[:, 1])
    one = layer.select(conditioning, torch.tensor([1, 0, 0]))
    assert one[0].tolist() == [False, True, True]


def test_the_middle_of_two_rotations_lies_half_way(generator: torch.Generator) -> None:
    a = exp_so3(torch.randn(30, 3, generator=generator, dtype=torch.float64))
    step = 0.2 * torch.randn(30, 3, generator=generator, dtype=torch.float64)
    middle = nearest_rotation(0.5 * (a + a @ exp_so3(2 * step)))
    torch.testing.assert_close(middle, a @ exp_so3(step))
