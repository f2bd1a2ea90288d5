"""How the network sees a person: keypoints in a camera turned to and with the person, scaled to unit size.

A virtual camera looks through the middle of the person and stands so that the direction in which the person's height
grows points up. There a person looks the same wherever they stand in the picture and however the picture is turned
about its axis, and the turn back to the real camera is exact, so nothing about either has to be learnt.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.canonical import CANONICAL, canonical_format
from vitruvian.keypoints.formats import get_format
from vitruvian.keypoints.observations import EVIDENCE_CONFIDENCE, Keypoints
from vitruvian.tensors import BatchRecord

_HEIGHTS_M = {
    "head_top": 1.72, "eye": 1.59, "ear": 1.58, "nose": 1.56, "neck_nose": 1.54, "upper_neck": 1.48,
    "shoulder": 1.41, "shoulder_center": 1.41, "spine": 1.16, "hip": 0.92, "hip_center": 0.92, "knee": 0.48,
    "ankle": 0.08, "heel": 0.03, "big_toe": 0.02, "small_toe": 0.02, "elbow": 1.12, "wrist": 0.88,
}  # fmt: skip
"""Heights of keypoints in a standing person, by place without its side."""
_TRUNK = ("shoulder", "shoulder_center", "spine", "hip", "hip_center")
_HEAD = ("head_top", "eye", "ear", "nose", "neck_nose", "upper_neck")
_LEG = ("knee", "ankle", "heel", "big_toe", "small_toe")
_WEIGHTS = {"trunk": 1.0, "head": 0.5, "leg": 0.1, "arm": 0.02, "face": 0.05, "hand": 0.005}
"""How much a point of each part says of where up is: trunks hardly bend, arms go anywhere."""


@dataclass(frozen=True, eq=False)
class View(BatchRecord):
    """One person in their virtual camera.

    Attributes:
        R_camera_view: rotation that takes directions of the virtual camera to the real one.
        half_size: half the larger side of the bounding box, as the tangent of an angle.
        points: keypoints in units of `half_size`, zero where unseen; canonical ones unless made by `points_view`.
        confidence: of the keypoints.
        gravity: direction of gravity in the virtual camera, a unit vector; zeros where it is not known.
    """

    R_camera_view: Float[Tensor, "*batch 3 3"]
    half_size: Float[Tensor, "*batch"]
    points: Float[Tensor, "*batch point 2"]
    confidence: Float[Tensor, "*batch point"]
    gravity: Float[Tensor, "*batch 3"]

    def project(self, points: Float[Tensor, "*batch point 3"]) -> Float[Tensor, "*batch point 2"]:
        """Points of the virtual camera frame in the units of `points`."""
        return points[..., :2] / points[..., 2:].clamp_min(1e-2) / self.half_size[..., None, None]


def view_of(
    keypoints: Keypoints,
    camera: Camera,
    *,
    gravity: Float[Tensor, "*batch 3"] | None = None,
    min_confidence: float = EVIDENCE_CONFIDENCE,
) -> View:
    """The view of each person.

    Args:
        keypoints: of any registered format, converted by name to the canonical ones.
        camera: one per person.
        gravity: direction of gravity in the camera frame, of any length; zeros, or None for all, where not known.
        min_confidence: least confidence of points that count.
    """
    return points_view(keypoints.evidence(min_confidence).to_format(CANONICAL), camera, gravity=gravity)


def points_view(keypoints: Keypoints, camera: Camera, *, gravity: Float[Tensor, "*batch 3"] | None = None) -> View:
    """The view of each person, with the points in the order of the keypoints' own format; all that are seen count."""
    confidence = keypoints.confidence
    rays = (keypoints.positions - camera.center_px[..., None, :]) / camera.focal_px[..., None, :]
    rays = torch.where((confidence > 0)[..., None], rays, 0.0)
    R_camera_rolled = _roll(up_in_picture(rays, confidence, keypoints.format))
    rays = rays @ R_camera_rolled[..., :2, :2]
    box = _box(rays, confidence)
    center, half = (box[..., :2] + box[..., 2:]) / 2, ((box[..., 2:] - box[..., :2]) / 2).amax(-1).clamp_min(1e-4)
    R_rolled_view = _rotation_to(torch.cat((center, torch.ones_like(center[..., :1])), -1))
    turned = torch.cat((rays, torch.ones_like(rays[..., :1])), -1) @ R_rolled_view
    points = turned[..., :2] / turned[..., 2:].clamp_min(0.05) / half[..., None, None]
    points = torch.where((confidence > 0)[..., None], points, 0.0).clamp(-8, 8)
    R_camera_view = R_camera_rolled @ R_rolled_view
    if gravity is None:
        down = torch.zeros_like(R_camera_view[..., 0])
    else:
        unit = torch.nn.functional.normalize(gravity.to(R_camera_view), dim=-1)
        down = (R_camera_view.transpose(-1, -2) @ unit[..., None])[..., 0]
    return View(R_camera_view, half, points, confidence, down)


