"""Finding people and their keypoints in pictures: the protocol of detectors, and the default one."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from vitruvian.errors import InputError
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.depth_cues import DepthCues
from vitruvian.keypoints.face_mesh import BODY_POINTS_ON_MESH, EYE_CORNERS
from vitruvian.keypoints.formats import get_format
from vitruvian.keypoints.images import Photograph
from vitruvian.keypoints.mediapipe_models import (
    FaceReader,
    FaceReading,
    HandReader,
    HandReading,
    IrisReader,
    PersonFinder,
    PersonHit,
    PoseReader,
    PoseReading,
)
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.picture_cues import PairedReading, SeenPeople, cues_of_reading
from vitruvian.keypoints.places import SIDES
from vitruvian.keypoints.regions import Pyramid, Region, region_of_axis, region_of_box
from vitruvian.tensors import concatenate_records


@runtime_checkable
class Detector(Protocol):
    """Anything that finds people in a picture."""

    def detect(self, image: Photograph) -> Keypoints:
        """Keypoints `(person, K)` in pixels of the picture, the largest person first; no rows if there is nobody."""
        ...


@dataclass(frozen=True)
class DetectorConfig:
    """What counts as a person, a hand, a face."""

    min_person_score: float = 0.5
    """Least score of a person in the whole picture."""
    min_tile_score: float = 0.6
    """Least score of a person found in a tile: there are more tiles, so more chances to be wrong."""
    min_pose_score: float = 0.8
    """Least score of the pose network, in both readings, that its region holds a person."""
    min_hand_score: float = 0.5
    min_face_score: float = 0.5
    tile_levels: int = 2
    """How often tiles are halved to find small people; 0 looks at the whole picture only."""
    min_tile_px: int = 160
    """Tiles smaller than this are not searched."""
    max_people: int = 50
    """The best-scored people beyond this number are left out."""


MIN_IMAGE_SIDE_PX = 32
BODY = get_format("mediapipe-pose33")
_FACE_POINTS = slice(0, 11)
"""Nose, eyes, ears and mouth among the body's points."""


@dataclass(frozen=True, eq=False)
class _Person:
    pose: PoseReading
    region: Region
    score: float

    @property
    def confidence(self) -> Float[np.ndarray, "33"]:
        return self.pose.visibility * self.pose.presence

    def point(self, place: str) -> Float[np.ndarray, "2"]:
        return self.pose.points[BODY.index(place)]


