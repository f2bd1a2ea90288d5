"""How the network sees a person: keypoints in a camera turned towards the person, scaled to unit size.

A virtual camera looks through the middle of the keypoints' bounding box. There a person looks the same wherever they
stand in the picture, and the turn back to the real camera is exact, so nothing about location has to be learnt.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.canonical import CANONICAL, canonical_format
from vitruvian.keypoints.observations import Keypoints
from vitruvian.tensors import BatchRecord

BORDER_LIMIT = 3.0
"""Distance, in half person sizes, from which the image border no longer counts."""


@dataclass(frozen=True, eq=False)
class View(BatchRecord):
    """One person in their virtual camera.

    Attributes:
        T_camera_view: rotation that takes directions of the virtual camera to the real one.
        half_size: half the larger side of the bounding box, as the tangent of an angle.
        points: keypoints in units of `half_size`, zero where unseen; canonical ones unless made by `points_view`.
        confidence: of the keypoints.
        borders: distances of the image borders (left, top, right, bottom) in units of `half_size`, clipped.
    """

    T_camera_view: Float[Tensor, "*batch 3 3"]
    half_size: Float[Tensor, "*batch"]
    points: Float[Tensor, "*batch point 2"]
    confidence: Float[Tensor, "*batch point"]
    borders: Float[Tensor, "*batch 4"]

    def project(self, points: Float[Tensor, "*batch point 3"]) -> Float[Tensor, "*batch point 2"]:
        """Points of the virtual camera frame in the units of `points`."""
        return points[..., :2] / points[..., 2:].clamp_min(1e-2) / self.half_size[..., None, None]


def view_of(keypoints: Keypoints, camera: Camera) -> View:
    """The view of each person; keypoints of any registered format, converted by name to the canonical ones."""
    return points_view(keypoints.sanitized().to_format(CANONICAL), camera)


def points_view(keypoints: Keypoints, camera: Camera) -> View:
    """The view of each person, with the points in the order of the keypoints' own format."""
    x, confidence = keypoints.positions, keypoints.confidence
    box = _box(x, confidence)
    center, half_px = (box[..., :2] + box[..., 2:]) / 2, (box[..., 2:] - box[..., :2]) / 2
    T = _rotation_to(torch.cat(((center - camera.center_px) / camera.focal_px, torch.ones_like(center[..., :1])), -1))
    half = (half_px / camera.focal_px).amax(-1).clamp_min(1e-4)

    def seen(pixels: Tensor) -> Tensor:
        rays = (pixels - camera.center_px[..., None, :]) / camera.focal_px[..., None, :]
        turned = torch.cat((rays, torch.ones_like(rays[..., :1])), -1) @ T
        return turned[..., :2] / turned[..., 2:].clamp_min(0.05) / half[..., None, None]

    mask = confidence > 0
    points = torch.where(mask[..., None], seen(x), 0.0).clamp(-8, 8)
    size = camera.image_size
    edges = torch.stack(
        (
            torch.stack((torch.zeros_like(center[..., 0]), center[..., 1]), -1),
            torch.stack((center[..., 0], torch.zeros_like(center[..., 0])), -1),
            torch.stack((size[..., 0], center[..., 1]), -1),
            torch.stack((center[..., 0], size[..., 1]), -1),
        ),
        dim=-2,
    )
    e = seen(edges)
    borders = torch.stack((e[..., 0, 0], e[..., 1, 1], e[..., 2, 0], e[..., 3, 1]), -1)
    return View(T, half, points, confidence, borders.clamp(-BORDER_LIMIT, BORDER_LIMIT))


def view_features(view: View) -> Float[Tensor, "*batch feature"]:
    """What the encoder reads: points, confidences, each hand and the face at their own scale, size, borders."""
    seen = (view.confidence > 0).to(view.points.dtype)
    parts = [(view.points * seen[..., None]).flatten(-2), view.confidence, seen]
    for rows in _part_rows(view.points.device):
        local, scale = local_points(view.points[..., rows, :], view.confidence[..., rows])
        parts += [local.flatten(-2), scale]
    parts += [view.borders, torch.log(view.half_size)[..., None] + 1.0]
    return torch.cat(parts, dim=-1)


def num_view_features() -> int:
    """Length of `view_features`."""
    points = len(canonical_format())
    groups = canonical_format().groups
    return 4 * points + sum(2 * len(groups[g]) + 1 for g in ("left_hand", "right_hand", "face")) + 5


def local_points(
    points: Float[Tensor, "*batch point 2"], confidence: Float[Tensor, "*batch point"]
) -> tuple[Float[Tensor, "*batch point 2"], Float[Tensor, "*batch 1"]]:
    """Points about the middle of their own bounding box in units of half its larger side, and the log of that."""
    box = _box(points, confidence)
    half = ((box[..., 2:] - box[..., :2]) / 2).amax(-1).clamp_min(1e-3)
    centered = (points - ((box[..., :2] + box[..., 2:]) / 2)[..., None, :]) / half[..., None, None]
    any_seen = (confidence > 0).any(-1)
    scale = torch.where(any_seen, torch.log(half), 0.0)
    return torch.where((confidence > 0)[..., None], centered, 0.0).clamp(-4, 4), scale[..., None]


@lru_cache(maxsize=8)
def _part_rows(device: torch.device) -> tuple[Tensor, ...]:
    groups = canonical_format().groups
    return tuple(torch.tensor(groups[g], device=device) for g in ("left_hand", "right_hand", "face"))


def _box(points: Tensor, confidence: Tensor) -> Float[Tensor, "*batch 4"]:
    """Bounding box of the points that are seen well, for the confidence that each person has; zeros without any."""
    limit = (0.5 * confidence.amax(-1, keepdim=True)).clamp_max(0.25)
    mask = ((confidence > 0) & (confidence >= limit))[..., None]
    low = torch.where(mask, points, torch.inf).amin(-2)
    high = torch.where(mask, points, -torch.inf).amax(-2)
    box = torch.cat((low, high), -1)
    return torch.where(mask.any(-2), box, torch.zeros_like(box))


def _rotation_to(direction: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The smallest rotation that takes the z axis to a direction with z > 0."""
    x, y, z = torch.nn.functional.normalize(direction, dim=-1).unbind(-1)
    k = 1 / (1 + z)
    rows = (1 - k * x * x, -k * x * y, x, -k * x * y, 1 - k * y * y, y, -x, -y, z)
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))
