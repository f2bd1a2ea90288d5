"""Several pictures of one person at the same moment, fitted together."""

import torch

from vitruvian.bodies.model import BodyModel
from vitruvian.estimation.beliefs import Belief
from vitruvian.fitting.config import FitConfig
from vitruvian.fitting.fit_views import ViewsConfig, fit_views
from vitruvian.fitting.fitter import FittedPeople
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.observations import Keypoints


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