class MediaPipeDetector:
    """Everyone in a picture with body, hands, face mesh and irises (`mediapipe-holistic`), by MediaPipe's own models.

    The person detector searches the whole picture and two levels of overlapping tiles; each hit is read by the pose
    network, again in the region that the first reading proposes; hands and face are looked for where the pose has
    them. Confidence is visibility × presence for the body, and the network's score for every point of a hand or face.
    A hand or face that is not there, or does not fit the body, has confidence zero.

    Raises:
        MissingPackageError: the packages of the extra `detect` are not installed.
    """

    format = "mediapipe-holistic"

    def __init__(self, config: DetectorConfig | None = None) -> None:
        self.config = config or DetectorConfig()
        self._find_people = PersonFinder()
        self._read_pose = PoseReader()
        self._read_hand = HandReader()
        self._read_face = FaceReader()
        self._read_iris = IrisReader()

    def detect(self, image: Photograph) -> Keypoints:
        """Everyone in the picture, the largest person first; no rows if there is nobody.

        Raises:
            InputError: the picture is smaller than 32 pixels.
        """
        self._check(image)
        pyramid = Pyramid(image.pixels)
        return self._keypoints(image, pyramid, self._people(pyramid))

    def detect_with_cues(self, image: Photograph, camera: Camera | None = None) -> SeenPeople:
        """Everyone as `detect` finds them, and which way their bones point; one more pass of a network a person.

        Args:
            image: the picture.
            camera: of the picture; that of its metadata if None.

        Raises:
            InputError: the picture is smaller than 32 pixels.
        """
        self._check(image)
        camera = camera or image.camera()
        pyramid = Pyramid(image.pixels)
        people = self._people(pyramid)
        cues = [DepthCues.absent(0, dtype=camera.focal_px.dtype)]
        for person in people:
            mirrored = self._read_pose(pyramid, person.region, mirrored=True)
            reading = PairedReading(person.pose, mirrored, person.region)
            cues.append(cues_of_reading(reading, camera, scale=image.scale))
        return SeenPeople(self._keypoints(image, pyramid, people), concatenate_records(cues))

    def _keypoints(self, image: Photograph, pyramid: Pyramid, people: list[_Person]) -> Keypoints:
        if not people:
            return Keypoints.empty(self.format)
        rows = [self._read_parts(pyramid, person) for person in people]
        values = torch.tensor(np.stack(rows)).to(torch.get_default_dtype())
        found = Keypoints(values[..., :2], values[..., 2], self.format).sanitized((pyramid.width, pyramid.height))
        return replace(found, positions=found.positions / values.new_tensor(image.scale))

    def _check(self, image: Photograph) -> None:
        width, height = image.image_size
        if min(image.pixels.shape[:2]) < MIN_IMAGE_SIDE_PX:
            raise InputError(
                "the picture is too small to find a person in",
                seen=f"{image.name} {width} × {height} pixels".strip(),
                expected=f"at least {MIN_IMAGE_SIDE_PX} pixels each way",
            )

    def _people(self, pyramid: Pyramid) -> list[_Person]:
        hits = _without_near_repeats(list(self._hits(pyramid)))
        people = []
        for hit in hits:
            first = self._read_pose(pyramid, hit.region)
            if first.score < self.config.min_pose_score:
                continue
            pose = self._read_pose(pyramid, first.next_region)
            if pose.score < self.config.min_pose_score:
                continue
            person = _Person(pose, first.next_region, hit.score)
            people.append(replace(person, score=hit.score * pose.score * float(person.confidence.mean())))
        best = _without_repeats(people)[: self.config.max_people]
        return sorted(best, key=lambda person: -person.region.side)

    def _hits(self, pyramid: Pyramid) -> Iterator[PersonHit]:
        config = self.config
        whole = Region(pyramid.width / 2, pyramid.height / 2, max(pyramid.width, pyramid.height))
        yield from self._find_people(pyramid, whole, min_score=config.min_person_score)
        for level in range(1, config.tile_levels + 1):
            side = whole.side / 2**level
            if side < config.min_tile_px:
                return
            for x in _tile_centers(pyramid.width, side):
                for y in _tile_centers(pyramid.height, side):
                    for hit in self._find_people(pyramid, Region(x, y, side), min_score=config.min_tile_score):
                        if _lies_inside(hit, x, y, side):
                            yield hit

    def _read_parts(self, pyramid: Pyramid, person: _Person) -> Float[np.ndarray, "553 3"]:
        fmt = get_format(self.format)
        out = np.zeros((len(fmt), 3))
        face = self._face(pyramid, person)
        out[: len(BODY)] = _body_with_face(person, face)
        for side, reading in self._hands(pyramid, person).items():
            out[list(fmt.groups[f"{side}_hand"])] = np.column_stack((reading.points, np.full(21, reading.score**2)))
        if face is not None:
            rows = list(fmt.groups["face"])
            out[rows[:468]] = np.column_stack((face.points, np.full(468, face.score**2)))
            out[rows[468:]] = self._irises(pyramid, face)
        return out

    def _hands(self, pyramid: Pyramid, person: _Person) -> dict[str, HandReading]:
        found = {}
        for side in SIDES:
            reading = self._hand(pyramid, person, side)
            if reading is not None:
                found[side] = reading
        if len(found) == 2 and _same_hand(found["left"], found["right"]):
            drop = min(SIDES, key=lambda side: _side_score(found[side], side))
            del found[drop]
        return found

    def _hand(self, pyramid: Pyramid, person: _Person, side: str) -> HandReading | None:
        """The best reading of a hand that fits the forearm; None where there is none."""
        wrist, index, pinky = (person.point(f"{side}_{p}") for p in ("wrist", "index_knuckle", "pinky_knuckle"))
        if person.confidence[BODY.index(f"{side}_wrist")] < 0.1:
            return None
        middle = (2 * index + pinky) / 3
        reach = math.dist(wrist, middle)
        if reach < 1:
            return None
        guess = region_of_axis(middle, 2 * middle - wrist, 2 * reach).grown(2.7, shift_down=-0.1)
        readings = []
        for region in (self._read_hand.recrop(pyramid, guess), guess):
            first = self._read_hand(pyramid, region)
            second = self._read_hand(pyramid, _region_of_hand(first.points))
            readings += [first, second]
            if second.score >= 0.9 and _fits_arm(second, person, side):
                break
        fitting = [r for r in readings if r.score >= self.config.min_hand_score and _fits_arm(r, person, side)]
        return max(fitting, key=lambda reading: reading.score, default=None)

    def _face(self, pyramid: Pyramid, person: _Person) -> FaceReading | None:
        """The face mesh where the pose has a face; None where there is none."""
        points = person.pose.points
        if person.confidence[_FACE_POINTS].max() < 0.3:
            return None
        region = _region_of_pose_face(points)
        for _ in range(3):
            if region.side < 4:
                return None
            reading = self._read_face(pyramid, region)
            region = _region_of_face(reading.points)
        if reading.score < self.config.min_face_score or not _fits_head(reading, person):
            return None
        return reading

    def _irises(self, pyramid: Pyramid, face: FaceReading) -> Float[np.ndarray, "10 3"]:
        out = np.zeros((10, 3))
        for k, side in enumerate(("right", "left")):
            corners = face.points[list(EYE_CORNERS[side])]
            direction = corners[1] - corners[0]
            region = region_of_box(corners, math.atan2(direction[1], direction[0])).grown(2.3)
            if math.dist(*corners) < 8:
                continue
            points = self._read_iris(pyramid, region, mirrored=side == "left")
            out[5 * k : 5 * k + 5] = np.column_stack((points, np.full(5, face.score**2)))
        return out


