"""Fit bodies to people: beliefs, fits of all who share one, and the rows put together again."""

from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from typing import Any

import torch

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.estimation.arguments import PeopleLike, as_people
from vitruvian.estimation.beliefs import Believed, PriorChoice, assign_beliefs, belief_by_name
from vitruvian.estimation.second_chance import SecondChance, second_chances
from vitruvian.estimation.verdicts import judged, signs_of
from vitruvian.estimation.views import fit_one_person
from vitruvian.fits import Fits, body_name, config_json, package_version
from vitruvian.fitting.directions import cue_terms
from vitruvian.fitting.fit import FitConfig, FittedPeople, fit_keypoints
from vitruvian.fitting.parts import BodyPrior
from vitruvian.fitting.solution import Status
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.people import People
from vitruvian.recovery.posterior import BodyPosterior
from vitruvian.tensors import concatenate_records

Settings = FitConfig | Callable[[FitConfig], FitConfig] | None
"""Solver, stages and weights; or a change of those that were made for the prior; None takes them as they are."""
Advance = Callable[[int], None]
VIEWS_DISAGREE = 0.04
"""Misfit of the body, as a share of the person's size, from which on views are said not to be of one person."""
SEARCHED = ("flow", "vposer", "mixture")
"""Priors, by name, under which people who miss their keypoints are fitted again."""


def fit(
    body: BodyModel,
    people: PeopleLike,
    camera: Camera | None = None,
    *,
    start: BodyPosterior | BodyParams | None = None,
    prior: BodyPrior | PriorChoice | str | None = None,
    config: Settings = None,
    second_chance: SecondChance | None = SecondChance(),  # noqa: B008, frozen
    progress: Advance | None = None,
) -> Fits:
    """Fit a body to 2D keypoints: everyone at once, in batches that fit the memory.

    Args:
        body: `open_body()` or `load_body(...)`.
        people: what `detect` or `read_keypoints` returned, or `(person, K)` keypoints.
        camera: one camera for all, or one per person; None takes the cameras that the people have.
        start: what `regress` made of the same people, which is then start and prior; or parameters, one row per person;
            None chooses starts by what the prior is.
        prior: belief about body poses, or its name: `flow` (the default: the distribution that `regress` finds),
            `vposer`, `mixture`, `hand-set`, `bending`, `none`; or a `PriorChoice`, for weights of one's own and limits
            of the joints.
        config: solver, stages, weights, or a function that changes those made for the prior.
        second_chance: who is fitted again from other starts; None leaves the first fits as they are. Fits from
            parameters, or under a prior of the caller's own, get none.
        progress: called with the number of people done since the last call.

    Raises:
        InputError: no camera and no image size, cameras that do not match the people, or a start and a prior that
            exclude each other.
    """
    seen = as_people(people, camera)
    least = config.min_confidence if isinstance(config, FitConfig) else _changed(FitConfig(), config).min_confidence
    groups = assign_beliefs(body, seen, prior=prior, start=start, min_confidence=least)
    fitted = []
    for group in groups:
        chosen = seen[group.rows]
        settings = _changed(group.belief.config, config)
        fitted.append(
            fit_keypoints(
                body,
                chosen.keypoints,
                chosen.known_camera,
                config=settings,
                prior=group.belief.prior,
                start=group.belief.start,
                terms=cue_terms(chosen.cues, group.belief.prior, spread=settings.cue_spread),
                progress=progress,
            )
        )
    order = torch.cat([group.rows for group in groups]).argsort()
    first = concatenate_records(fitted)[order]
    names, notes = _names_of(groups, len(seen)), ("",) * len(seen)
    if second_chance is not None and not isinstance(start, BodyParams) and _searched(prior):
        better = second_chances(body, seen, first, settings=lambda own: _changed(own, config), config=second_chance)
        first, notes = better.fitted, better.notes
        names = tuple(again or name for again, name in zip(better.names, names, strict=True))
    fits = _as_fits(body, seen, first, names, config_of(groups, config))
    return judged(fits, body, seen, min_confidence=least, notes=notes)


def fit_views_of_one(
    body: BodyModel,
    people: People,
    *,
    prior: PriorChoice | str = "flow",
    config: Settings = None,
    progress: Advance | None = None,
) -> Fits:
    """Fit one person to several pictures of the same moment; each of `people` is one view of them.

    One row per view comes back, each in the frame of its camera, with a common shape and pose.

    Raises:
        InputError: fewer than two views, an unknown prior, or a body that it does not know.
    """
    belief = belief_by_name(prior, body, people, views=True)
    fitted = fit_one_person(body, people, _changed(belief.config, config), belief)
    if progress is not None:
        progress(len(people))
    group = Believed(torch.arange(len(people)), belief)
    names = (f"{belief.name}, {len(people)} views",) * len(people)
    fits = _as_fits(body, people, fitted, names, config_of([group], config))
    least = _changed(belief.config, config).min_confidence
    signs = signs_of(body, fits.params, people, min_confidence=least)
    disagree = bool((signs.misfit_body > VIEWS_DISAGREE).any())
    notes = ("the views do not agree: one person, at one moment, left and right as they are?" if disagree else "",)
    return judged(fits, body, people, min_confidence=least, notes=notes * len(people))


def config_of(groups: list[Believed], config: Settings) -> str:
    """What decided the fits, as JSON: the settings of each belief."""
    return config_json({group.belief.name: plain_settings(_changed(group.belief.config, config)) for group in groups})


def plain_settings(config: FitConfig) -> dict[str, Any]:
    """The settings as plain values, the solver with its name."""
    values = asdict(config)
    if is_dataclass(config.solver):
        values["solver"] = {"name": type(config.solver).__name__, **asdict(config.solver)}
    return values


def _searched(prior: BodyPrior | PriorChoice | str | None) -> bool:
    """Whether people who miss their keypoints are fitted again under other priors."""
    if isinstance(prior, PriorChoice):
        return prior.vposer is None and prior.name in (None, *SEARCHED)
    return prior is None or prior in SEARCHED


def _changed(own: FitConfig, config: Settings) -> FitConfig:
    if config is None:
        return own
    return config if isinstance(config, FitConfig) else config(own)


def _names_of(groups: list[Believed], count: int) -> tuple[str, ...]:
    names = [""] * count
    for group in groups:
        for row in group.rows.tolist():
            names[row] = group.belief.name
    return tuple(names)


def _as_fits(body: BodyModel, people: People, fitted: FittedPeople, priors: tuple[str, ...], config: str) -> Fits:
    return Fits(
        params=fitted.params,
        camera=people.known_camera.to(dtype=body.dtype),
        cost=fitted.cost,
        reprojection_px=fitted.reprojection_px,
        status=tuple(Status(value).name.lower() for value in fitted.status.tolist()),
        image=people.name,
        person=people.person,
        frame=people.frame,
        skeleton=body.skeleton,
        body=body_name(body),
        gender=body.gender,
        config=config,
        version=package_version(),
        reprojection_parts_px=fitted.reprojection_parts_px,
        picture=people.picture,
        track=people.track,
        person_gender=people.gender,
        source=people.source,
        prior=priors,
    )
