"""Fits that start at what the pixels say: a pose that the latent can make is found, on either tree."""

import pytest
import torch

import vitruvian as vt
from tests.recovery.test_image_posterior import network, smpl_of
from tests.tube_body import tube_body
from vitruvian.errors import InputError
from vitruvian.estimation.pictures import belief_of_photographs, regress_photographs
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.images import Photograph
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.people import People
from vitruvian.keypoints.targets import keypoint_targets

CAMERA = Camera.from_image_size(200, 150)


def people(positions: torch.Tensor, rows: torch.Tensor) -> People:
    keypoints = Keypoints.empty("openpose-body25", people=len(positions))
    keypoints.positions[:, rows] = positions
    keypoints.confidence[:, rows] = 1
    return People.in_picture(keypoints, CAMERA, picture="a.jpg")


@pytest.mark.parametrize("family", ["smpl", "smplx"])
def test_a_pose_of_the_latent_is_found(family: str, generator: torch.Generator) -> None:
    body = tube_body(num_shape=10)
    body = smpl_of(body) if family == "smpl" else body
    targets = keypoint_targets(body, "openpose-body25")
    seen = people(60 + 60 * torch.rand(2, len(targets), 2, generator=generator), targets.keypoint)
    photograph = Photograph.from_array(torch.randint(0, 256, (150, 200, 3), generator=generator).byte().numpy())
    posterior = regress_photographs(network("six-d").float(), body, seen, {"a.jpg": photograph})
    true = posterior.decode(0.1 * torch.randn(2, 144, generator=generator))
    betas = posterior.betas if posterior.knows_shape(body) else torch.zeros_like(posterior.betas)
    points = body.with_shape(betas).with_pose(true.rotations, torch.tensor([0.0, 0.0, 4.0])).points(targets.points)
    moved = people(CAMERA.map(lambda x: x.expand(2, 2)).project(points), targets.keypoint)
    belief = belief_of_photographs(posterior, moved)
    assert belief.start is not None
    start = posterior.place(posterior.mode(), moved.keypoints, moved.known_camera).reprojection_px
    fits = vt.fit(body, moved, prior=belief.prior, start=belief.start, config=belief.config)
    assert fits.prior == ("image", "image")
    assert (fits.reprojection_px < 0.5 * start).all()


def test_pictures_that_are_not_there_are_named() -> None:
    body = smpl_of(tube_body(num_shape=10))
    seen = people(torch.rand(1, 3, 2) * 100, torch.arange(3))
    with pytest.raises(InputError, match="no photograph"):
        regress_photographs(network("six-d").float(), body, seen, {"a.jpg": None})
