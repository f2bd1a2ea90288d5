"""Regression with the shipped network: what it says of a person whose pose is known, and its use in fitting."""

import pytest
import torch

import vitruvian as vt
from tests.apps.people_files import true_keypoints
from vitruvian.apps.demo import IMAGE_SIZE, natural_person
from vitruvian.bodies.model import BodyModel
from vitruvian.errors import InputError
from vitruvian.estimation.arguments import as_people
from vitruvian.estimation.regress import PriorStrength, best_of_samples, flow_prior, placed_mode, regress
from vitruvian.evaluation.metrics import mpjpe_mm, pa_error_mm
from vitruvian.fitting.fit import fit_keypoints
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.people import People
from vitruvian.recovery.estimates import Weighting, place, solve_translation, weighted_mean
from vitruvian.recovery.posterior import BodyPosterior


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return vt.open_body(num_shape=10, num_expression=10)


@pytest.fixture(scope="module")
def keypoints(body: BodyModel) -> Keypoints:
    return true_keypoints(body, "openpose")


@pytest.fixture(scope="module")
def camera() -> Camera:
    return Camera.from_image_size(*IMAGE_SIZE)


@pytest.fixture(scope="module")
def posterior(keypoints: Keypoints, camera: Camera) -> BodyPosterior:
    return regress(keypoints, camera)


def test_mode_is_near_a_natural_person(posterior: BodyPosterior, body: BodyModel) -> None:
    mode = posterior.mode()
    joints = body.with_shape(mode.betas, mode.expression).with_pose(mode.rotations).joints[:, :22]
    truth = natural_person(body).joints.reshape(1, -1, 3)[:, :22]
    assert float(mpjpe_mm(joints, truth)) < 120
    assert float(pa_error_mm(joints, truth)) < 80


def test_formats_with_fewer_points_give_wider_distributions(
    keypoints: Keypoints, camera: Camera, posterior: BodyPosterior
) -> None:
    upper = keypoints.map(lambda x: x.clone())
    rows = [
        k
        for k, place in enumerate(upper.definition.places)
        if any(w in place for w in ("knee", "ankle", "toe", "heel"))
    ]
    upper.confidence[:, rows] = 0
    assert float(regress(upper, camera).entropy) > float(posterior.entropy) + 1


def test_regress_takes_pictures_and_refuses_what_it_cannot_place(keypoints: Keypoints, camera: Camera) -> None:
    picture = People.in_picture(keypoints, camera, picture="a.jpg")
    torch.testing.assert_close(regress(picture).context, regress(keypoints, camera).context)
    assert len(regress([picture, picture])) == 2
    with pytest.raises(InputError, match="size"):
        regress(People.in_picture(keypoints, picture="a.jpg"))
    with pytest.raises(InputError, match="size"):
        regress(keypoints)
    with pytest.raises(InputError):
        regress(keypoints, camera.map(lambda x: x.expand(3, 2)))


def test_translation_in_closed_form_recovers_the_place(generator: torch.Generator) -> None:
    camera = Camera.from_image_size(800, 600, dtype=torch.float64).map(lambda x: x.expand(4, 2))
    points = torch.randn(4, 20, 3, generator=generator, dtype=torch.float64) * 0.5
    t = torch.randn(4, 3, generator=generator, dtype=torch.float64) * 0.5 + torch.tensor([0.0, 0.0, 5.0])
    pixels = camera.project(points + t[:, None])
    found = solve_translation(points, pixels, torch.ones(4, 20, dtype=torch.float64), camera, t + 0.3)
    torch.testing.assert_close(found, t, atol=1e-2, rtol=0)
    unseen = solve_translation(points, pixels, torch.zeros(4, 20, dtype=torch.float64), camera, t + 0.3)
    torch.testing.assert_close(unseen, t + 0.3)


