"""Losses of the image network: a perfect prediction has none, and what is not known of a person changes nothing."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.tube_body import tube_body
from vitruvian.bodies.model import BodyModel
from vitruvian.data.cropped_people import CroppedPeople
from vitruvian.flows import FlowConfig
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.rotations import exp_so3
from vitruvian.keypoints.canonical import CANONICAL
from vitruvian.keypoints.crops import Crop
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.targets import keypoint_targets
from vitruvian.recovery.image_critic import ImageCritic
from vitruvian.recovery.image_losses import Figure, ImageLosses, ImageLossWeights, ImageTargets, image_losses
from vitruvian.recovery.image_network import ImageNetwork, ImageNetworkConfig
from vitruvian.training.image_batch import ViewedCrops, viewed_crops

PEOPLE = 3


def cropped_people(body: BodyModel, size: int, *, size_px: int = 32, seed: int = 0) -> CroppedPeople:
    """People whose pixels are noise, in random poses before random cameras."""
    generator = torch.Generator().manual_seed(seed)
    rotations = exp_so3(0.3 * torch.randn(size, 22, 3, generator=generator))
    rotations[:, 0] = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ rotations[:, 0]
    betas = torch.randn(size, 10, generator=generator)
    rest = torch.eye(3).expand(size, body.num_joints - 22, 3, 3)
    transl = torch.tensor([0.2, 0.1, 4.0]) + 0.2 * torch.randn(size, 3, generator=generator)
    posed = body.with_shape(betas).with_pose(torch.cat((rotations, rest), 1), transl)
    camera = Camera(*(torch.tensor(v).expand(size, 2) for v in ([500.0] * 2, [320.0, 240.0], [640.0, 480.0])))
    targets = keypoint_targets(body, CANONICAL)
    keypoints = Keypoints.empty(CANONICAL, people=size)
    keypoints.positions[:, targets.keypoint] = camera.project(posed.points(targets.points))
    keypoints.confidence[:, targets.keypoint] = 1
    center = camera.project(posed.joints).mean(1)
    turn = torch.rand(size, generator=generator)
    known = torch.ones(size, dtype=torch.bool)
    return CroppedPeople(
        pixels=torch.randint(0, 256, (size, 3, size_px, size_px), generator=generator).to(torch.uint8),
        crop=Crop(center, torch.full((size,), 250.0), turn),
        camera=camera,
        keypoints=keypoints,
        rotations=rotations,
        has_pose=known,
        betas=betas,
        has_shape=known,
        joints=posed.joints[:, :22],
        joints_confidence=torch.ones(size, 22),
    )


class Drawn:
    """Other people in every batch."""

    def __init__(self, body: BodyModel) -> None:
        self.body = body

    def batch(self, size: int, *, seed: int, number: int = 0) -> CroppedPeople:
        return cropped_people(self.body, size, seed=(seed * 31 + number) % 1000)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return tube_body(num_shape=10)


@pytest.fixture(scope="module")
def batch(body: BodyModel) -> ViewedCrops:
    return viewed_crops(cropped_people(body, PEOPLE), num_joints=22)


@pytest.fixture(params=["six-d", "chart"])
def network(request: pytest.FixtureRequest) -> ImageNetwork:
    torch.manual_seed(0)
    flow = FlowConfig(66, 1, num_layers=2, hidden=8, num_blocks=1, scale_hidden=8)
    config = ImageNetworkConfig(
        encoder="resnet18", width=2, coordinates=request.param, num_joints=22, head_hidden=8, flow=flow, body="open"
    )
    return ImageNetwork(config).eval()


def computed(network: ImageNetwork, batch: ViewedCrops, targets: ImageTargets, body: BodyModel) -> ImageLosses:
    torch.manual_seed(1)
    critic = ImageCritic(num_joints=21, hidden=8)
    return image_losses(
        network(batch.view, batch.normalized()),
        network.coordinates,
        batch.crop_view,
        targets,
        Figure(body, 22),
        critic,
        generator=torch.Generator().manual_seed(2),
    )


def values(losses: ImageLosses) -> dict[str, Tensor]:
    return losses.terms.detached()


def test_truth_in_the_crop_is_the_truth_in_the_camera(body: BodyModel) -> None:
    people = cropped_people(body, PEOPLE)
    batch = viewed_crops(people, num_joints=24)
    R = batch.crop_view.R_camera_crop
    torch.testing.assert_close(R @ batch.targets.rotations[:, 0], people.rotations[:, 0], atol=1e-5, rtol=0)
    # The figure at the truth projects onto the 2D targets, whatever the crop's place and turn.
    figure = Figure(body, 22)
    transl = (people.joints[:, 0] - body.with_shape(people.betas).joints[:, 0])[:, None]
    seen = figure.pose(batch.targets.rotations[:, :22], people.betas)
    about = seen.keypoints - seen.joints[:, :1]
    at = about + batch.crop_view.from_camera(people.joints[:, :1])
    assert transl.isfinite().all()
    torch.testing.assert_close(
        batch.crop_view.project(at), batch.targets.keypoints[:, figure.rows], atol=2e-2, rtol=1e-2
    )


def test_a_perfect_prediction_has_no_error(network: ImageNetwork, batch: ViewedCrops, body: BodyModel) -> None:
    with torch.no_grad():
        prediction = network(batch.view, batch.normalized())
        mode = network.coordinates.rotations(prediction.flow.mode, prediction.base)
        transl = batch.crop_view.translation(prediction.camera)
        figure = Figure(body, 22)
        seen = figure.pose(mode, prediction.betas, transl)
    keypoints = batch.targets.keypoints.clone()
    keypoints[:, figure.rows] = batch.crop_view.project(seen.keypoints)
    own = replace(batch.targets, rotations=mode, betas=prediction.betas, joints=seen.joints, keypoints=keypoints)
    before, after = (values(computed(network, batch, targets, body)) for targets in (batch.targets, own))
    for name in ("keypoints_3d", "keypoints_2d", "shape"):
        assert float(after[name]) < 1e-4 < float(before[name])
    assert float(after["pose"]) < float(before["pose"])
    assert float(after["likelihood"]) < float(before["likelihood"])


def test_what_is_not_known_changes_nothing(network: ImageNetwork, batch: ViewedCrops, body: BodyModel) -> None:
    nothing = torch.zeros(PEOPLE, dtype=torch.bool)
    unknown = replace(
        batch.targets,
        has_pose=nothing,
        has_shape=nothing,
        joints_confidence=torch.zeros(PEOPLE, 22),
        confidence=torch.zeros_like(batch.targets.confidence),
    )
    terms = values(computed(network, batch, unknown, body))
    for name in ("keypoints_3d", "keypoints_2d", "sample_keypoints_2d", "pose", "shape", "likelihood"):
        assert float(terms[name]) == 0
    # With one person known, the truth of the others does not count, and the mean is over everybody.
    one = torch.tensor([True, False, False])
    targets = replace(batch.targets, has_pose=one, has_shape=one)
    changed = replace(targets, betas=targets.betas + (~one)[:, None])
    a, b = (values(computed(network, batch, t, body)) for t in (targets, changed))
    assert float(a["shape"]) == float(b["shape"]) > 0
    assert float(a["pose"]) < float(values(computed(network, batch, batch.targets, body))["pose"])


def test_every_loss_reaches_the_network(network: ImageNetwork, batch: ViewedCrops, body: BodyModel) -> None:
    network.requires_grad_(True)
    losses = computed(network, batch, batch.targets, body)
    losses.terms.total(ImageLossWeights()).backward()
    assert all(p.grad is not None for p in network.parameters())
    total = sum(getattr(ImageLossWeights(), n) * float(v) for n, v in values(losses).items())
    assert float(losses.terms.total(ImageLossWeights()).detach()) == pytest.approx(total, rel=1e-5)
    assert losses.fakes[0].shape == (2 * PEOPLE, 22, 3, 3)


def test_the_critic_gets_no_gradient_of_the_network(body: BodyModel, batch: ViewedCrops, network: ImageNetwork) -> None:
    critic = ImageCritic(num_joints=21, hidden=8)
    losses = image_losses(
        network.requires_grad_(True)(batch.view, batch.normalized()),
        network.coordinates,
        batch.crop_view,
        batch.targets,
        Figure(body, 22),
        critic,
        generator=torch.Generator().manual_seed(2),
    )
    losses.terms.adversarial.backward()
    assert all(p.grad is None for p in critic.parameters())
    critic.loss(losses.fakes, (batch.targets.rotations, batch.targets.betas)).backward()
    assert all(p.grad is not None for p in critic.parameters())


def test_a_critic_that_tells_them_apart_has_no_loss() -> None:
    critic = ImageCritic(num_joints=2, num_shape=3, features=4, hidden=4)
    rotations, betas = torch.eye(3).expand(2, 3, 3, 3), torch.zeros(2, 3)
    for parameter in critic.parameters():
        torch.nn.init.zeros_(parameter)
    real = critic.loss((rotations, betas), (rotations, betas))
    assert (
        float(real.detach()) == 4
    )  # fakes score 0, which is right; reals do too, wrong by one in each of four outputs
