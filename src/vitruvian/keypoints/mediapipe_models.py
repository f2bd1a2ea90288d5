"""The networks inside the MediaPipe wheel, run one by one with LiteRT: people, pose, hand, face, iris.

MediaPipe itself is not imported: only its model files are read. Each class here is one network with its input size,
its decoding as MediaPipe's graphs do it, and nothing else; which picture regions they look at is decided elsewhere.
"""

import importlib.util
import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vitruvian.errors import MissingPackageError
from vitruvian.keypoints.formats import get_format
from vitruvian.keypoints.regions import Pyramid, Region, region_of_axis

INSTALL_HINT = 'pip install "vitruvian[detect]"'
_STDERR_LOCK = threading.Lock()


class Network:
    """One model file: a picture in, arrays out."""

    def __init__(self, file: str, *, num_threads: int = 1) -> None:
        self._interpreter = _load_interpreter(file, num_threads)
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [detail["index"] for detail in self._interpreter.get_output_details()]
        self.size = int(self._interpreter.get_input_details()[0]["shape"][1])

    def __call__(self, pixels: Float[np.ndarray, "size size 3"]) -> list[np.ndarray]:
        self._interpreter.set_tensor(self._input, np.ascontiguousarray(pixels[None], dtype=np.float32))
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index)[0] for index in self._outputs]


def _load_interpreter(file: str, num_threads: int) -> Any:
    """An interpreter for a model file of the installed MediaPipe.

    Raises:
        MissingPackageError: LiteRT or MediaPipe is not installed, or MediaPipe is a release without models.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise MissingPackageError(
            "detecting people needs the package ai-edge-litert", seen=str(error), hint=INSTALL_HINT
        ) from error
    found = importlib.util.find_spec("mediapipe")
    if found is None or found.origin is None:
        raise MissingPackageError("detecting people needs the package mediapipe", hint=INSTALL_HINT)
    path = Path(found.origin).parent / "modules" / file
    if not path.is_file():
        raise MissingPackageError(
            "the installed mediapipe lacks its models", seen=file, expected="mediapipe 0.10.21", hint=INSTALL_HINT
        )
    with _quiet_stderr():
        interpreter = Interpreter(model_path=str(path), num_threads=num_threads)
        interpreter.allocate_tensors()
    return interpreter


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Send the C++ library's log lines to nowhere; errors still arrive as exceptions."""
    with _STDERR_LOCK:
        try:
            saved = os.dup(2)
        except OSError:  # no standard error to be silenced
            yield
            return
        try:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def sigmoid(values: np.ndarray | float) -> np.ndarray:
    """Logistic function without overflow."""
    return 0.5 * (np.tanh(0.5 * np.asarray(values, dtype=np.float64)) + 1)


@dataclass(frozen=True)
class PersonHit:
    """A person found by the detector: `region` is upright with the hips in its middle and holds the whole body."""

    score: float
    region: Region
    box: tuple[float, float, float, float]


