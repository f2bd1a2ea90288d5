"""Fit bodies to the people in photographs or keypoint files and write everything to one folder."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from vitruvian.apps.beliefs import Belief, belief_by_name, belief_of_posterior, refit_portraits, stand_on_unseen_legs
from vitruvian.apps.fit_config import FitPhotographs
from vitruvian.apps.inputs import Failure, InputOptions, SourcePicture, gather
from vitruvian.apps.multiview import fit_one_person, views_of_one
from vitruvian.apps.progress import Progress, silent
from vitruvian.apps.regress import FLOW_FIT
from vitruvian.apps.results import RunResults, require_renderer, write_pictures, write_run_report
from vitruvian.bodies.loaders import load_body
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.errors import InputError, NoPersonError, VitruvianError
from vitruvian.fits import Fits, body_name, config_json, package_version
from vitruvian.fitting.fit import FitConfig, fit_keypoints
from vitruvian.fitting.lbfgs import LBFGS
from vitruvian.fitting.parts import BodyPrior
from vitruvian.fitting.solution import Status
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.detectors import Detector
from vitruvian.keypoints.observations import EVIDENCE_CONFIDENCE, Keypoints, PeopleInImage
from vitruvian.output import prepare_folder
from vitruvian.recovery.posterior import BodyPosterior
from vitruvian.tensors import concatenate_records, stack_records


def prior_name(config: FitPhotographs) -> str:
    """The pose prior that is meant: if none is named, the flow, or VPoser where the published stages are asked for."""
    if config.prior != "auto":
        return config.prior
    return "vposer" if config.schedule == "paper" else "flow"


def solver_config(config: FitPhotographs) -> FitConfig:
    """The configuration of the solver that an application's configuration asks for."""
    own = FLOW_FIT if prior_name(config) == "flow" else FitConfig()
    chosen = FitConfig.paper() if config.schedule == "paper" else own
    chosen = replace(chosen, min_confidence=config.min_confidence)
    return replace(chosen, solver=LBFGS()) if config.solver == "lbfgs" else chosen


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
        """0 if everybody was fitted, 2 if nothing could even be read, else 1."""
        if not self.failures:
            return 0
        nothing_read = not len(self.fits) and all(failure.unreadable for failure in self.failures)
        return 2 if nothing_read else 1


