"""Several pictures of one person at the same moment, fitted together."""

from collections.abc import Sequence

import torch

from vitruvian.bodies.model import BodyModel
from vitruvian.errors import InputError
from vitruvian.estimation.beliefs import Belief
from vitruvian.fitting.config import FitConfig
from vitruvian.fitting.directions import cue_terms
from vitruvian.fitting.fit_views import ViewsConfig, fit_views
from vitruvian.fitting.fitter import FittedPeople
from vitruvian.keypoints.people import People

MAX_VIEWS = 16


def views_of_one(people: People) -> People:
    """The largest person of each picture; all of them are taken for one.

    Raises:
        InputError: fewer than 2 or more than 16 pictures show somebody.
    """
    moments = list(dict.fromkeys(people.moments))
    if not 2 <= len(moments) <= MAX_VIEWS:
        raise InputError(
            "several views of one person are needed",
            seen=f"{len(moments)} pictures with a person",
            expected=f"2 to {MAX_VIEWS}",
            hint="leave out --views to fit everybody by themselves",
        )
    box = people.keypoints.sanitized().bounding_box()
    area = ((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])).tolist()
    return people[[_largest(people.moments, moment, area) for moment in moments]]


def _largest(moments: Sequence[tuple[str, int]], moment: tuple[str, int], area: Sequence[float]) -> int:
    return max((row for row, other in enumerate(moments) if other == moment), key=lambda row: area[row])


def fit_one_person(body: BodyModel, people: People, config: FitConfig, belief: Belief) -> FittedPeople:
    """Fit one person to all rows of `people`, each a view; one row per view comes back, with a common shape.

    Cost and status are those of the joint fit, the same in every row.
    """
    together = fit_views(
        body,
        people.keypoints[None],
        people.known_camera[None],
        config=ViewsConfig(fit=config),
        prior=belief.prior,
        start=belief.start,
        terms=cue_terms(people.cues, belief.prior, spread=config.cue_spread),
    )
    count = len(people)
    return FittedPeople(
        together.params[0],
        together.cost.expand(count),
        together.status.expand(count),
        torch.zeros(count, dtype=torch.long),
        together.reprojection_px[0],
        together.reprojection_parts_px[0],
    )
