"""Scores of fits that start from and lean on the pose distribution, beside a fit with VPoser, and of several views."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.data.detector_errors import ErrorModel
from vitruvian.data.synthetic import SyntheticBatch
from vitruvian.estimation.regress import FLOW_FIT, IN_VIEWS, flow_prior, placed_mode, regress
from vitruvian.evaluation.distribution_scores import Errors, mean_errors
from vitruvian.evaluation.held_out import draw_well_seen, held_out_people
from vitruvian.fitting.fit import FitConfig, fit_keypoints
from vitruvian.fitting.fit_views import ViewsConfig, fit_views
from vitruvian.fitting.parts import body_prior
from vitruvian.keypoints.people import People
from vitruvian.progress import Progress, silent
from vitruvian.recovery.losses import RestJoints
from vitruvian.recovery.network import PoseNetwork
from vitruvian.recovery.posterior import infer
from vitruvian.tensors import Record

VIEW_COUNTS = (1, 2, 4, 8)
"""Numbers of views; the quick benchmark leaves out the last."""
GRID: Mapping[str, ErrorModel] = {
    f"{name}, noise {noise:g}": replace(model, noise_low=noise, noise_high=noise)
    for noise in (0.002, 0.006, 0.012)
    for name, model in {
        "all seen": replace(ErrorModel(), missing=0.0, occluders=0.0, lost_limbs=0.0, guesses=0.0),
        "20 % missing": replace(ErrorModel(), missing=0.2, occluders=0.0, lost_limbs=0.0, guesses=0.0),
        "50 % missing": replace(ErrorModel(), missing=0.5, occluders=0.0, lost_limbs=0.0, guesses=0.0),
        "limbs missing": replace(ErrorModel(), missing=0.0, occluders=0.0, lost_limbs=1.0, guesses=0.0),
    }.items()
}
"""Detectors by noise (share of the person's height) and by what they miss."""


@dataclass(frozen=True)
class FitScore:
    """Errors of a pose per person, and its mean 2D error."""

    mpjpe_mm: float
    pa_mpjpe_mm: float
    reprojection_px: float
    ms_per_person: float


def _errors(params: BodyParams, batch: SyntheticBatch, rest: RestJoints) -> Errors:
    return mean_errors(params.rotations, params.betas[:, : rest.shape_dirs.shape[-1]], rest, batch.joints)


def _score(
    params: BodyParams, batch: SyntheticBatch, rest: RestJoints, reprojection: Tensor, seconds: float
) -> FitScore:
    errors = _errors(params, batch, rest)
    pixels = float(reprojection.nanmean())
    return FitScore(errors.mpjpe_mm, errors.pa_mpjpe_mm, pixels, 1000 * seconds / len(batch))


def score_flow_fit(
    network: PoseNetwork, body: BodyModel, batch: SyntheticBatch, rest: RestJoints, *, config: FitConfig | None = None
) -> tuple[FitScore, FitScore]:
    """The mode, and the fit that starts at it in the latent of the flow."""
    began = time.perf_counter()
    people = People.in_picture(batch.keypoints, batch.camera)
    posterior = regress(people, network=network)
    placed = placed_mode(posterior, body, people)
    regressed = time.perf_counter() - began
    mode = _score(placed.params, batch, rest, placed.reprojection_px, regressed)
    prior = flow_prior(posterior, body, people, placed)
    fits = fit_keypoints(
        body, batch.keypoints, batch.camera, config=config or FLOW_FIT, prior=prior, start=placed.params
    )
    seconds = time.perf_counter() - began
    return mode, _score(fits.params, batch, rest, fits.reprojection_px, seconds)


def score_fits(
    network: PoseNetwork,
    body: BodyModel,
    batch: SyntheticBatch,
    *,
    seed: int,
    quick: bool,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Fits of the benchmark's people, by noise and missing points, and in several views; plain values."""
    rest = RestJoints.of(body, num_shape=network.config.num_shape)
    people = batch[slice(0, 100 if quick else 400)]
    progress("fit", 0, 4)
    mode, flow = score_flow_fit(network, body, people, rest)
    progress("fit", 1, 4)
    began = time.perf_counter()
    fits = fit_keypoints(body, people.keypoints, people.camera, prior=body_prior("vposer", body.skeleton))
    seconds = time.perf_counter() - began
    out: dict[str, Any] = {
        "fit_mode": asdict(mode),
        "fit_flow": asdict(flow),
        "fit_vposer": asdict(_score(fits.params, people, rest, fits.reprojection_px, seconds)),
    }
    progress("fit", 2, 4)
    if not quick:
        grid = {}
        for name, errors in GRID.items():
            drawn = draw_well_seen(held_out_people(body, errors), 100, seed=seed + 1)
            before, after = score_flow_fit(network, body, drawn, rest)
            grid[name] = {"mode": asdict(before), "fit_flow": asdict(after)}
        out["fit_grid"] = grid
    progress("fit", 3, 4)
    out |= score_views(
        network, body, rest, count=20 if quick else 60, seed=seed, counts=VIEW_COUNTS[: 3 if quick else 4]
    )
    progress("fit", 4, 4)
    return out


def score_views(
    network: PoseNetwork,
    body: BodyModel,
    rest: RestJoints,
    *,
    count: int,
    seed: int,
    counts: Sequence[int] = VIEW_COUNTS,
) -> dict[str, dict[str, dict[str, float]]]:
    """People in several views: the joint fit, and beside it the mean of the rotations predicted from each view."""
    source = held_out_people(body)
    generator = torch.Generator().manual_seed(seed)
    poses = torch.randint(0, len(source.library.rotations), (count,), generator=generator)
    batch = source.people(poses, generator, views=max(counts))
    posterior = infer(network, batch.keypoints, batch.camera)
    predicted = posterior.mode().rotations
    fitted: dict[str, dict[str, float]] = {}
    averaged: dict[str, dict[str, float]] = {}
    for views in counts:
        rows = (torch.arange(count)[:, None] * max(counts) + torch.arange(views)).flatten()
        some = batch[rows]
        some_posterior = posterior[rows]
        mean = average_rotations(predicted[rows].unflatten(0, (count, views)))
        agreed = predicted[rows].clone()
        agreed[:, 1:] = mean.repeat_interleave(views, dim=0)[:, 1:]
        betas = posterior.betas[rows].unflatten(0, (count, views)).mean(1).repeat_interleave(views, dim=0)
        averaged[str(views)] = asdict(mean_errors(agreed, betas, rest, some.joints))
        people = People.in_picture(some.keypoints, some.camera)
        placed = placed_mode(some_posterior, body, people)
        prior = flow_prior(some_posterior, body, people, placed, strength=IN_VIEWS if views > 1 else None)
        if views == 1:
            params = fit_keypoints(
                body, some.keypoints, some.camera, config=FLOW_FIT, prior=prior, start=placed.params
            ).params
        else:
            keypoints, camera = _by_view(some.keypoints, views), _by_view(some.camera, views)
            found = fit_views(
                body, keypoints, camera, config=ViewsConfig(fit=FLOW_FIT), prior=prior, start=placed.params
            )
            params = found.params.map(lambda x: x.flatten(0, 1))
        fitted[str(views)] = asdict(_errors(params, some, rest))
    return {"multiview": fitted, "multiview_averaged": averaged}


def _by_view(record: Record, views: int) -> Record:
    """One row per (person, view) split into people and views."""
    return record.map(lambda x: x.unflatten(0, (-1, views)))


def average_rotations(rotations: Tensor) -> Tensor:
    """Chordal mean of rotations `(person, view, joint, 3, 3)` over the views: the nearest rotation to their mean."""
    U, _, Vh = torch.linalg.svd(rotations.mean(1))
    sign = torch.linalg.det(U @ Vh)
    scale = torch.ones_like(U[..., 0, :])
    scale[..., 2] = sign
    return (U * scale[..., None, :]) @ Vh
