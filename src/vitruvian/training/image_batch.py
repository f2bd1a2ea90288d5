"""From crops of people to what an image network sees and shall say, in the camera of each crop."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vitruvian.data.cropped_people import CroppedPeople
from vitruvian.keypoints.crops import normalized_pixels
from vitruvian.keypoints.observations import Keypoints
from vitruvian.recovery.crop_view import CropView, view_of_crop
from vitruvian.recovery.encoders.protocol import IMAGENET_MEAN, IMAGENET_STD
from vitruvian.recovery.image_losses import ImageTargets
from vitruvian.recovery.views import View
from vitruvian.tensors import BatchRecord


@dataclass(frozen=True, eq=False)
class ViewedCrops(BatchRecord):
    """What an encoder sees of people (pixels, and keypoints with the noise of a detector), and the truth."""

    pixels: UInt8[Tensor, "batch 3 size size"]
    crop_view: CropView
    view: View
    targets: ImageTargets

    def normalized(self) -> Float[Tensor, "batch 3 size size"]:
        """The pixels as encoders read them."""
        return normalized_pixels(self.pixels, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def viewed_crops(
    people: CroppedPeople, *, num_joints: int, noise_2d: float = 0.0, generator: torch.Generator | None = None
) -> ViewedCrops:
    """People in the camera of their crops.

    Args:
        people: the people.
        num_joints: joints that the network speaks of; those beyond the 22 of the body are at rest.
        noise_2d: standard deviation of the noise on the keypoints that an encoder sees, in sides of the crop.
        generator: source of the noise.
    """
    crop_view = CropView.of(people.crop, people.camera)
    size, body = people.rotations.shape[:2]
    rest = torch.eye(3).expand(size, num_joints - body, 3, 3)
    root = crop_view.R_camera_crop.transpose(-1, -2)[:, None] @ people.rotations[:, :1]
    seen = people.keypoints
    if noise_2d:
        spread = noise_2d * people.crop.side_px[:, None, None]
        noise = spread * torch.randn(seen.positions.shape, generator=generator)
        seen = Keypoints(seen.positions + noise, seen.confidence, seen.format)
    joints = crop_view.from_camera(people.joints)
    more = torch.zeros(size, num_joints - body, 3)
    return ViewedCrops(
        pixels=people.pixels,
        crop_view=crop_view,
        view=view_of_crop(crop_view, seen, people.camera),
        targets=ImageTargets(
            rotations=torch.cat((root, people.rotations[:, 1:], rest), dim=1),
            has_pose=people.has_pose,
            betas=people.betas,
            has_shape=people.has_shape,
            joints=torch.cat((joints, more), dim=1),
            joints_confidence=torch.cat((people.joints_confidence, more[..., 0]), dim=1),
            keypoints=crop_view.of_pixels(people.keypoints.positions, people.camera),
            confidence=people.keypoints.confidence,
        ),
    )
