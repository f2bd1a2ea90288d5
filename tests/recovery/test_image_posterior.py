"""The posterior of crops: laws of its latent space on SMPL's tree and on SMPL-X's, exact derivatives, the camera."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.tube_body import tube_body
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.skeletons import SMPL
from vitruvian.errors import InputError, ShapeError
from vitruvian.flows import FlowConfig
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.rotations import log_so3
from vitruvian.keypoints.images import Photograph
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.targets import keypoint_targets
from vitruvian.priors.pose_spaces import PoseSpace
from vitruvian.recovery.image_network import PUBLISHED_FLOW, ImageNetwork, ImageNetworkConfig
from vitruvian.recovery.image_posterior import ImagePosterior, infer_from_photographs

PEOPLE = 2


def smpl_of(body: BodyModel) -> BodyModel:
    """A body on SMPL's tree: the 22 joints, and stubs of hands where the middle fingers begin."""
    rows = [*range(22), body.skeleton.index("left_middle1"), body.skeleton.index("right_middle1")]
    weights = body.skinning_weights.clone()
    weights[:, 0] += 1 - weights[:, rows].sum(-1)
    return replace(
        body,
        family="smpl",
        skeleton=SMPL,
        correctives=None,
        expression_dirs=body.expression_dirs[..., :0],
        joint_template=body.joint_template[rows],
        joint_shape_dirs=body.joint_shape_dirs[rows],
        joint_expression_dirs=body.joint_expression_dirs[rows][..., :0],
        joint_regressor=body.joint_regressor[rows],
        skinning_weights=weights[:, rows],
    )


def network(coordinates: str, *, seed: int = 0) -> ImageNetwork:
    torch.manual_seed(seed)
    flow = replace(PUBLISHED_FLOW, hidden=8, num_layers=2)
    if coordinates == "chart":
        flow = FlowConfig(66, 1, num_layers=2, hidden=8, num_blocks=1, scale_hidden=8)
    config = ImageNetworkConfig(
        encoder="resnet18", width=2, coordinates=coordinates, head_hidden=8, flow=flow, crop_px=32
    )
    model = ImageNetwork(config).double().eval()
    with torch.no_grad():
        for parameter in model.flow.parameters():
            parameter += (0.02 if coordinates == "chart" else 0.1) * torch.randn_like(parameter)  # turns below 180°
    return model.requires_grad_(False)


def seen() -> tuple[Keypoints, Camera, list[Photograph]]:
    generator = torch.Generator().manual_seed(1)
    positions = torch.tensor([100.0, 80.0]) + 60 * torch.rand(PEOPLE, 25, 2, generator=generator)
    keypoints = Keypoints(positions, torch.ones(PEOPLE, 25), "openpose-body25")
    camera = Camera.from_image_size(200, 150).map(lambda x: x.expand(PEOPLE, 2))
    pixels = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    return keypoints, camera, [Photograph.from_array(pixels)] * PEOPLE


@pytest.fixture(scope="module", params=["six-d on smpl", "six-d on smplx", "chart on smplx"])
def posterior(request: pytest.FixtureRequest) -> ImagePosterior:
    coordinates, _, family = request.param.partition(" on ")
    body = tube_body(dtype=torch.float64)
    return infer_from_photographs(network(coordinates), smpl_of(body) if family == "smpl" else body, *seen())


def test_poses_are_those_of_the_body(posterior: ImagePosterior, generator: torch.Generator) -> None:
    mode, samples = posterior.mode(), posterior.sample(5, generator=generator)
    joints = posterior.model.num_joints
    assert mode.rotations.shape == (PEOPLE, joints, 3, 3)
    assert samples.rotations.shape == (5, PEOPLE, joints, 3, 3)
    assert posterior.num_kept == (24 if posterior.model.family == "smpl" else 22)
    R = samples.rotations
    torch.testing.assert_close(R @ R.transpose(-1, -2), torch.eye(3, dtype=R.dtype).expand_as(R))
    assert (posterior.mode().log_prob > samples.log_prob.amax(0)).all()
    if joints > 24:  # fingers rest
        assert torch.equal(R[..., 30, :, :], torch.eye(3, dtype=R.dtype).expand(5, PEOPLE, 3, 3))


