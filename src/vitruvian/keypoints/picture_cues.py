"""Depth cues of people from the picture itself, read by MediaPipe's pose landmark network.

Beside points in the picture the network gives 33 points in metres, learnt from real photographs. As a body they are
worse than a fit, and feet and lengths are poor; but which way a thigh points, towards the camera or away from it, they
know where keypoints cannot.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float

from vitruvian.errors import InputError
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.rotations import rotation_to_direction
from vitruvian.keypoints.depth_cues import BONE_NAMES, BONES, DepthCues
from vitruvian.keypoints.formats import get_format
from vitruvian.keypoints.images import Photograph
from vitruvian.keypoints.mediapipe_models import PersonFinder, PoseReader, PoseReading
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.places import SIDES
from vitruvian.keypoints.regions import Pyramid, Region, region_of_axis, region_of_box
from vitruvian.tensors import BatchRecord, concatenate_records

_FORMAT = get_format("mediapipe-pose33")
_STARTS = [_FORMAT.index(start) for start, _ in BONES.values()]
_ENDS = [_FORMAT.index(end) for _, end in BONES.values()]
_OTHER_SIDE = np.array(_FORMAT.flip)
_PASSES_APART = 0.6
"""Difference of the directions of picture and mirror image at which confidence falls to one half."""
_POINTS_APART = 0.07
"""The same for the distance of the network's points from the given keypoints, as a share of the person's size."""
_MIN_CONFIDENCE = 0.1
"""Keypoints below this are not seen."""
MIN_SCORE = 0.5
"""Least score of the network that the region holds a person."""


@dataclass(frozen=True, eq=False)
class SeenPeople(BatchRecord):
    """What a picture tells of N people: where their keypoints are, and which way their bones point."""

    keypoints: Keypoints
    cues: DepthCues


@dataclass(frozen=True, eq=False)
class PairedReading:
    """One person read twice: as they are, and in the mirror image, turned back."""

    straight: PoseReading
    mirrored: PoseReading
    region: Region

    @property
    def points(self) -> Float[np.ndarray, "33 2"]:
        """Mean of both, pixels of the picture that was read."""
        return (self.straight.points + self.mirrored.points) / 2


def read_twice(reader: PoseReader, pyramid: Pyramid, region: Region) -> PairedReading:
    """Read the person in a region straight and mirrored."""
    return PairedReading(reader(pyramid, region), reader(pyramid, region, mirrored=True), region)


def cues_of_reading(reading: PairedReading, camera: Camera, *, scale: tuple[float, float] = (1.0, 1.0)) -> DepthCues:
    """Cues of one person (batch axis of one) in the camera frame.

    The network answers for a camera that looks at the person; that camera's turn is undone here. Directions of both
    readings are averaged. Confidence is the lower visibility of the two ends, less where the readings disagree.

    Args:
        reading: what the network said.
        camera: of the picture in its own size.
        scale: pixels that were read per pixel of `camera`, along x and y.
    """
    directions, visible = [], []
    for one in (reading.straight, reading.mirrored):
        along = one.landmarks[_ENDS] - one.landmarks[_STARTS]
        directions.append(along / np.linalg.norm(along, axis=-1, keepdims=True).clip(1e-9))
        visible.append(one.visibility * one.presence)
    sure = np.mean(visible, axis=0)
    apart = ((directions[0] - directions[1]) ** 2).sum(-1)
    confidence = np.minimum(sure[_STARTS], sure[_ENDS]) * _gate(apart / _PASSES_APART**2)
    if min(reading.straight.score, reading.mirrored.score) < MIN_SCORE:
        confidence = np.zeros_like(confidence)
    mean = torch.from_numpy(directions[0] + directions[1])
    pixel = torch.tensor([reading.region.x / scale[0], reading.region.y / scale[1]], dtype=torch.float64)
    ray = camera.to(dtype=torch.float64).unproject(pixel[None], torch.ones(1, dtype=torch.float64))[0]
    turned = torch.nn.functional.normalize(mean @ rotation_to_direction(ray).T, dim=-1)
    cues = DepthCues(turned[None], torch.from_numpy(confidence)[None])
    return cues.to(dtype=camera.focal_px.dtype)


def cues_in_picture(
    photograph: Photograph, keypoints: Keypoints, camera: Camera, *, reader: PoseReader | None = None
) -> DepthCues:
    """Depth cues of people whose keypoints are known, from their photograph; two passes of the network a person.

    The network looks at the region around the keypoints of each person. Where its own points do not lie on the given
    ones, it saw somebody else or took left for right, and its directions have no confidence; nor have those of bones
    whose ends are not among the keypoints.

    Args:
        photograph: the picture.
        keypoints: `(person, K)`, pixels of the picture in its own size, any registered format with limbs.
        camera: of the picture.
        reader: the network, in place of the one that is made once.

    Raises:
        InputError: the keypoints have no person axis.
        MissingPackageError: the packages of the extra `detect` are not installed.
    """
    if keypoints.confidence.dim() != 2:
        raise InputError("keypoints need one person axis", seen=tuple(keypoints.confidence.shape), expected="(N, K)")
    count = keypoints.confidence.shape[0]
    if count == 0:
        return DepthCues.absent(0, dtype=camera.focal_px.dtype)
    reader = reader or _shared_reader()
    pyramid = Pyramid(photograph.pixels)
    scale = np.array(photograph.scale)
    given = keypoints.sanitized().to_format(_FORMAT.name)
    rows = []
    for person in range(count):
        positions = given.positions[person].cpu().double().numpy() * scale
        confidence = given.confidence[person].cpu().double().numpy()
        region = region_of_person(positions, confidence)
        if region is None:
            rows.append(DepthCues.absent(1, dtype=camera.focal_px.dtype))
            continue
        reading = read_twice(reader, pyramid, region)
        cues = cues_of_reading(reading, camera, scale=photograph.scale)
        trust = torch.from_numpy(agreement(reading.points, positions, confidence)).to(cues.confidence)
        rows.append(DepthCues(cues.directions, cues.confidence * trust))
    return concatenate_records(rows)


def region_of_person(positions: Float[np.ndarray, "33 2"], confidence: Float[np.ndarray, "33"]) -> Region | None:
    """The region in which the network expects a person: hips in the middle, shoulders above; None if little is seen."""
    seen = confidence >= _MIN_CONFIDENCE
    if seen.sum() < 3:
        return None
    ends = {}
    for place in ("hip", "shoulder"):
        rows = [row for side in SIDES if seen[row := _FORMAT.index(f"{side}_{place}")]]
        if rows:
            ends[place] = positions[rows].mean(0)
    if len(ends) < 2 or math.dist(ends["hip"], ends["shoulder"]) < 1:
        region = region_of_box(positions[seen], 0.0)
        return region.grown(PersonFinder.BODY_SCALE) if region.side >= 1 else None
    reach = np.linalg.norm(positions[seen] - ends["hip"], axis=-1).max()
    return region_of_axis(ends["hip"], ends["shoulder"], float(2 * PersonFinder.BODY_SCALE * reach))


def agreement(
    found: Float[np.ndarray, "33 2"], given: Float[np.ndarray, "33 2"], confidence: Float[np.ndarray, "33"]
) -> Float[np.ndarray, "bone"]:
    """How well the network's points lie on the given keypoints, per bone, from 0 to 1.

    Zero for bones whose ends are not given, and for those that lie better on the other side's keypoints.
    """
    seen = confidence >= _MIN_CONFIDENCE
    extent = np.ptp(given[seen], axis=0).max() if seen.any() else 1.0
    squared = ((found - given) ** 2).sum(-1) / max(extent, 1.0) ** 2
    crossed = ((found - given[_OTHER_SIDE]) ** 2).sum(-1) / max(extent, 1.0) ** 2
    both = seen & seen[_OTHER_SIDE]
    out = np.zeros(len(BONE_NAMES))
    for row, (start, end) in enumerate(zip(_STARTS, _ENDS, strict=True)):
        exchanged = both[start] and both[end] and crossed[start] + crossed[end] < squared[start] + squared[end]
        if seen[start] and seen[end] and not exchanged:
            out[row] = _gate(max(squared[start], squared[end]) / _POINTS_APART**2)
    return out


def _gate(squared: np.ndarray | np.floating) -> np.ndarray | np.floating:
    """1 / (1 + x⁴) of x²: directions are about equally good up to a limit, and worthless soon beyond it."""
    return 1 / (1 + squared**2)


@cache
def _shared_reader() -> PoseReader:
    return PoseReader()
