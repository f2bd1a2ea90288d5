"""Fit bodies to the people in photographs or keypoint files and write everything to one folder."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from vitruvian.apps.failures import Failure, setting_aside
from vitruvian.apps.fit_config import FitPhotographs
from vitruvian.apps.inputs import Gathered, InputOptions, gather, readable
from vitruvian.apps.results import RunResults, require_renderer, write_pictures, write_run_report
from vitruvian.apps.run_folder import run_folder
from vitruvian.bodies.loaders import load_body
from vitruvian.bodies.model import BodyModel
from vitruvian.errors import InputError, NoPersonError, VitruvianError
from vitruvian.estimation.beliefs import FLOW, PriorChoice, default_prior
from vitruvian.estimation.fit import fit, fit_views_of_one
from vitruvian.estimation.pictures import belief_of_photographs, regress_photographs
from vitruvian.estimation.verdicts import BAD
from vitruvian.estimation.views import views_of_one
from vitruvian.fits import Fits, config_json
from vitruvian.fitting.config import FitConfig
from vitruvian.fitting.lbfgs import LBFGS
from vitruvian.keypoints.detectors import Detector
from vitruvian.keypoints.people import People
from vitruvian.priors.published_vposer import read_published_vposer
from vitruvian.progress import Progress, silent
from vitruvian.recovery.image_weights import read_image_network
from vitruvian.tensors import concatenate_records


def prior_name(config: FitPhotographs, body: BodyModel) -> str:
    """The pose prior that is meant: if none is named, what suits the body, or VPoser for the published stages."""
    if config.prior != "auto":
        return config.prior
    own = default_prior(body)
    return "vposer" if config.schedule == "paper" and own == FLOW else own


def prior_choice(config: FitPhotographs, body: BodyModel) -> PriorChoice:
    """The prior with its weights, which are read here.

    Raises:
        WeightsError: the weights cannot be read.
        UnsafeFileError: the file of weights asks to run code.
        InputError: weights for a prior that has none.
    """
    vposer = None if config.prior_weights is None else read_published_vposer(config.prior_weights).vposer
    return PriorChoice(prior_name(config, body), vposer, config.limits)


def settings_of(config: FitPhotographs) -> Callable[[FitConfig], FitConfig]:
    """What an application's configuration changes in the settings made for a prior."""

    def changed(own: FitConfig) -> FitConfig:
        chosen = FitConfig.paper() if config.schedule == "paper" else own
        chosen = replace(chosen, min_confidence=config.min_confidence)
        return replace(chosen, solver=LBFGS()) if config.solver == "lbfgs" else chosen

    return changed


@dataclass(frozen=True, eq=False)
class FitOutcome:
    """What a run did.

    Attributes:
        fits: all people, those without a fit included.
        failures: inputs that could not be used, and people without a fit.
        folder: where everything was written.
        seconds: wall-clock time by step.
        notes: guesses that were made.
        truth_error_mm: errors of people whose truth is known, by name of their picture.
    """

    fits: Fits
    failures: tuple[Failure, ...]
    folder: Path
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    truth_error_mm: Mapping[str, float] = field(default_factory=dict)

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def exit_code(self) -> int:
        """0 if everybody was fitted and no fit is bad, 2 if nothing could even be read, else 1."""
        if not self.failures:
            return 1 if BAD in self.fits.verdict else 0
        nothing_read = not len(self.fits) and all(failure.unreadable for failure in self.failures)
        return 2 if nothing_read else 1