class PersonFinder:
    """`pose_detection`: boxes and four alignment points of the people in a square, over 2,254 anchors."""

    STRIDES_AND_ANCHORS = ((8, 2), (16, 2), (32, 6))
    BODY_SCALE = 1.25

    def __init__(self) -> None:
        self._network = Network("pose_detection/pose_detection.tflite")
        self._anchors = self._make_anchors()

    def _make_anchors(self) -> Float[np.ndarray, "2254 2"]:
        anchors = []
        for stride, count in self.STRIDES_AND_ANCHORS:
            cells = self._network.size // stride
            ys, xs = np.mgrid[:cells, :cells]
            grid = (np.stack((xs, ys), axis=-1).reshape(-1, 1, 2) + 0.5) / cells
            anchors.append(np.repeat(grid, count, axis=1).reshape(-1, 2))
        return np.concatenate(anchors)

    def __call__(self, pyramid: Pyramid, square: Region, *, min_score: float) -> list[PersonHit]:
        """Everyone in `square` with at least `min_score`, best first, without overlapping repeats."""
        raw, logits = self._network(pyramid.cut(square, self._network.size) * 2 - 1)
        scores = sigmoid(np.clip(logits[:, 0], -100, 100))
        keep = np.flatnonzero(scores >= min_score)
        keep = keep[np.argsort(-scores[keep], kind="stable")]
        raw = raw[keep].reshape(len(keep), 6, 2) / self._network.size
        points = raw + self._anchors[keep, None]
        half = raw[:, 1] / 2
        boxes = np.concatenate((points[:, 0] - half, points[:, 0] + half), axis=1)
        hits = []
        for row, merged in _merge_overlaps(boxes, scores[keep]):
            weights = scores[keep][merged][:, None]
            box = (boxes[merged] * weights).sum(0) / weights.sum()
            hip, reach = (square.to_picture((points[merged, k] * weights).sum(0, keepdims=True) / weights.sum())[0]
                          for k in (2, 3))  # fmt: skip
            side = 2 * self.BODY_SCALE * math.dist(hip, reach)
            if side >= 1:
                corners = square.to_picture(box.reshape(2, 2))
                region = region_of_axis(hip, reach, side)
                hits.append(PersonHit(float(scores[keep][row]), region, tuple(corners.flatten().tolist())))
        return hits