def _body_with_face(person: _Person, face: FaceReading | None) -> Float[np.ndarray, "33 3"]:
    """The body's points; those on the face from the face mesh, which sees them larger, or doubted where it sees none.

    The pose network puts eyes and nose on the back of a head too, with full confidence.
    """
    body = np.column_stack((person.pose.points, person.confidence**2))
    if face is None:
        body[_FACE_POINTS, 2] *= 0.5
        return body
    for place, mesh in BODY_POINTS_ON_MESH.items():
        body[BODY.index(place)] = (*face.points[list(mesh)].mean(0), face.score**2)
    return body


def _tile_centers(length: int, side: float) -> Float[np.ndarray, "tile"]:
    """Centres of tiles that cover `length` and overlap by half or more."""
    if length <= side:
        return np.array([length / 2])
    count = math.ceil((length - side) / (side / 2)) + 1
    return np.linspace(side / 2, length - side / 2, count)


def _lies_inside(hit: PersonHit, x: float, y: float, side: float) -> bool:
    """Whether a hit in a tile is not of someone much larger than the tile, or centred outside it."""
    inside = abs(hit.region.x - x) < side / 2 and abs(hit.region.y - y) < side / 2
    return inside and hit.region.side < 1.5 * side


def _without_near_repeats(hits: list[PersonHit]) -> list[PersonHit]:
    """Hits whose region is nearly that of a better one say the same; dropping them early saves time."""
    kept: list[PersonHit] = []
    for hit in sorted(hits, key=lambda hit: -hit.score):
        for other in kept:
            near = math.dist((hit.region.x, hit.region.y), (other.region.x, other.region.y)) < 0.1 * other.region.side
            if near and abs(math.log(hit.region.side / other.region.side)) < 0.25:
                break
        else:
            kept.append(hit)
    return kept


