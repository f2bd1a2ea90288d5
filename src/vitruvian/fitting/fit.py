"""Fit bodies to 2D keypoints of many people."""

from collections.abc import Callable

import torch

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.errors import InputError
from vitruvian.fitting.config import FitConfig
from vitruvian.fitting.fitter import FittedPeople, Fitter
from vitruvian.fitting.parts import BodyPrior
from vitruvian.fitting.term_makers import TermMaker
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.observations import Keypoints
from vitruvian.tensors import concatenate_records

__all__ = ["FitConfig", "FittedPeople", "fit_keypoints"]


def fit_keypoints(
    body: BodyModel,
    keypoints: Keypoints,
    camera: Camera,
    *,
    config: FitConfig | None = None,
    prior: BodyPrior | None = None,
    start: BodyParams | None = None,
    terms: tuple[TermMaker, ...] = (),
    progress: Callable[[int], None] | None = None,
) -> FittedPeople:
    """Fit the body to 2D keypoints of N people, all at once.

    Args:
        body: the model.
        keypoints: N people in one picture format, pixels.
        camera: intrinsics, one per person or one for all.
        config: schedule, solver and settings.
        prior: belief about the body pose; the mixture learnt from motion capture if None.
        start: where to start instead of trying turns: `(N, ...)`, or `(N, H, ...)` for several starts
            per person, of which the best wins.
        terms: makers of further terms of the objective, see fitting/term_makers.py.
        progress: called with the number of people done after each chunk.

    Returns:
        One row per person; people without enough keypoints keep the start pose and say so in their status.

    Raises:
        InputError: the keypoints have no person axis, or the camera does not match.
    """
    config = config or FitConfig()
    if keypoints.confidence.dim() != 2:
        raise InputError(
            "keypoints need one person axis", seen=tuple(keypoints.confidence.shape), expected="(person, keypoint)"
        )
    people = keypoints.confidence.shape[0]
    camera = camera.to(device=body.device, dtype=body.dtype)
    if camera.focal_px.dim() == 1:
        camera = camera.map(lambda x: x.expand(people, -1))
    if camera.focal_px.shape[0] != people:
        raise InputError("one camera per person is needed", seen=camera.focal_px.shape[0], expected=people)
    keypoints = keypoints.evidence(config.min_confidence).to(device=body.device, dtype=body.dtype)
    fitter = Fitter(body, keypoints.format, config, prior, terms=terms)
    results = []
    with torch.no_grad():
        for rows in torch.arange(people, device=body.device).split(config.chunk):
            if len(rows) == 0:
                break
            results.append(fitter.fit(keypoints[rows], camera[rows], None if start is None else start[rows], rows))
            if progress is not None:
                progress(len(rows))
    return concatenate_records(results) if results else fitter.empty()
