"""What callers of the public functions may give for people, brought to one record."""

from collections.abc import Sequence
from typing import Any

import torch

from vitruvian.errors import InputError
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.people import People, join_people

PeopleLike = People | Keypoints | Sequence[People | Keypoints]
"""People, keypoints of one picture, or the people or keypoints of several pictures."""


def as_people(people: PeopleLike, camera: Camera | None = None) -> People:
    """Any of `PeopleLike` as people with known cameras.

    Args:
        camera: one for all, or one per person; None takes the cameras that the people have.

    Raises:
        InputError: something else, no pictures, no camera and no image size, or cameras that do not match the people.
    """
    if isinstance(people, Keypoints | People):
        found = _one_picture(people, "")
    elif isinstance(people, Sequence) and not isinstance(people, str | bytes):
        found = join_people([_one_picture(item, f"picture {k}") for k, item in enumerate(people)])
    else:
        raise _not_people(people)
    if camera is None:
        found.known_camera  # noqa: B018, says what is missing
        return found
    if not isinstance(camera, Camera):
        raise InputError("not a camera", seen=type(camera).__name__, expected="vitruvian.Camera")
    dtype = found.keypoints.positions.dtype
    return found.with_camera(camera.to(dtype=dtype, device=found.keypoints.positions.device))


def _one_picture(people: Any, picture: str) -> People:
    if isinstance(people, People):
        return people
    if isinstance(people, Keypoints):
        return People.in_picture(people, picture=picture, source="keypoints given")
    raise _not_people(people)


def _not_people(people: object) -> InputError:
    kind = (
        f"{type(people).__name__}{tuple(people.shape)}" if isinstance(people, torch.Tensor) else type(people).__name__
    )
    return InputError(
        "these are no people",
        seen=kind,
        expected="what vitruvian.detect or vitruvian.read_keypoints returned, or vitruvian.Keypoints",
        hint="vitruvian.Keypoints(positions, confidence, format)",
    )