def _without_repeats(people: list[_Person]) -> list[_Person]:
    """Each person once, the best reading of them, best first (suppression by keypoint similarity)."""
    kept: list[_Person] = []
    for person in sorted(people, key=lambda person: -person.score):
        if all(_similarity(person, other) < 0.4 for other in kept):
            kept.append(person)
    return kept


def _similarity(a: _Person, b: _Person) -> float:
    """Keypoint similarity: mean of exp(−d²/2σ²) over the points that both see, σ 6 % of the body's region."""
    weight = np.minimum(a.confidence, b.confidence)
    sigma = 0.06 * math.sqrt(a.region.side * b.region.side)
    squared = ((a.pose.points - b.pose.points) ** 2).sum(-1)
    return float((weight * np.exp(-squared / (2 * sigma**2))).sum() / max(weight.sum(), 1e-6))


def _region_of_hand(points: Float[np.ndarray, "21 2"]) -> Region:
    """The region to read a hand in again: palm and knuckles, wrist at the bottom (as MediaPipe tracks hands)."""
    knuckles = (0.5 * (points[6] + points[14]) + points[10]) / 2
    dx, dy = knuckles - points[0]
    palm = points[[0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18]]
    return region_of_box(palm, math.atan2(dx, -dy)).grown(2.0, shift_down=-0.1)


def _fits_arm(hand: HandReading, person: _Person, side: str) -> bool:
    """Whether a hand's wrist lies at the wrist of its arm, nearer than at the other one, and its size is a hand's."""
    size = _hand_size(hand)
    wrist, other = (person.point(f"{s}_wrist") for s in (side, SIDES[side == "left"]))
    gap = math.dist(hand.points[0], wrist)
    reach = max(size, math.dist(wrist, person.point(f"{side}_index_knuckle")))
    if not 0.01 * person.region.side < size < 0.3 * person.region.side:
        return False
    return gap < 0.8 * reach and (gap < math.dist(hand.points[0], other) or gap < 0.3 * reach)


def _hand_size(hand: HandReading) -> float:
    """Length of the palm or its width, whichever shows more."""
    points = hand.points
    return max(math.dist(points[0], points[9]), 1.5 * math.dist(points[5], points[17]))


def _same_hand(left: HandReading, right: HandReading) -> bool:
    size = max(_hand_size(left), _hand_size(right))
    return float(np.linalg.norm(left.points - right.points, axis=-1).mean()) < 0.35 * size


def _side_score(hand: HandReading, side: str) -> float:
    return hand.score * (hand.right if side == "right" else 1 - hand.right)


def _region_of_pose_face(points: Float[np.ndarray, "33 2"]) -> Region:
    """Where a face should be, from the eleven points that the pose has on it."""
    eyes, mouth = points[[2, 5]].mean(0), points[[9, 10]].mean(0)
    ears = math.dist(points[7], points[8])
    across = points[2] - points[5]  # from the right eye to the left one
    down = mouth - eyes
    height = math.hypot(*down)
    # Seen from the side the eyes fall together, and the direction from them to the mouth is the better guide.
    angle = math.atan2(-down[0], down[1]) if math.hypot(*across) < 0.5 * height else math.atan2(across[1], across[0])
    center = 0.5 * (eyes + mouth)
    return Region(float(center[0]), float(center[1]), max(1.9 * ears, 4.1 * height), angle)


def _region_of_face(points: Float[np.ndarray, "468 2"]) -> Region:
    """The region to read a face in again: all its points, eyes level."""
    (x0, y0), (x1, y1) = points[EYE_CORNERS["right"][0]], points[EYE_CORNERS["left"][1]]
    return region_of_box(points, math.atan2(y1 - y0, x1 - x0)).grown(1.5)


def _fits_head(face: FaceReading, person: _Person) -> bool:
    """Whether the face lies where the body's head is: nose near nose, eyes left and right as on the body."""
    size = math.dist(face.points[10], face.points[152])
    return math.dist(face.points[1], person.pose.points[0]) < 0.5 * size