def _merge_overlaps(
    boxes: Float[np.ndarray, "box 4"], scores: Float[np.ndarray, "box"], *, min_iou: float = 0.3
) -> Iterator[tuple[int, np.ndarray]]:
    """For each box that no better one overlaps: its row, and the rows to average with it (weighted suppression)."""
    left = np.arange(len(boxes))
    area = np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1)
    while len(left):
        best = left[0]
        low = np.maximum(boxes[best, :2], boxes[left, :2])
        high = np.minimum(boxes[best, 2:], boxes[left, 2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        iou = shared / np.maximum(area[best] + area[left] - shared, 1e-12)
        same = (iou > min_iou) | (left == best)
        yield int(best), left[same]
        left = left[~same]


@dataclass(frozen=True)
class PoseReading:
    """33 body points of one person in pixels; `score` says whether there is a person at all.

    `landmarks` are the same points in metres from the middle of the hips, as a camera sees them that looks at the
    middle of the region: x right and y down along the axes of the picture, z away from the camera.
    """

    score: float
    points: Float[np.ndarray, "33 2"]
    visibility: Float[np.ndarray, "33"]
    presence: Float[np.ndarray, "33"]
    next_region: Region
    landmarks: Float[np.ndarray, "33 3"]


class PoseReader:
    """`pose_landmark_full`: the points of BlazePose in a region around one person."""

    HEATMAP_KERNEL = 7
    MIN_HEAT = 0.5

    def __init__(self) -> None:
        self._network = Network("pose_landmark/pose_landmark_full.tflite")
        # Left and right change places; the six points after the body's are means or edges of it and stay.
        self._mirror = np.array([*get_format("mediapipe-pose33").flip, *range(33, 39)])

    def __call__(self, pyramid: Pyramid, region: Region, *, mirrored: bool = False) -> PoseReading:
        """Read the person in a region; `mirrored` shows the network its mirror image, and turns the answer back."""
        crop = pyramid.cut(region, self._network.size)
        raw, score, _, heatmap, world = self._network(crop[:, ::-1] if mirrored else crop)
        values = raw.reshape(39, 5).astype(np.float64)
        points = self._refine(values[:, :2] / self._network.size, heatmap)
        landmarks = world.reshape(39, 3)[:33].astype(np.float64)
        if mirrored:
            points = (points * (-1, 1) + (1, 0))[self._mirror]
            landmarks = (landmarks * (-1, 1, 1))[self._mirror[:33]]
            values = values[self._mirror]
        pixels = region.to_picture(points)
        center, reach = pixels[33], pixels[34]
        return PoseReading(
            score=float(score[0]),
            points=pixels[:33],
            visibility=sigmoid(values[:33, 3]),
            presence=sigmoid(values[:33, 4]),
            next_region=region_of_axis(center, reach, 2 * PersonFinder.BODY_SCALE * math.dist(center, reach)),
            landmarks=region.turned_to_picture(landmarks),
        )

    def _refine(self, points: Float[np.ndarray, "39 2"], heatmap: Float[np.ndarray, "h w 39"]) -> np.ndarray:
        """Move each point to the centre of mass of its heat in a window, where the heat is certain enough."""
        height, width = heatmap.shape[:2]
        heat = sigmoid(heatmap)
        reach = self.HEATMAP_KERNEL // 2
        refined = points.copy()
        for k, (x, y) in enumerate(points):
            column, row = int(x * width), int(y * height)
            if not (0 <= column < width and 0 <= row < height):
                continue
            rows = slice(max(0, row - reach), min(height, row + reach + 1))
            columns = slice(max(0, column - reach), min(width, column + reach + 1))
            window = heat[rows, columns, k]
            total = window.sum()
            if window.max() >= self.MIN_HEAT and total > 0:
                ys, xs = np.mgrid[rows, columns]
                refined[k] = (window * xs).sum() / total / width, (window * ys).sum() / total / height
        return refined


@dataclass(frozen=True)
class HandReading:
    """21 points of a hand in pixels; `score` says whether there is a hand, `right` how sure it is a right one."""

    score: float
    right: float
    points: Float[np.ndarray, "21 2"]


class HandReader:
    """`hand_landmark_full`, and `hand_recrop`, which finds the hand in a region guessed from the arm."""

    def __init__(self) -> None:
        self._network = Network("hand_landmark/hand_landmark_full.tflite")
        self._recrop = Network("holistic_landmark/hand_recrop.tflite")

    def __call__(self, pyramid: Pyramid, region: Region) -> HandReading:
        raw, score, right, _ = self._network(pyramid.cut(region, self._network.size))
        points = raw.reshape(21, 3)[:, :2].astype(np.float64) / self._network.size
        return HandReading(float(score[0]), float(right[0]), region.to_picture(points))

    def recrop(self, pyramid: Pyramid, region: Region) -> Region:
        """A tighter region around the hand in `region`."""
        raw = self._recrop(pyramid.cut(region, self._recrop.size))[0].reshape(2, 2).astype(np.float64)
        center, reach = region.to_picture(raw / self._recrop.size)
        return region_of_axis(center, reach, 2 * math.dist(center, reach))


@dataclass(frozen=True)
class FaceReading:
    """468 points of a face in pixels; `score` says whether there is a face."""

    score: float
    points: Float[np.ndarray, "468 2"]


class FaceReader:
    """`face_landmark`: the face mesh in a region around an upright face."""

    def __init__(self) -> None:
        self._network = Network("face_landmark/face_landmark.tflite")

    def __call__(self, pyramid: Pyramid, region: Region) -> FaceReading:
        raw, score = self._network(pyramid.cut(region, self._network.size))
        points = raw.reshape(468, 3)[:, :2].astype(np.float64) / self._network.size
        return FaceReading(float(sigmoid(score.reshape(-1)[0])), region.to_picture(points))


class IrisReader:
    """`iris_landmark`: pupil and four points of the iris's rim in a region around one eye."""

    def __init__(self) -> None:
        self._network = Network("iris_landmark/iris_landmark.tflite")

    def __call__(self, pyramid: Pyramid, region: Region, *, mirrored: bool) -> Float[np.ndarray, "5 2"]:
        """Pixels of the five points. The network knows left eyes; a right one is shown to it `mirrored`."""
        pixels = pyramid.cut(region, self._network.size)
        raw = self._network(pixels[:, ::-1] if mirrored else pixels)[1]
        points = raw.reshape(5, 3)[:, :2].astype(np.float64) / self._network.size
        if mirrored:
            points[:, 0] = 1 - points[:, 0]
        return region.to_picture(points)