def test_the_latent_space_is_a_pose_space(posterior: ImagePosterior, generator: torch.Generator) -> None:
    space = posterior.pose_space(strength=torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert isinstance(space, PoseSpace)
    state = 0.3 * torch.randn(PEOPLE, space.num_parameters, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(space.decode(state), posterior.decode(state).rotations[:, : posterior.num_kept])
    torch.testing.assert_close(space.residual(state)[1], 2 * state[1])
    chosen = space.select(torch.tensor([1]))
    torch.testing.assert_close(chosen.decode(state[1:]), space.decode(state)[1:])
    # Encoding what was decoded decodes to the same.
    again = space.decode(space.encode(space.decode(state)))
    torch.testing.assert_close(again, space.decode(state), rtol=0, atol=1e-9)


def test_the_differential_is_exact(posterior: ImagePosterior, generator: torch.Generator) -> None:
    space = posterior.pose_space()
    state = 0.3 * torch.randn(PEOPLE, space.num_parameters, generator=generator, dtype=torch.float64)
    direction = torch.randn(state.shape, generator=generator, dtype=torch.float64)
    step = 1e-6
    there, back = space.decode(state + step * direction), space.decode(state - step * direction)
    rate = log_so3(back.transpose(-1, -2) @ there).flatten(1) / (2 * step)
    exact = (space.differential(state) @ direction[..., None])[..., 0]
    torch.testing.assert_close(exact, rate, rtol=1e-5, atol=1e-6)


def test_likelihood_of_the_chart_is_that_of_its_latent(generator: torch.Generator) -> None:
    chart = infer_from_photographs(network("chart"), tube_body(dtype=torch.float64), *seen())
    samples = chart.decode(0.2 * torch.randn(3, PEOPLE, 66, generator=generator, dtype=torch.float64))
    torch.testing.assert_close(chart.log_prob(samples.rotations), samples.log_prob)
    with pytest.raises(ShapeError):
        chart.log_prob(samples.rotations[:, :1])


def test_poses_come_to_lie_on_the_keypoints(posterior: ImagePosterior) -> None:
    _, camera, _ = seen()
    camera = camera.to(dtype=torch.float64)
    mode = posterior.mode()
    body = posterior.model
    targets = keypoint_targets(body, "openpose-body25")
    transl = torch.tensor([0.3, -0.2, 5.0], dtype=torch.float64)
    betas = posterior.betas if posterior.knows_shape(body) else torch.zeros_like(posterior.betas)
    points = body.with_shape(betas).with_pose(mode.rotations, transl).points(targets.points)
    keypoints = Keypoints.empty("openpose-body25", people=PEOPLE, dtype=torch.float64)
    keypoints.positions[:, targets.keypoint] = camera.project(points)
    keypoints.confidence[:, targets.keypoint] = 1
    placed = posterior.place(mode, keypoints, camera)
    assert float(placed.reprojection_px.max()) < 1.0  # a weak pull to the network's own camera remains
    torch.testing.assert_close(placed.params.transl, transl.expand(PEOPLE, 3), rtol=0, atol=0.2)


def test_a_person_stands_alone_and_turns_with_the_crop() -> None:
    keypoints, camera, photographs = seen()
    model, body = network("six-d"), smpl_of(tube_body(dtype=torch.float64))
    both = infer_from_photographs(model, body, keypoints, camera, photographs)
    alone = infer_from_photographs(model, body, keypoints[1:], camera[1:], photographs[1:])
    torch.testing.assert_close(both.mode().rotations[1:], alone.mode().rotations)
    # The same crop of a camera with another principal point: the same pose, turned with the ray to the person.
    shifted = Camera(camera.focal_px, camera.center_px + torch.tensor([30.0, -20.0]), camera.image_size)
    other = infer_from_photographs(model, body, keypoints, shifted, photographs)
    torch.testing.assert_close(other.context, both.context)
    turned = both.crop_view.R_camera_crop.transpose(-1, -2) @ both.mode().rotations[:, 0]
    torch.testing.assert_close(other.crop_view.R_camera_crop.transpose(-1, -2) @ other.mode().rotations[:, 0], turned)
    assert float((other.crop_view.R_camera_crop - both.crop_view.R_camera_crop).abs().max()) > 0.01


def test_what_cannot_be_looked_at_is_refused() -> None:
    keypoints, camera, photographs = seen()
    model, body = network("six-d"), smpl_of(tube_body(dtype=torch.float64))
    unseen = Keypoints(keypoints.positions, torch.zeros(PEOPLE, 25), keypoints.format)
    with pytest.raises(InputError, match="without keypoints"):
        infer_from_photographs(model, body, unseen, camera, photographs)
    with pytest.raises(InputError, match="one photograph"):
        infer_from_photographs(model, body, keypoints, camera, photographs[:1])
