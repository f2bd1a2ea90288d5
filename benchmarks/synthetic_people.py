"""Seeded synthetic people with known bodies, and the keypoints a camera would see of them."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.data.mocap import load_pose_dataset
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.rotations import exp_so3
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.targets import keypoint_targets
from vitruvian.priors.pose_spaces import HandPCA

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True)
class PeopleConfig:
    """How the people are drawn.

    Attributes:
        count: number of people.
        seed: of every random number.
        noise_px: standard deviation of the keypoints, in pixels of a person about 700 pixels tall.
        missing: share of keypoints that are not seen.
        image_px: side of the square picture.
        split: subjects of the motion capture.
    """

    count: int = 200
    seed: int = 0
    noise_px: float = 2.0
    missing: float = 0.2
    image_px: int = 1000
    split: str = "test"


@dataclass(frozen=True)
class SyntheticPeople:
    """Bodies in the camera frame, and what is seen of them."""

    params: BodyParams
    keypoints: Keypoints
    camera: Camera


def draw_people(body: BodyModel, config: PeopleConfig, *, format: str = "openpose") -> SyntheticPeople:
    """Draw people: natural body poses of subjects that no training saw, random hands, jaw, shapes, yaw and cameras."""
    generator = torch.Generator().manual_seed(config.seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(body.dtype)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return (torch.rand(*shape, generator=generator, dtype=torch.float64) * (high - low) + low).to(body.dtype)

    count = config.count
    poses = load_pose_dataset(SHARED_DATA, split=config.split).rotations
    chosen = torch.randperm(len(poses), generator=generator)[:count]
    rotations = torch.eye(3, dtype=body.dtype).repeat(count, body.num_joints, 1, 1)
    rotations[:, 1:22] = poses[chosen][:, 1:22].to(body.dtype)
    for side in ("left", "right"):
        space = HandPCA.learnt(side, num_components=20)
        rotations[:, list(space.joints)] = space.decode(normal(count, 20))
    jaw = torch.zeros(count, 3, dtype=body.dtype)
    jaw[:, 0] = uniform(0.0, 0.25, count)
    rotations[:, 22] = exp_so3(jaw)

    # Keep the trunk's lean of the motion capture, turn the person about the vertical at will, tilt the camera a little.
    zeros = torch.zeros(count, dtype=body.dtype)
    yaw = exp_so3(torch.stack((zeros, uniform(-3.1416, 3.1416, count), zeros), -1))
    tilt = exp_so3(torch.stack((normal(count) * 0.15, zeros, normal(count) * 0.05), -1))
    upright = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=body.dtype))
    rotations[:, 0] = tilt @ upright @ yaw @ poses[chosen][:, 0].to(body.dtype)

    betas = normal(count, 10)
    expression = 0.7 * normal(count, 10)
    camera = Camera.from_image_size(config.image_px, config.image_px, dtype=body.dtype).map(
        lambda x: x.expand(count, 2).clone()
    )
    transl = torch.stack((uniform(-0.3, 0.3, count), uniform(-0.2, 0.2, count), uniform(2.6, 4.5, count)), -1)
    # The root's place in the rest pose is part of the translation, so that the pelvis lies where `transl` was drawn.
    transl = transl - body.with_shape(betas, expression).joints[:, 0]
    params = BodyParams(rotations, betas, expression, transl)

    posed = body.with_shape(betas, expression).with_pose(rotations, transl)
    targets = keypoint_targets(body, format)
    keypoints = Keypoints.empty(format, people=count, dtype=body.dtype)
    seen = camera.project(posed.points(targets.points))
    positions, confidence = keypoints.positions.clone(), keypoints.confidence.clone()
    positions[:, targets.keypoint] = seen + config.noise_px * normal(*seen.shape)
    confidence[:, targets.keypoint] = (uniform(0, 1, count, len(targets)) >= config.missing).to(body.dtype)
    size = (float(config.image_px), float(config.image_px))
    return SyntheticPeople(params, Keypoints(positions, confidence, format).sanitized(size), camera)
