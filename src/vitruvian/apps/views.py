"""Which pictures of a run are views of one person."""

from collections.abc import Sequence
from dataclasses import replace

from vitruvian.apps.inputs import SourcePicture
from vitruvian.errors import InputError
from vitruvian.keypoints.observations import Keypoints

MAX_VIEWS = 16


def views_of_one(pictures: Sequence[SourcePicture]) -> list[SourcePicture]:
    """Each picture with its largest person alone; pictures of nobody are left out.

    Raises:
        InputError: fewer than 2 or more than 16 pictures show somebody.
    """
    views = [picture for picture in pictures if len(picture.keypoints.confidence)]
    if not 2 <= len(views) <= MAX_VIEWS:
        raise InputError(
            "several views of one person are needed",
            seen=f"{len(views)} pictures with a person",
            expected=f"2 to {MAX_VIEWS}",
            hint="leave out --views to fit everybody by themselves",
        )
    return [replace(picture, keypoints=_largest(picture.keypoints)) for picture in views]


def _largest(people: Keypoints) -> Keypoints:
    box = people.sanitized().bounding_box()
    area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    return people[area.argmax().view(1)]