def test_placing_lowers_the_reprojection_error(
    posterior: BodyPosterior, body: BodyModel, keypoints: Keypoints, camera: Camera
) -> None:
    people = as_people(keypoints, camera)
    placed = placed_mode(posterior, body, people)
    seen = people.keypoints.positions[0]
    size = float((seen.amax(0) - seen.amin(0)).amax())
    assert float(placed.reprojection_px) < 0.08 * size
    samples = place(posterior.sample(7), body, people.keypoints, people.known_camera)
    assert samples.energy.shape == (7, 1)


def test_the_best_of_samples_explains_the_keypoints_best(
    posterior: BodyPosterior, body: BodyModel, keypoints: Keypoints, camera: Camera
) -> None:
    """Its energy is the least of the mode's and of all samples drawn with the same generator."""
    people = as_people(keypoints, camera)
    best = best_of_samples(posterior, body, people, num_samples=40, generator=torch.Generator().manual_seed(0))
    samples = posterior.sample(40, generator=torch.Generator().manual_seed(0))
    placed = place(samples, body, people.keypoints, people.known_camera)
    mode = placed_mode(posterior, body, people)
    energies = torch.cat((mode.energy[None], placed.energy))[:, 0]
    rotations = torch.cat((mode.params.rotations[None], placed.params.rotations))[:, 0]
    assert best.rotations.shape == (1, 55, 3, 3)
    torch.testing.assert_close(best.rotations[0], rotations[energies.argmin()])
    assert float(energies.min()) < float(energies[1:].median())


def test_weighted_mean_is_reproducible_and_a_pose(
    posterior: BodyPosterior, body: BodyModel, keypoints: Keypoints, camera: Camera
) -> None:
    people = as_people(keypoints, camera)
    found = [
        weighted_mean(
            posterior,
            body,
            people.keypoints,
            people.known_camera,
            weighting=Weighting(30),
            generator=torch.Generator().manual_seed(1),
        )
        for _ in range(2)
    ]
    assert torch.equal(found[0].rotations, found[1].rotations)
    R = found[0].rotations
    torch.testing.assert_close(R @ R.transpose(-1, -2), torch.eye(3).expand_as(R), atol=3e-5, rtol=0)
    assert float(found[0].latent.norm()) < 8


def test_a_fit_in_the_latent_space_of_the_flow_comes_nearer_to_the_person(
    posterior: BodyPosterior, body: BodyModel, keypoints: Keypoints, camera: Camera
) -> None:
    people = as_people(keypoints, camera)
    placed = placed_mode(posterior, body, people)
    start = placed.params
    prior = flow_prior(posterior, body, people, placed)
    fits = fit_keypoints(body, people.keypoints, people.known_camera, prior=prior, start=start)
    truth = natural_person(body).joints.reshape(1, -1, 3)[:, :22]

    def error(params: vt.BodyParams) -> float:
        posed = body.with_shape(params.betas, params.expression).with_pose(params.rotations)
        return float(pa_error_mm(posed.joints[:, :22], truth))

    assert error(fits.params) < error(start)
    assert float(fits.reprojection_px) < 6


def test_the_latent_is_held_more_where_less_is_known() -> None:
    strength = PriorStrength(strength=2.0, power=1.0, usual_misfit=0.02, range=(0.5, 3.0))
    seen = torch.tensor([1.0, 0.5, 1.0, 1.0, 1.0])
    misfit = torch.tensor([0.02, 0.02, 0.04, 0.5, torch.nan])
    torch.testing.assert_close(strength(seen, misfit), torch.tensor([2.0, 4.0, 4.0, 6.0, 6.0]))


def test_the_strength_of_a_latent_scales_its_residual(posterior: BodyPosterior) -> None:
    two = posterior[torch.tensor([0, 0])]
    factors = torch.tensor([1.0, 3.0])
    plain, strong = two.pose_space(), two.pose_space(strength=factors)
    state = torch.ones(2, 66)
    torch.testing.assert_close(strong.residual(state), plain.residual(state) * factors[:, None])
    torch.testing.assert_close(strong.residual_jacobian(state), plain.residual_jacobian(state) * factors[:, None, None])
    other = strong.select(torch.tensor([1, 1]))
    torch.testing.assert_close(other.residual(state), 3 * state)
    torch.testing.assert_close(other.decode(state), strong.decode(state))