def fit(
    body: BodyModel,
    people: Keypoints | PeopleInImage | Sequence[PeopleInImage],
    camera: Camera | None = None,
    *,
    start: BodyPosterior | BodyParams | None = None,
    prior: BodyPrior | str | None = None,
    config: FitConfig | None = None,
) -> Fits:
    """Fit a body to 2D keypoints: everyone at once, in batches that fit the memory.

    Args:
        body: `open_body()` or `load_body(...)`.
        people: `(person, K)` keypoints of one picture, or the people of one or several pictures.
        camera: one camera for all, or one per person; None takes the image size that `people` know, with a focal length
            of the image diagonal.
        start: what `regress` made of the same people, which is then start and prior; or parameters, one row per person;
            None chooses starts by what the prior is.
        prior: belief about body poses, or its name: `flow` (the default: the distribution that `regress` finds),
            `vposer`, `mixture`, `hand-set`, `bending`, `none`.
        config: solver, stages, weights; None takes those made for the prior.

    Raises:
        InputError: no camera and no image size, or cameras that do not match the people.
    """
    pictures = [people] if isinstance(people, PeopleInImage) else people
    if isinstance(pictures, Keypoints):
        keypoints = pictures if pictures.confidence.dim() == 2 else pictures[None]
        names, numbers = [""] * len(keypoints.confidence), list(range(len(keypoints.confidence)))
        sources: Sequence[PeopleInImage] = ()
    else:
        if not pictures:
            raise InputError("no pictures given")
        sources = pictures
        keypoints = concatenate_records(
            [picture.keypoints.to_format(pictures[0].keypoints.format) for picture in pictures]
        )
        names = [picture.image for picture in pictures for _ in range(len(picture))]
        numbers = [k for picture in pictures for k in range(len(picture))]
    count = len(keypoints.confidence)
    if camera is None:
        camera = _known_cameras(sources)
    if camera.focal_px.dim() == 1:
        camera = camera.map(lambda x: x.expand(count, -1))
    if isinstance(start, BodyPosterior):
        belief = belief_of_posterior(start, body, keypoints, camera)
    elif isinstance(prior, BodyPrior):
        belief = Belief(prior, start, FitConfig())
    else:
        least = EVIDENCE_CONFIDENCE if config is None else config.min_confidence
        name = prior or ("flow" if start is None else "vposer")
        belief = belief_by_name(name, body, keypoints, camera, min_confidence=least)
        belief = replace(belief, start=start if start is not None else belief.start)
    portraits = start is None and prior is None
    return _fit_rows(body, keypoints, camera, names, numbers, config or belief.config, belief, portraits=portraits)


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
    """
    folder = prepare_folder(config.out)
    if config.pictures:
        require_renderer()
    clock = Stopwatch()
    with clock.step("load the body"):
        body = body if body is not None else load_body(config.body, gender=config.gender)
    options = InputOptions(config.keypoints, config.focal_px, config.image_size)
    with clock.step("find people"):
        gathered = gather(config.inputs, options, detector=detector, progress=progress)
    with clock.step("fit"):
        pictures = views_of_one(gathered.pictures) if config.views else gathered.pictures
        fits = _fit_pictures(body, pictures, config, progress)
    failures = (*gathered.failures, *_people_without_fit(fits))
    fits.save(folder / "fits.npz")
    errors = {} if truth_error_mm is None else truth_error_mm(fits, body)
    results = RunResults(
        body, fits, pictures, failures, gathered.notes, config_of(config), title=title, truth_error_mm=errors
    )
    with clock.step("draw"):
        written = write_pictures(results, folder, draw=config.pictures, progress=progress)
    write_run_report(results, written, folder, seconds=clock.seconds)
    return FitOutcome(fits, failures, folder, clock.seconds, gathered.notes, errors)


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
    values["inputs"] = [path.name for path in config.inputs]
    values["out"] = config.out.name
    values["keypoints"] = None if config.keypoints is None else config.keypoints.name
    return values


def _fit_pictures(
    body: BodyModel, pictures: Sequence[SourcePicture], config: FitPhotographs, progress: Progress
) -> Fits:
    if not pictures:
        keypoints = Keypoints.empty("openpose-body25")
        camera = Camera(*(torch.zeros(0, 2) for _ in range(3)))
        nothing = Belief(None, None, solver_config(config))
        return _fit_rows(
            body, keypoints, camera, [], [], nothing.config, nothing, config=config_json(config_of(config))
        )
    formats = Counter(picture.keypoints.format for picture in pictures)
    widest = max(formats, key=lambda name: len(Keypoints.empty(name).definition))
    keypoints = concatenate_records([picture.keypoints.to_format(widest) for picture in pictures])
    counts = [len(picture.keypoints.confidence) for picture in pictures]
    cameras = [stack_records([picture.camera] * count) for picture, count in zip(pictures, counts, strict=True)]
    names = [picture.name for picture, count in zip(pictures, counts, strict=True) for _ in range(count)]
    numbers = [person for count in counts for person in range(count)]
    camera = concatenate_records(cameras)
    return _fit_rows(
        body,
        keypoints,
        camera,
        names,
        numbers,
        solver_config(config),
        belief_by_name(
            prior_name(config), body, keypoints, camera, views=config.views, min_confidence=config.min_confidence
        ),
        views=config.views,
        portraits=config.prior == "auto" and prior_name(config) == "flow",
        config=config_json(config_of(config)),
        progress=progress,
    )


def _fit_rows(
    body: BodyModel,
    keypoints: Keypoints,
    camera: Camera,
    names: Sequence[str],
    numbers: Sequence[int],
    fit_config: FitConfig,
    belief: Belief,
    *,
    views: bool = False,
    portraits: bool = False,
    config: str | None = None,
    progress: Progress = silent,
) -> Fits:
    total, done = len(names), 0

    def advance(people: int) -> None:
        nonlocal done
        done += people
        progress("fit", done, total)

    progress("fit", 0, total)
    if views:
        fitted = fit_one_person(body, keypoints, camera, fit_config, belief)
        advance(total)
    else:
        fitted = fit_keypoints(
            body, keypoints, camera, config=fit_config, prior=belief.prior, start=belief.start, progress=advance
        )
        if portraits:
            fitted = stand_on_unseen_legs(fitted, body, keypoints, min_confidence=fit_config.min_confidence)
            fitted = refit_portraits(fitted, body, keypoints, camera, fit_config)
    return Fits(
        params=fitted.params,
        camera=camera.to(dtype=body.dtype),
        cost=fitted.cost,
        reprojection_px=fitted.reprojection_px,
        status=tuple(Status(value).name.lower() for value in fitted.status.tolist()),
        image=tuple(names),
        person=tuple(numbers),
        frame=(0,) * total,
        skeleton=body.skeleton,
        body=body_name(body),
        gender=body.gender,
        config=config if config is not None else config_json({"fit": repr(fit_config)}),
        version=package_version(),
    )


def _known_cameras(pictures: Sequence[PeopleInImage]) -> Camera:
    if not pictures or any(picture.image_size is None for picture in pictures):
        raise InputError(
            "the size of the picture is not known",
            expected="a camera, or people whose image size is known",
            hint="pass Camera.from_image_size(width, height)",
        )
    cameras = []
    for picture in pictures:
        assert picture.image_size is not None
        one = Camera.from_image_size(*picture.image_size, focal_px=picture.focal_px)
        cameras.append(stack_records([one] * len(picture)) if len(picture) else one.map(lambda x: x.expand(0, 2)))
    return concatenate_records(cameras)


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
