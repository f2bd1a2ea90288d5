"""The demonstration: the whole way on a photograph found in the installation, and on a person whose truth is known."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vitruvian.apps.fit import FitOutcome, fit_photographs
from vitruvian.apps.fit_config import Demo, FitPhotographs
from vitruvian.apps.results import require_renderer
from vitruvian.bodies.model import BodyModel, PosedBody
from vitruvian.bodies.open_body import open_body
from vitruvian.errors import MissingPackageError
from vitruvian.evaluation.metrics import pa_error_mm
from vitruvian.fits import Fits
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.rotations import axis_angle_to_matrix
from vitruvian.keypoints.detectors import Detector
from vitruvian.output import prepare_folder, replacing
from vitruvian.progress import Progress, silent
from vitruvian.view.render import render_meshes

PHOTOGRAPH = "grace_hopper.jpg"
RENDERED = "rendered_person.png"
IMAGE_SIZE = (720, 900)
_SKIN = (0.86, 0.68, 0.57)
_BACKDROP = (0.93, 0.93, 0.94)
_POSE_DEG: Mapping[str, tuple[float, float, float]] = {
    "left_hip": (-18, 0, 4), "left_knee": (22, 0, 0), "right_hip": (8, 0, -4), "right_knee": (6, 0, 0),
    "spine1": (4, 0, 0), "spine3": (0, 8, 0), "head": (2, -12, 0), "left_shoulder": (0, -12, -62),
    "right_shoulder": (0, 24, 38), "left_elbow": (0, -34, 0), "right_elbow": (0, 88, 0), "jaw": (8, 0, 0),
}  # fmt: skip
"""A natural pose: one foot forward, one hand raised; degrees about x, y, z of each joint."""
_TURN_DEG = 20.0


@dataclass(frozen=True, eq=False)
class TruePerson:
    """The rendered person: the body that was drawn, the camera, and the picture."""

    body: PosedBody
    camera: Camera
    picture: np.ndarray


def run_demo(config: Demo, *, detector: Detector | None = None, progress: Progress = silent) -> FitOutcome:
    """Fit the photograph of Grace Hopper (public domain, from matplotlib) and a rendered person; write all results.

    Raises:
        OutputError: the output folder cannot be written.
        MissingPackageError: the packages of the extras `detect` and `view` are needed.
    """
    folder = prepare_folder(config.out)
    require_renderer()
    progress("draw a person", 0, 1)
    person = render_true_person(open_body())
    rendered = prepare_folder(folder / "photos") / RENDERED
    with replacing(rendered) as temporary:
        Image.fromarray(person.picture).save(temporary)
    progress("draw a person", 1, 1)
    fit_config = FitPhotographs(inputs=(sample_photograph(), rendered), out=folder)
    return fit_photographs(
        fit_config,
        detector=detector,
        truth_error_mm=lambda fits, body: errors_of(person, fits, body),
        title="Demonstration of vitruvian",
        progress=progress,
    )


def sample_photograph() -> Path:
    """The photograph that matplotlib brings along.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise MissingPackageError(
            "the photograph of the demonstration is part of matplotlib", hint='pip install "vitruvian[view]"'
        )
    from matplotlib.cbook import get_sample_data

    return Path(str(get_sample_data(PHOTOGRAPH, asfileobj=False)))


def render_true_person(body: BodyModel) -> TruePerson:
    """A person of known shape and pose before a camera."""
    posed = natural_person(body)
    camera = Camera.from_image_size(*IMAGE_SIZE)
    picture = render_meshes(posed.mesh(), camera, colors=_SKIN, background=_BACKDROP, samples=24)
    return TruePerson(posed, camera, picture[..., :3])


def natural_person(body: BodyModel) -> PosedBody:
    """One person, upright before a camera of `IMAGE_SIZE`, whole in the picture."""
    axis_angle = torch.zeros(body.num_joints, 3, dtype=body.dtype)
    for name, angles in _POSE_DEG.items():
        axis_angle[body.skeleton.index(name)] = torch.deg2rad(torch.tensor(angles, dtype=body.dtype))
    rotations = axis_angle_to_matrix(axis_angle)
    half_turn = axis_angle_to_matrix(torch.tensor([torch.pi, 0.0, 0.0], dtype=body.dtype))
    turn = axis_angle_to_matrix(torch.tensor([0.0, np.deg2rad(_TURN_DEG), 0.0], dtype=body.dtype))
    rotations[0] = half_turn @ turn
    betas = torch.tensor([0.4, -0.6, 0.5], dtype=body.dtype)
    shaped = body.with_shape(betas)
    standing = shaped.with_pose(rotations).vertices
    middle = (standing.amax(0) + standing.amin(0)) / 2
    transl = torch.tensor([0.0, 0.0, 2.35], dtype=body.dtype) - middle
    return shaped.with_pose(rotations, transl)


def errors_of(person: TruePerson, fits: Fits, body: BodyModel) -> dict[str, float]:
    """Mean vertex distance after Procrustes alignment of the rendered person, in millimetres."""
    rows = [row for row, one in enumerate(fits) if one.image == RENDERED and one.usable]
    if not rows:
        return {}
    fitted = fits[rows[:1]].pose(body).vertices[0]
    return {RENDERED: float(pa_error_mm(fitted.double(), person.body.vertices.double()))}
