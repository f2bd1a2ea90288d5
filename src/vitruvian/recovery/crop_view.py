"""The camera of a crop: turned towards its middle and with it, in units of half its side.

There a person looks the same wherever they stand in the picture; the turn back to the real camera is exact.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.rotations import exp_so3, rotation_onto
from vitruvian.keypoints.canonical import CANONICAL
from vitruvian.keypoints.crops import Crop
from vitruvian.keypoints.observations import Keypoints
from vitruvian.recovery.views import View
from vitruvian.tensors import BatchRecord

_LEAST_SCALE = 0.05
_NEAREST = 0.05


@dataclass(frozen=True, eq=False)
class CropView(BatchRecord):
    """The virtual camera of each crop.

    Attributes:
        R_camera_crop: rotation that takes directions of the crop's camera to the real one.
        half_size: half the side of the crop, as the tangent of an angle.
    """

    R_camera_crop: Float[Tensor, "*batch 3 3"]
    half_size: Float[Tensor, "*batch"]

    @classmethod
    def of(cls, crop: Crop, camera: Camera) -> "CropView":
        """The view of each crop in the camera of its picture."""
        ray = (crop.center_px - camera.center_px) / camera.focal_px
        towards = rotation_onto(torch.cat((ray, torch.ones_like(ray[..., :1])), dim=-1))
        zero = torch.zeros_like(crop.angle)
        roll = exp_so3(torch.stack((zero, zero, crop.angle), dim=-1))
        half = crop.side_px / 2 / camera.focal_px.mean(-1)
        return cls(towards @ roll, half)

    def of_pixels(self, pixels: Float[Tensor, "*batch point 2"], camera: Camera) -> Float[Tensor, "*batch point 2"]:
        """Pixels of the picture in units of half a side, from the middle of the crop."""
        rays = (pixels - camera.center_px[..., None, :]) / camera.focal_px[..., None, :]
        turned = torch.cat((rays, torch.ones_like(rays[..., :1])), dim=-1) @ self.R_camera_crop
        return turned[..., :2] / turned[..., 2:].clamp_min(_NEAREST) / self.half_size[..., None, None]

    def project(self, points: Float[Tensor, "*batch point 3"]) -> Float[Tensor, "*batch point 2"]:
        """Points of the crop's camera frame in the same units."""
        return points[..., :2] / points[..., 2:].clamp_min(_NEAREST) / self.half_size[..., None, None]

    def from_camera(self, points: Float[Tensor, "*batch point 3"]) -> Float[Tensor, "*batch point 3"]:
        """Points of the real camera's frame in that of the crop."""
        return points @ self.R_camera_crop

    def translation(self, camera: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """Where the body's origin lies, metres, by a weak-perspective camera (scale s, x, y): at depth 1 / (s · half).

        A body of two metres fills the crop at s = 1 (ProHMR, with the true opening of the crop in place of a focal
        length of 5000 pixels).
        """
        depth = 1 / (camera[..., 0].clamp_min(_LEAST_SCALE) * self.half_size)
        return torch.cat((camera[..., 1:], depth[..., None]), dim=-1)


def view_of_crop(crop_view: CropView, keypoints: Keypoints, camera: Camera) -> View:
    """The keypoints of each person in the camera of their crop, for an encoder that reads them."""
    seen = keypoints.evidence().to_format(CANONICAL)
    points = crop_view.of_pixels(seen.positions, camera)
    points = torch.where((seen.confidence > 0)[..., None], points, 0.0).clamp(-8, 8)
    not_known = torch.zeros_like(crop_view.R_camera_crop[..., 0])
    return View(crop_view.R_camera_crop, crop_view.half_size, points, seen.confidence, gravity=not_known)
