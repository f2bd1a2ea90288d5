"""Depth cues of pictures: frames, trust, and how readings combine; on photographs where the models are installed."""

import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitruvian.errors import InputError
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.rotations import exp_so3
from vitruvian.keypoints.depth_cues import BONE_NAMES, BONES
from vitruvian.keypoints.detectors import DetectorConfig, MediaPipeDetector
from vitruvian.keypoints.formats import get_format
from vitruvian.keypoints.images import Photograph, read_image
from vitruvian.keypoints.mediapipe_models import PoseReading
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.picture_cues import (
    PairedReading,
    agreement,
    cues_in_picture,
    cues_of_reading,
    region_of_person,
)
from vitruvian.keypoints.regions import Region, region_of_axis

FORMAT = get_format("mediapipe-pose33")
needs_models = pytest.mark.skipif(
    importlib.util.find_spec("mediapipe") is None or importlib.util.find_spec("ai_edge_litert") is None,
    reason="mediapipe and ai-edge-litert are not installed",
)


def reading(landmarks: np.ndarray, points: np.ndarray | None = None) -> PoseReading:
    ones = np.ones(33)
    region = Region(0.0, 0.0, 1.0)
    return PoseReading(1.0, np.zeros((33, 2)) if points is None else points, ones, ones, region, landmarks)


def random_landmarks(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(33, 3))


def paired(first: np.ndarray, second: np.ndarray, region: Region) -> PairedReading:
    return PairedReading(reading(first), reading(second), region)


def along(landmarks: np.ndarray, name: str) -> np.ndarray:
    start, end = (FORMAT.index(place) for place in BONES[name])
    vector = landmarks[end] - landmarks[start]
    return vector / np.linalg.norm(vector)


def test_in_the_middle_of_the_picture_directions_are_those_of_the_network() -> None:
    landmarks = random_landmarks()
    camera = Camera.from_image_size(600, 400, dtype=torch.float64)
    cues = cues_of_reading(paired(landmarks, landmarks, Region(300.0, 200.0, 100.0)), camera)
    assert cues.confidence.shape == (1, len(BONES))
    torch.testing.assert_close(cues.confidence, torch.ones_like(cues.confidence))
    for name in BONE_NAMES:
        np.testing.assert_allclose(cues.select(name)[0][0], along(landmarks, name), atol=1e-12)


def test_directions_are_those_of_a_camera_that_looks_at_the_person() -> None:
    """What points away from the network's camera points along the ray through the person, wherever they stand."""
    landmarks = random_landmarks()
    landmarks[FORMAT.index("left_knee")] = landmarks[FORMAT.index("left_hip")] + (0, 0, 0.4)
    camera = Camera.from_image_size(1200, 800, focal_px=900.0, dtype=torch.float64)
    region = Region(1000.0, 150.0, 100.0)
    cues = cues_of_reading(paired(landmarks, landmarks, region), camera)
    ray = torch.tensor([(1000 - 600) / 900, (150 - 400) / 900, 1.0], dtype=torch.float64)
    torch.testing.assert_close(cues.select("left_thigh")[0][0], ray / ray.norm())
    # A picture that was read at half its size gives the same.
    half = cues_of_reading(paired(landmarks, landmarks, Region(500.0, 75.0, 50.0)), camera, scale=(0.5, 0.5))
    torch.testing.assert_close(half.directions, cues.directions)


def test_readings_that_disagree_are_trusted_less() -> None:
    landmarks = random_landmarks()
    camera = Camera.from_image_size(600, 400, dtype=torch.float64)
    middle = Region(300.0, 200.0, 100.0)
    turn = exp_so3(torch.tensor([0.0, 0.2, 0.0], dtype=torch.float64)).numpy()
    confidence = [
        cues_of_reading(paired(landmarks, landmarks @ np.linalg.matrix_power(turn, k), middle), camera).confidence
        for k in range(3)
    ]
    assert (confidence[0] > confidence[1]).all()
    assert (confidence[1] > confidence[2]).all()
    unsure = replace(reading(landmarks), score=0.2)
    nobody = cues_of_reading(PairedReading(reading(landmarks), unsure, middle), camera)
    assert not nobody.present


def test_landmarks_turn_with_the_crop() -> None:
    """Up in a crop that lies on its side is sideways in the picture; depth stays."""
    region = region_of_axis(np.array([10.0, 10.0]), np.array([20.0, 10.0]), 5.0)
    turned = region.turned_to_picture(np.array([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]))
    np.testing.assert_allclose(turned, [[1, 0, 0], [0, 0, 1], [0, 1, 0]], atol=1e-12)


