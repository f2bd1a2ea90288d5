"""Pictures and OpenPose files of made-up people, written where a test asks."""

import json
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vitruvian.apps.demo import IMAGE_SIZE, natural_person
from vitruvian.bodies.model import BodyModel
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.rotations import axis_angle_to_matrix
from vitruvian.keypoints.formats import get_format
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.openpose import write_keypoints
from vitruvian.keypoints.targets import keypoint_targets


def true_keypoints(body: BodyModel, format: str = "openpose-body25", *, turn_deg: float = 0.0) -> Keypoints:
    """Exact keypoints of the natural person of the demonstration, `(1, K)`, in a picture of `IMAGE_SIZE`.

    With a turn, from a camera that stands as far away elsewhere around the person.
    """
    targets = keypoint_targets(body, format)
    person = natural_person(body)
    R = axis_angle_to_matrix(torch.tensor([0.0, math.radians(turn_deg), 0.0]))
    pelvis = person.joints[:1]
    points = (person.points(targets.points) - pelvis) @ R.T + pelvis
    pixels = Camera.from_image_size(*IMAGE_SIZE).project(points)
    positions = torch.zeros(1, len(get_format(format)), 2)
    confidence = torch.zeros(1, len(get_format(format)))
    positions[0, targets.keypoint] = pixels
    confidence[0, targets.keypoint] = 0.9
    return Keypoints(positions, confidence, format)


def write_person(folder: Path, stem: str, keypoints: Keypoints) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}_keypoints.json"
    write_keypoints(path, keypoints)
    return path


def write_numbers(folder: Path, stem: str, triples: list[list[float]]) -> Path:
    """One person's 25 triples as they are, NaN and infinity included."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}_keypoints.json"
    path.write_text(
        json.dumps(
            {"version": 1.3, "people": [{"pose_keypoints_2d": [number for triple in triples for number in triple]}]}
        )
    )
    return path


def write_photo(path: Path, size: tuple[int, int] = IMAGE_SIZE, *, mode: str = "RGB", **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    ramp = np.linspace(30, 220, width * height).reshape(height, width)
    if mode == "16":
        image = Image.fromarray((ramp * 257).astype(np.uint16))
    elif mode == "L":
        image = Image.fromarray(ramp.astype(np.uint8))
    else:
        image = Image.fromarray(ramp.astype(np.uint8)).convert(mode)
    image.save(path, **options)
    return path
