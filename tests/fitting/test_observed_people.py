"""What a fit takes: no point outside the picture, nobody whose points say nothing, no camera that cannot be."""

from dataclasses import replace

import pytest
import torch

from vitruvian.bodies.open_body import open_body
from vitruvian.errors import InputError
from vitruvian.fitting.config import FitConfig
from vitruvian.fitting.fitter import Fitter
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.observations import Keypoints

ROWS = torch.arange(3)


@pytest.fixture(scope="module")
def fitter() -> Fitter:
    return Fitter(open_body(), "openpose-body25", FitConfig(), None)


@pytest.fixture
def people() -> Keypoints:
    generator = torch.Generator().manual_seed(3)
    places = torch.rand(3, 25, 2, generator=generator) * torch.tensor([300.0, 220.0])
    return Keypoints(places, torch.full((3, 25), 0.9), "openpose-body25")


@pytest.fixture
def camera() -> Camera:
    return Camera.from_image_size(320, 240).map(lambda x: x.expand(3, 2))


@pytest.mark.parametrize("value", [3000.0, 1e5, 1e20, -1.0])
def test_points_outside_the_picture_are_not_used(
    fitter: Fitter, people: Keypoints, camera: Camera, value: float
) -> None:
    far, unseen = people.map(torch.clone), people.map(torch.clone)
    far.positions[1, 10, 0] = value
    unseen.confidence[1, 10] = 0
    a, b = (fitter.observe(keypoints, camera, ROWS) for keypoints in (far, unseen))
    assert torch.equal(a.weights, b.weights)
    assert torch.equal(a.sigma_px, b.sigma_px)
    assert a.usable.all()


def test_people_whose_points_say_nothing_are_no_evidence(fitter: Fitter, people: Keypoints, camera: Camera) -> None:
    positions = people.positions.clone()
    positions[0] = 100.0
    positions[1] = torch.linspace(0, 1, 25)[:, None] * torch.tensor([300.0, 200.0])
    observed = fitter.observe(replace(people, positions=positions), camera, ROWS)
    assert observed.usable.tolist() == [False, False, True]


@pytest.mark.parametrize("value", [-1.0, 0.0, float("nan"), float("inf")])
def test_a_camera_that_cannot_be_is_refused(fitter: Fitter, people: Keypoints, camera: Camera, value: float) -> None:
    with pytest.raises(InputError, match="no usable focal_px"):
        fitter.observe(people, replace(camera, focal_px=torch.full_like(camera.focal_px, value)), ROWS)
