"""Known bodies in front of a camera and their keypoints, without any data but the package's own."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.rotations import exp_so3
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.targets import keypoint_targets
from vitruvian.priors.pose_bank import PoseBank


@dataclass(frozen=True)
class SeenPeople:
    """The truth, what is seen of it, and by what camera."""

    params: BodyParams
    keypoints: Keypoints
    camera: Camera


def seen_people(body: BodyModel, count: int, *, views: int = 1, noise_px: float = 0.0, seed: int = 0) -> SeenPeople:
    """`count` people in poses of the bank, each seen from `views` random sides; rows are person by person."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return (torch.rand(*shape, generator=generator, dtype=torch.float64) * (high - low) + low).to(body.dtype)

    bank = PoseBank.learnt().rotations.to(body.dtype)
    chosen = torch.randperm(len(bank), generator=generator)[:count].repeat_interleave(views)
    rotations = torch.eye(3, dtype=body.dtype).repeat(count * views, body.num_joints, 1, 1)
    rotations[:, :22] = bank[chosen]
    turn = uniform(-3.1, 3.1, count * views)
    zero = torch.zeros_like(turn)
    upright = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=body.dtype))
    rotations[:, 0] = upright @ exp_so3(torch.stack((zero, turn, zero), -1)) @ rotations[:, 0]
    betas = 0.5 * torch.randn(count, 10, generator=generator, dtype=torch.float64).to(body.dtype)
    betas = betas.repeat_interleave(views, 0)
    shaped = body.with_shape(betas)
    transl = torch.stack((0.1 * zero, zero, 3.5 + zero), -1) - shaped.joints[:, 0]
    params = BodyParams(rotations, betas, betas.new_zeros(count * views, 10), transl)
    camera = Camera.from_image_size(1000, 1000, dtype=body.dtype).map(lambda x: x.expand(count * views, 2).clone())
    targets = keypoint_targets(body, "openpose")
    pixels = camera.project(shaped.with_pose(rotations, transl).points(targets.points))
    pixels = pixels + noise_px * torch.randn(pixels.shape, generator=generator, dtype=torch.float64).to(body.dtype)
    keypoints = Keypoints.empty("openpose", people=count * views, dtype=body.dtype)
    positions, confidence = keypoints.positions.clone(), keypoints.confidence.clone()
    positions[:, targets.keypoint] = pixels
    confidence[:, targets.keypoint] = 1.0
    return SeenPeople(params, Keypoints(positions, confidence, "openpose"), camera)
