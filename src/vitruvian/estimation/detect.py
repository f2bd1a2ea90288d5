"""The people in one picture, found by the default detector."""

from functools import cache
from pathlib import Path
from threading import Lock

import numpy as np

from vitruvian.keypoints.detectors import Detector, MediaPipeDetector
from vitruvian.keypoints.images import Photograph, read_image
from vitruvian.keypoints.people import People

_ONE_AT_A_TIME = Lock()
"""The networks of the default detector keep their input in place, so threads take turns."""


def detect(image: Path | str | np.ndarray | Photograph, *, detector: Detector | None = None) -> People:
    """Find everyone in a picture: body, hands and face of each, in pixels; there may be nobody.

    What the default detector sees of the directions of bones comes along (`People.cues`).

    Args:
        image: a file, an array `(height, width, 3)`, or what `read_image` returned.
        detector: in place of the MediaPipe one, which is made once and shared by all threads.

    Raises:
        InputError: the file cannot be read, or the array is no picture.
        MissingPackageError: the packages of the extra `detect` are not installed.
    """
    if isinstance(image, np.ndarray):
        image = Photograph.from_array(image)
    elif not isinstance(image, Photograph):
        image = read_image(image)
    if detector is None:
        with _ONE_AT_A_TIME:
            seen = _default_detector().detect_with_cues(image, image.camera())
    elif isinstance(detector, MediaPipeDetector):
        seen = detector.detect_with_cues(image, image.camera())
    else:
        return People.in_picture(detector.detect(image), image.camera(), picture=image.name, source="detected")
    return People.in_picture(seen.keypoints, image.camera(), picture=image.name, source="detected", cues=seen.cues)


@cache
def _default_detector() -> MediaPipeDetector:
    return MediaPipeDetector()