def person_points() -> np.ndarray:
    """Points of somebody 200 pixels tall, limbs apart."""
    points = np.random.default_rng(1).uniform(40, 60, (33, 2))
    places = {
        "shoulder": (15, 40), "elbow": (30, 70), "wrist": (45, 95), "hip": (10, 100), "knee": (20, 150),
        "ankle": (25, 200), "heel": (22, 208), "big_toe": (35, 210),
    }  # fmt: skip
    for place, (x, y) in places.items():
        points[FORMAT.index(f"left_{place}")] = (100 + x, y)
        points[FORMAT.index(f"right_{place}")] = (100 - x, y)
    return points


def test_trust_in_bones_whose_ends_lie_on_the_keypoints() -> None:
    points = person_points()
    sure = np.ones(33)
    np.testing.assert_allclose(agreement(points, points, sure), 1)
    shifted = agreement(points + np.array([0, 4.0]), points, sure)
    assert ((shifted > 0.8) & (shifted < 1)).all()
    assert (agreement(points + np.array([0, 100.0]), points, sure) < 1e-3).all(), "somebody else"
    exchanged = agreement(points[list(FORMAT.flip)], points, sure)
    assert (exchanged[[BONE_NAMES.index("left_shin"), BONE_NAMES.index("shoulders")]] == 0).all()


def test_no_trust_in_bones_that_keypoints_do_not_see() -> None:
    points, sure = person_points(), np.ones(33)
    sure[FORMAT.index("left_knee")] = 0
    trust = dict(zip(BONE_NAMES, agreement(points, points, sure), strict=True))
    assert trust["left_thigh"] == trust["left_shin"] == 0
    assert trust["right_thigh"] == trust["left_forearm"] == 1


def test_the_region_is_upright_about_the_hips() -> None:
    points, sure = person_points(), np.ones(33)
    region = region_of_person(points, sure)
    assert region is not None
    assert (region.x, region.y, region.angle) == (100, 100, 0)
    assert region.side > 2 * 110
    lying = region_of_person(points[:, ::-1] * (-1, 1), sure)  # head to the right
    assert lying is not None
    assert math.isclose(lying.angle, math.pi / 2)
    assert region_of_person(points, np.zeros(33)) is None


@pytest.fixture(scope="module")
def footballers() -> Photograph:
    path = Path(__file__).resolve().parents[3] / "shared" / "data" / "photos" / "pexels-972937.jpg"
    if not path.is_file():
        pytest.skip(f"needs the shared photograph {path.name}")
    return read_image(path)


@needs_models
def test_cues_of_a_photograph_and_of_its_mirror_image(footballers: Photograph) -> None:
    detector = MediaPipeDetector(DetectorConfig(tile_levels=0))
    seen = detector.detect_with_cues(footballers)
    assert len(seen.cues.confidence) == len(seen.keypoints.confidence) > 0
    lengths = seen.cues.directions.norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))
    camera = footballers.camera()
    cues = cues_in_picture(footballers, seen.keypoints[:1], camera)
    sure = (cues.confidence[0] > 0.5) & (seen.cues.confidence[0] > 0.5)
    assert sure.sum() >= 6
    apart = (cues.directions[0] - seen.cues.directions[0]).norm(dim=-1)[sure]
    assert apart.median() < 0.2, "the region of the detector and the one around its keypoints show the same"

    width = footballers.image_size[0]
    mirrored = Photograph.from_array(np.ascontiguousarray(footballers.pixels[:, ::-1]))
    other = cues_in_picture(mirrored, seen.keypoints[:1].flip(width), camera).flip()
    assert (other.directions[0] - cues.directions[0]).norm(dim=-1)[sure].amax() < 0.05


@needs_models
def test_keypoints_of_nobody_get_no_confidence() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (240, 200, 3), dtype=np.uint8)
    picture = Photograph.from_array(np.asarray(Image.fromarray(noise).resize((200, 240))))
    positions = torch.from_numpy(person_points()).float()[None]
    keypoints = Keypoints(positions, torch.ones(1, 33), "mediapipe-pose33")
    cues = cues_in_picture(picture, keypoints, picture.camera())
    assert (cues.confidence < 0.05).all()
    assert len(cues_in_picture(picture, keypoints[:0], picture.camera()).confidence) == 0
    with pytest.raises(InputError, match="person axis"):
        cues_in_picture(picture, keypoints[0], picture.camera())
