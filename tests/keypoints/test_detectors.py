"""The default detector on photographs: who is found, where, and what has no confidence."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitruvian.errors import InputError, MissingPackageError
from vitruvian.keypoints import detectors, mediapipe_models
from vitruvian.keypoints.detectors import DetectorConfig, MediaPipeDetector
from vitruvian.keypoints.images import Photograph, read_image
from vitruvian.keypoints.mediapipe_models import HandReading, PoseReading
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.regions import Region

needs_models = pytest.mark.skipif(
    importlib.util.find_spec("mediapipe") is None or importlib.util.find_spec("ai_edge_litert") is None,
    reason="mediapipe and ai-edge-litert are not installed",
)


@pytest.fixture(scope="module")
def detector() -> MediaPipeDetector:
    return MediaPipeDetector()


@pytest.fixture(scope="module")
def portrait() -> Path:
    """Grace Hopper, 512 × 600 pixels, from the waist up: a public-domain photograph that matplotlib carries."""
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        pytest.skip("matplotlib is not installed")
    return Path(found.origin).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"


@pytest.fixture(scope="module")
def hopper(detector: MediaPipeDetector, portrait: Path) -> Keypoints:
    return detector.detect(read_image(portrait))


def at(people: Keypoints, name: str, person: int = 0) -> tuple[float, float, float]:
    position, confidence = people[person].select(name)
    return float(position[0]), float(position[1]), float(confidence)


@needs_models
def test_portrait_has_one_person_with_a_face_and_no_hands(hopper: Keypoints) -> None:
    assert hopper.format == "mediapipe-holistic"
    assert hopper.confidence.shape == (1, 553)
    assert hopper.group("face").confidence.sum() > 400
    for hand in ("left_hand", "right_hand"):
        assert not hopper.group(hand).seen.any()
    for below in ("left_knee", "right_ankle", "left_heel"):
        assert at(hopper, below)[2] == 0


@needs_models
@pytest.mark.parametrize(
    ("name", "x", "y", "tolerance"),
    [
        ("right_pupil", 221, 189, 5), ("left_pupil", 305, 187, 5), ("nose", 265, 235, 14),
        ("mouth_outer_1", 232, 277, 6), ("mouth_outer_7", 304, 273, 6), ("left_shoulder", 435, 405, 30),
        ("right_shoulder", 85, 402, 30), ("left_ear", 372, 200, 45),
    ],
)  # fmt: skip
def test_portrait_points_lie_where_they_are_in_the_picture(
    hopper: Keypoints, name: str, x: float, y: float, tolerance: float
) -> None:
    """Places read off the picture by eye."""
    found = at(hopper, name)
    assert found[2] > 0.5
    assert np.hypot(found[0] - x, found[1] - y) < tolerance


@needs_models
def test_a_mirrored_picture_gives_mirrored_people(
    detector: MediaPipeDetector, hopper: Keypoints, portrait: Path
) -> None:
    mirrored = detector.detect(Photograph.from_array(read_image(portrait).pixels[:, ::-1])).flip(512)
    both = mirrored.seen & hopper.seen
    assert both.sum() > 480
    assert (mirrored.positions - hopper.positions)[both].norm(dim=-1).median() < 4


@needs_models
@pytest.mark.parametrize("kind", ["grey", "rgba", "16 bit", "turned"])
def test_every_kind_of_file_gives_the_same_person(
    detector: MediaPipeDetector, hopper: Keypoints, portrait: Path, tmp_path: Path, kind: str
) -> None:
    image = Image.open(portrait).convert("RGB")
    path = tmp_path / "a.png"
    if kind == "grey":
        image.convert("L").save(path)
    elif kind == "rgba":
        image.convert("RGBA").save(path)
    elif kind == "16 bit":
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)
    else:
        exif = Image.Exif()
        exif[0x0112] = 6
        image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    found = detector.detect(read_image(path))
    assert found.confidence.shape[0] == 1
    face = found.group("face").seen & hopper.group("face").seen
    assert (found.positions - hopper.positions)[face].norm(dim=-1).median() < 4


@needs_models
def test_fifty_megapixels_are_searched_and_answered_in_their_own_pixels(
    detector: MediaPipeDetector, hopper: Keypoints, portrait: Path, tmp_path: Path
) -> None:
    path = tmp_path / "big.jpg"
    Image.open(portrait).resize((6656, 7800)).save(path)
    found = detector.detect(read_image(path))
    face = found.group("face").seen & hopper.group("face").seen
    assert face.sum() > 400
    assert (found.positions / 13 - hopper.positions)[face].norm(dim=-1).median() < 4


@needs_models
def test_pictures_without_people_have_none(detector: MediaPipeDetector) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    for pixels in (noise, np.zeros_like(noise), np.full_like(noise, 255), np.zeros((33, 900), dtype=np.uint8)):
        assert detector.detect(Photograph.from_array(pixels)).confidence.shape == (0, 553)


@needs_models
def test_a_picture_of_two_by_two_pixels_is_too_small(detector: MediaPipeDetector) -> None:
    with pytest.raises(InputError, match=r"too small.*2 × 2"):
        detector.detect(Photograph.from_array(np.zeros((2, 2, 3), dtype=np.uint8), name="a.png"))


@needs_models
def test_everyone_on_the_beach_is_found_once(detector: MediaPipeDetector, shared_data: Path) -> None:
    people = detector.detect(read_image(shared_data / "photos" / "surf-fotologic-ccby2.jpg"))
    assert people.confidence.shape[0] == 5
    assert at(people, "left_wrist")[0] == pytest.approx(301, abs=12)  # the man from behind, arms spread
    assert at(people, "right_wrist")[0] == pytest.approx(499, abs=12)
    assert not people[0].group("face").confidence[33:].any()
    hands = [people[0].group(f"{side}_hand").confidence.amax() for side in ("left", "right")]
    assert min(hands) > 0.8
    middles = people.bounding_box(min_confidence=0.3).unflatten(-1, (2, 2)).mean(-2)[:, 0]
    assert torch.cdist(middles[:, None], middles[:, None]).add(torch.eye(5) * 99).min() > 20


@needs_models
def test_both_footballers_have_hands_and_faces(detector: MediaPipeDetector, shared_data: Path) -> None:
    people = detector.detect(read_image(shared_data / "photos" / "soccer-lokomotive74-ccby4.jpg"))
    assert people.confidence.shape[0] == 2
    for group in ("left_hand", "right_hand", "face"):
        assert people.group(group).confidence.amax(-1).min() > 0.5, group
    assert at(people, "left_wrist")[0] > at(people, "right_wrist")[0]
    assert at(people, "nose")[1] == pytest.approx(122, abs=12)


@needs_models
def test_loading_the_models_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    mediapipe_models.Network("iris_landmark/iris_landmark.tflite")
    assert capfd.readouterr() == ("", "")


def test_missing_packages_name_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingPackageError, match=r"vitruvian\[detect\]"):
        MediaPipeDetector()


@needs_models
def test_missing_mediapipe_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mediapipe_models.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="mediapipe"):
        MediaPipeDetector(DetectorConfig(tile_levels=0))


def person(offset: float, *, score: float, side: float = 100.0) -> detectors._Person:
    points = np.random.default_rng(4).random((33, 2)) * side + offset
    ones = np.ones(33)
    region = Region(offset, offset, side)
    return detectors._Person(PoseReading(1.0, points, ones, ones, region, np.zeros((33, 3))), region, score)


def test_of_two_readings_of_one_person_the_better_stays() -> None:
    kept = detectors._without_repeats([person(0, score=0.5), person(1, score=0.9), person(40, score=0.3)])
    assert [p.score for p in kept] == [0.9, 0.3]


def test_hands_far_from_the_arm_or_of_another_size_do_not_fit() -> None:
    someone = person(0, score=1.0)
    wrist = someone.point("left_wrist")
    shape = np.stack(np.meshgrid(np.linspace(-1, 1, 3), np.linspace(0, 2, 7)), axis=-1).reshape(21, 2)
    shape = shape - shape[0]
    near = HandReading(0.9, 0.1, wrist + 4 * shape)
    assert detectors._fits_arm(near, someone, "left")
    assert not detectors._fits_arm(HandReading(0.9, 0.1, wrist + 60 + 4 * shape), someone, "left")
    assert not detectors._fits_arm(HandReading(0.9, 0.1, wrist + 0.1 * shape), someone, "left")
    assert not detectors._fits_arm(HandReading(0.9, 0.1, wrist + 40 * shape), someone, "left")
    moved = HandReading(0.8, 0.2, near.points + 1)
    assert detectors._same_hand(near, moved)
    assert not detectors._same_hand(near, HandReading(0.8, 0.2, near.points + 30))
    assert detectors._side_score(near, "left") > detectors._side_score(near, "right")


def test_tiles_cover_the_length_and_overlap_by_half() -> None:
    for length, side in ((100, 100), (100, 40), (333, 50), (20, 50)):
        centers = detectors._tile_centers(length, side)
        assert centers[0] - side / 2 <= 0
        assert centers[-1] + side / 2 >= length
        assert len(centers) == 1 or np.diff(centers).max() <= side / 2 + 1e-9
