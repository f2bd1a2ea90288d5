"""Measure how far keypoints as COCO's annotators click them (OpenPose) lie from those of MediaPipe, in 3D.

Both see the same person in four calibrated videos; each is triangulated, and the middles and widths of hips and
shoulders are compared in units of the trunk and of the own width. Videos are read with OpenCV, which
comes with MediaPipe.

    python scripts/measure_coco_definition.py --archive four_view_balancing.zip --out coco.json
"""

import json
import tempfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from jaxtyping import Float
from rich.progress import track

from vitruvian.errors import InputError
from vitruvian.keypoints.detectors import DetectorConfig, MediaPipeDetector
from vitruvian.keypoints.images import Photograph
from vitruvian.keypoints.openpose import read_keypoints
from vitruvian.keypoints.places import SIDES

MIN_CONFIDENCE = 0.3
ROBUST_PX = 15.0
COMPARED = ("shoulder", "hip", "elbow", "wrist", "knee", "ankle", "heel", "big_toe")
Points = dict[str, Float[np.ndarray, "3"]]


@dataclass(frozen=True)
class Arguments:
    """What to measure on."""

    archive: Path
    """The archive of the four-view recording."""
    out: Path
    """File to write, .json."""
    every: int = 4
    """Use every n-th frame."""


def triangulate(
    cameras: list[Float[np.ndarray, "3 4"]], pixels: list[Float[np.ndarray, "2"]]
) -> Float[np.ndarray, "3"]:
    """Robust linear triangulation: rows divided by depth, and reweighted by reprojection error."""
    weights = np.ones(len(cameras))
    for _ in range(4):
        rows = []
        for P, (u, v), w in zip(cameras, pixels, weights, strict=True):
            rows += [w * (u * P[2] - P[0]), w * (v * P[2] - P[1])]
        X = np.linalg.svd(np.array(rows))[2][-1]
        for k, (P, uv) in enumerate(zip(cameras, pixels, strict=True)):
            projected = P @ (X / X[3])
            error = float(np.linalg.norm(projected[:2] / projected[2] - uv))
            weights[k] = 1 / projected[2] / (1 + (error / ROBUST_PX) ** 2)
    return X[:3] / X[3]


def reconstruct(
    cameras: dict[int, Float[np.ndarray, "3 4"]], seen: dict[int, dict[str, Float[np.ndarray, "3"]]]
) -> Points:
    """3D points of the places that at least three cameras see."""
    out: Points = {}
    for place in (f"{side}_{part}" for side in SIDES for part in COMPARED):
        views = [(cameras[c], points[place][:2]) for c, points in seen.items() if points[place][2] > MIN_CONFIDENCE]
        if len(views) >= 3:
            out[place] = triangulate([view[0] for view in views], [view[1] for view in views])
    return out


def read_cameras(path: Path) -> dict[int, Float[np.ndarray, "3 4"]]:
    """Projection matrices by number of the camera."""
    content = tomllib.loads(path.read_text())
    cameras = {}
    for name, entry in content.items():
        if "matrix" in entry:
            rotation = cv2.Rodrigues(np.array(entry["rotation"]))[0]
            extrinsic = np.column_stack((rotation, np.array(entry["translation"])))
            cameras[int(name[-2:])] = np.array(entry["matrix"]) @ extrinsic
    return cameras


def watch(folder: Path, every: int, cameras: dict[int, np.ndarray]) -> dict[str, dict[int, Points]]:
    """Per detector and frame, the reconstructed points."""
    detector = MediaPipeDetector(DetectorConfig(tile_levels=1))
    seen: dict[str, dict[int, dict[int, dict[str, np.ndarray]]]] = {"mediapipe": {}, "coco": {}}
    for number in track(sorted(cameras), description="Cameras"):
        video = cv2.VideoCapture(str(next(folder.rglob(f"cam{number:02d}.mp4"))))
        frame = 0
        while (read := video.read())[0]:
            if frame % every == 0:
                people = detector.detect(Photograph.from_array(read[1][:, :, ::-1]))
                if people.confidence.shape[0]:
                    _note(seen["mediapipe"], frame, number, people[0])
                file = next(folder.rglob(f"cam{number:02d}.{frame:04d}.json"), None)
                try:
                    people = read_keypoints(file, format="openpose-body25b") if file else people[:0]
                except InputError:
                    people = people[:0]  # some frames were saved without keypoints
                if people.confidence.shape[0]:
                    _note(seen["coco"], frame, number, people[0])
            frame += 1
    return {
        name: {frame: reconstruct(cameras, views) for frame, views in frames.items()} for name, frames in seen.items()
    }


def _note(frames: dict, frame: int, camera: int, person) -> None:  # type: ignore[no-untyped-def, type-arg]
    values = {}
    for place in (f"{side}_{part}" for side in SIDES for part in COMPARED):
        position, confidence = person.select(place)
        values[place] = np.array([*position.tolist(), float(confidence)])
    frames.setdefault(frame, {})[camera] = values


def compare(points: dict[str, dict[int, Points]]) -> dict[str, dict[str, float]]:
    """Medians over frames: shift of the middle along the trunk, and width, against MediaPipe's."""
    pairs = [(points["mediapipe"][f], points["coco"][f]) for f in points["mediapipe"] if f in points["coco"]]
    out: dict[str, dict[str, float]] = {}
    for part in COMPARED:
        along, wider, apart = [], [], []
        for mine, theirs in pairs:
            needed = [f"{side}_{p}" for side in SIDES for p in (part, "hip", "shoulder")]
            if not all(name in mine and name in theirs for name in needed):
                continue
            trunk = _middle(mine, "shoulder") - _middle(mine, "hip")
            along.append((_middle(theirs, part) - _middle(mine, part)) @ trunk / (trunk @ trunk))
            wider.append(_width(theirs, part) / _width(mine, part))
            apart += [1e3 * np.linalg.norm(theirs[f"{side}_{part}"] - mine[f"{side}_{part}"]) for side in SIDES]
        out[part] = {
            "up_in_trunks": round(float(np.median(along)), 4),
            "width_ratio": round(float(np.median(wider)), 4),
            "apart_mm": round(float(np.median(apart)), 1),
            "frames": len(along),
        }
    return out


def _middle(points: Points, part: str) -> Float[np.ndarray, "3"]:
    return (points[f"left_{part}"] + points[f"right_{part}"]) / 2


def _width(points: Points, part: str) -> float:
    return float(np.linalg.norm(points[f"left_{part}"] - points[f"right_{part}"]))


def main(arguments: Arguments) -> None:
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(arguments.archive) as archive:
        archive.extractall(folder)
        cameras = read_cameras(next(Path(folder).rglob("Calib*.toml")))
        result = compare(watch(Path(folder), arguments.every, cameras))
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