def fit_photographs(
    config: FitPhotographs,
    *,
    body: BodyModel | None = None,
    detector: Detector | None = None,
    truth_error_mm: Callable[[Fits, BodyModel], Mapping[str, float]] | None = None,
    title: str = "Fitted people",
    progress: Progress = silent,
) -> FitOutcome:
    """Detect people, fit all of them in one batch, and write `fits.npz`, meshes, overlays and the report.

    Args:
        body: a body model in place of the one that the configuration names.
        detector: in place of the MediaPipe one.
        truth_error_mm: gives the errors of people whose truth is known, by name of their picture.
        title: of the report.

    Raises:
        OutputError: the output folder cannot be written; found out before anything else.
        InputError: nothing was given, or the keypoint folder is missing.
        MissingPackageError: an optional package is needed.
        ModelFileError: the licensed body is not registered.
        WeightsError: the weights of the prior cannot be read.
    """
    with run_folder(config.out, overwrite=config.overwrite) as folder:
        if config.pictures:
            require_renderer()
        clock = Stopwatch()
        with clock.step("load the body"):
            body = body if body is not None else load_body(config.body, gender=config.gender)
        prior = prior_choice(config, body)
        options = InputOptions(
            config.keypoints,
            config.focal_px,
            config.image_size,
            depth_cues=config.evidence == "picture",
            keypoint_format=config.keypoint_format,
        )
        with clock.step("find people"):
            gathered = gather(config.inputs, options, detector=detector, progress=progress)
        failures = list(gathered.failures)
        with clock.step("fit"):
            people, fits = _fit_gathered(body, gathered, prior, config, failures, progress)
        failures += _people_without_fit(fits)
        fits.save(folder / "fits.npz")
        errors = {} if truth_error_mm is None else truth_error_mm(fits, body)
        results = RunResults(
            body, fits, people, gathered.pictures, gathered.notes, config_of(config), title=title, truth_error_mm=errors
        )
        with clock.step("draw"):
            written = write_pictures(results, folder, failures, draw=config.pictures, progress=progress)
        write_run_report(results, written, failures, folder, seconds=clock.seconds)
        return FitOutcome(fits, tuple(failures), folder, clock.seconds, gathered.notes, errors)


class Stopwatch:
    """Wall-clock seconds of named steps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._name = ""
        self._start = 0.0

    def step(self, name: str) -> "Stopwatch":
        self._name = name
        return self

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        self.seconds[self._name] = time.perf_counter() - self._start


def config_of(config: FitPhotographs) -> dict[str, object]:
    """The configuration as plain values, file names without their folders."""
    values = asdict(config)
    values["inputs"] = [readable(path.name) for path in config.inputs]
    values["out"] = readable(config.out.name)
    for name in ("keypoints", "prior_weights", "network"):
        values[name] = None if values[name] is None else readable(values[name].name)
    return values


def _fit_gathered(
    body: BodyModel,
    gathered: Gathered,
    prior: PriorChoice,
    config: FitPhotographs,
    failures: list[Failure],
    progress: Progress,
) -> tuple[People, Fits]:
    """Everyone's fit. Where all together cannot be fitted, each picture is tried by itself, and set aside alone."""
    saved = config_json(config_of(config))
    files = {picture.identity: picture.photograph for picture in gathered.pictures}

    def fitted(people: People) -> Fits:
        return replace(_fit_people(body, people, files, prior, config, progress), config=saved)

    if config.views:
        people = views_of_one(gathered.people)
        return people, fitted(people)
    try:
        return gathered.people, fitted(gathered.people)
    except VitruvianError:
        raise
    except Exception:
        parts: list[tuple[People, Fits]] = []
        for picture in gathered.pictures:
            with setting_aside(picture.name, failures, while_doing="fitting the people of this picture"):
                some = gathered.people[gathered.people.rows_of(picture.identity)]
                parts.append((some, fitted(some)))
        if not parts:
            raise
        return concatenate_records([people for people, _ in parts]), concatenate_records([fits for _, fits in parts])


def _fit_people(
    body: BodyModel,
    people: People,
    files: Mapping[str, Path | None],
    prior: PriorChoice,
    config: FitPhotographs,
    progress: Progress,
) -> Fits:
    total, done = len(people), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress("fit", done, total)

    progress("fit", 0, total)
    settings = settings_of(config)
    if config.network is not None and len(people):
        if config.views or config.prior != "auto":
            raise InputError("an image network is a prior of its own, for single pictures", hint="leave out --network")
        posterior = regress_photographs(read_image_network(config.network), body, people, files)
        belief = belief_of_photographs(posterior, people)

        def of_belief(own: FitConfig) -> FitConfig:
            return settings(belief.config)

        return fit(body, people, prior=belief.prior, start=belief.start, config=of_belief, progress=advance)
    if config.views:
        return fit_views_of_one(body, people, prior=prior, config=settings, progress=advance)
    return fit(body, people, prior=prior, config=settings, progress=advance)


def _people_without_fit(fits: Fits) -> list[Failure]:
    failures = []
    for one in fits:
        if one.usable:
            continue
        error: VitruvianError
        if one.status == "no_evidence":
            error = NoPersonError(
                "too few keypoints inside the picture are sure enough to fit this person",
                hint="lower --min-confidence, or check that the keypoints are in pixels of this picture",
            )
        else:
            error = NoPersonError("the fit of this person broke down", seen=one.status)
        failures.append(Failure(f"{one.image}, person {one.person}", error))
    return failures