def up_in_picture(
    rays: Float[Tensor, "*batch point 2"], confidence: Float[Tensor, "*batch point"], format: str
) -> Float[Tensor, "*batch 2"]:
    """Unit direction of the picture in which the height of the points in a standing person grows.

    Σ w (h − h̄)(x − x̄) with weights of the parts times confidence: it turns with the picture, is mirrored with it, and
    has no threshold. The picture's own vertical where the points tell nothing.
    """
    heights, weights = (t.to(rays) for t in _heights_and_weights(format))
    w = weights * confidence
    share = w / w.sum(-1, keepdim=True).clamp_min(1e-12)
    height = heights - (share * heights).sum(-1, keepdim=True)
    middle = (share[..., None] * rays).sum(-2, keepdim=True)
    up = ((share * height)[..., None] * (rays - middle)).sum(-2)
    length = up.norm(dim=-1, keepdim=True)
    vertical = torch.zeros_like(up)
    vertical[..., 1] = -1
    return torch.where(length > 1e-9, up / length.clamp_min(1e-9), vertical)


@lru_cache(maxsize=16)
def _heights_and_weights(format: str) -> tuple[Float[Tensor, "point"], Float[Tensor, "point"]]:
    definition = get_format(format)
    rows = {row: group for group, members in definition.groups.items() for row in members}
    heights, weights = [], []
    for row, place in enumerate(definition.places):
        name = place.removeprefix("left_").removeprefix("right_")
        part = "trunk" if name in _TRUNK else "head" if name in _HEAD else "leg" if name in _LEG else "arm"
        if rows.get(row, "body") != "body":
            part = "face" if rows[row] == "face" else "hand"
        heights.append(_HEIGHTS_M["nose" if part == "face" else "wrist" if part == "hand" else name])
        weights.append(_WEIGHTS[part])
    return torch.tensor(heights), torch.tensor(weights)


def feature_blocks() -> dict[str, int]:
    """Names and lengths of the parts of `view_features`, in order: they tell what a network was trained on."""
    groups = canonical_format().groups
    count = len(canonical_format())
    parts = {f"{name}_points": 2 * len(groups[name]) + 1 for name in ("left_hand", "right_hand", "face")}
    return {"points": 2 * count, "confidence": count, "seen": count, **parts, "half_size": 1, "gravity": 4}


def view_features(view: View) -> Float[Tensor, "*batch feature"]:
    """What the encoder reads: the blocks of `feature_blocks`."""
    seen = (view.confidence > 0).to(view.points.dtype)
    parts = [(view.points * seen[..., None]).flatten(-2), view.confidence, seen]
    for rows in _part_rows(view.points.device):
        local, scale = local_points(view.points[..., rows, :], view.confidence[..., rows])
        parts += [local.flatten(-2), scale]
    known = view.gravity.norm(dim=-1, keepdim=True)
    parts += [torch.log(view.half_size)[..., None] + 1.0, view.gravity, known]
    return torch.cat(parts, dim=-1)


def num_view_features() -> int:
    """Length of `view_features`."""
    return sum(feature_blocks().values())


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


def _roll(up: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation about the optical axis whose picture has the direction `up` pointing up: it takes (0, −1) to `up`."""
    x, y = up.unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return torch.stack((-y, -x, zero, x, -y, zero, zero, zero, one), dim=-1).unflatten(-1, (3, 3))


def _rotation_to(direction: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The smallest rotation that takes the z axis to a direction with z > 0."""
    x, y, z = torch.nn.functional.normalize(direction, dim=-1).unbind(-1)
    k = 1 / (1 + z)
    rows = (1 - k * x * x, -k * x * y, x, -k * x * y, 1 - k * y * y, y, -x, -y, z)
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))
