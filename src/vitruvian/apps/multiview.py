"""Several pictures of one person at the same moment, fitted together."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from vitruvian.apps.beliefs import Belief
from vitruvian.apps.inputs import SourcePicture
from vitruvian.bodies.model import BodyModel
from vitruvian.errors import InputError
from vitruvian.fitting.config import FitConfig
from vitruvian.fitting.fit_views import ViewsConfig, fit_views
from vitruvian.fitting.fitter import FittedPeople
from vitruvian.geometry.cameras import Camera
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
    box = people.evidence().bounding_box()
    area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    return people[area.argmax().view(1)]


def fit_one_person(
    body: BodyModel, keypoints: Keypoints, camera: Camera, config: FitConfig, belief: Belief
) -> FittedPeople:
    """Fit one person to all rows of the keypoints, each a view; one row per view comes back, with a common shape.

    Cost and status are those of the joint fit, the same in every row.
    """
    together = fit_views(
        body,
        keypoints.map(lambda x: x[None]),
        camera.map(lambda x: x[None]),
        config=ViewsConfig(fit=config),
        prior=belief.prior,
        start=belief.start,
    )
    count = len(keypoints.confidence)
    return FittedPeople(
        together.params.map(lambda x: x[0]),
        together.cost.expand(count),
        together.status.expand(count),
        torch.zeros(count, dtype=torch.long),
        together.reprojection_px[0],
    )
