"""The people in one picture, found by the default detector."""

from functools import cache
from pathlib import Path

import numpy as np

from vitruvian.keypoints.detectors import Detector, MediaPipeDetector
from vitruvian.keypoints.images import Photograph, read_image
from vitruvian.keypoints.observations import PeopleInImage


def detect(image: Path | str | np.ndarray | Photograph, *, detector: Detector | None = None) -> PeopleInImage:
    """Find everyone in a picture: body, hands and face of each, in pixels; there may be nobody.

    Args:
        image: a file, an array `(height, width, 3)`, or what `read_image` returned.
        detector: in place of the MediaPipe one, which is made once.

    Raises:
        InputError: the file cannot be read, or the array is no picture.
        MissingPackageError: the packages of the extra `detect` are not installed.
    """
    if isinstance(image, np.ndarray):
        image = Photograph.from_array(image)
    elif not isinstance(image, Photograph):
        image = read_image(image)
    keypoints = (detector or _default_detector()).detect(image)
    return PeopleInImage(keypoints, image.name, image.image_size, image.focal_px)


@cache
def _default_detector() -> Detector:
    return MediaPipeDetector()
