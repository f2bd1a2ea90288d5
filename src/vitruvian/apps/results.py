"""Everything that a run leaves behind besides `fits.npz`: meshes, overlays, second views and the report."""

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitruvian.apps.inputs import Failure, SourcePicture
from vitruvian.bodies.model import BodyModel
from vitruvian.errors import MissingPackageError
from vitruvian.exports.gltf import write_gltf
from vitruvian.fits import Fits
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.meshes import Mesh
from vitruvian.keypoints.images import read_image
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.people import People
from vitruvian.output import prepare_folder, replacing
from vitruvian.progress import Progress, silent
from vitruvian.view.drawing import draw_keypoints, fit_within
from vitruvian.view.render import overlay, turned_view
from vitruvian.view.report import Report, ReportFailure, ReportPerson, ReportPicture, write_report

LONGEST_SIDE_PX = 1200
"""Overlays of larger photographs are drawn at this size."""
_EMPTY_CANVAS = (236, 236, 238)


@dataclass(frozen=True, eq=False)
class RunResults:
    """What a run found out; row i of `fits` is row i of `people`.

    `truth_error_mm` holds, by name of the picture, the error of its people where the truth is known.
    """

    body: BodyModel
    fits: Fits
    people: People
    pictures: Sequence[SourcePicture]
    failures: Sequence[Failure]
    notes: Sequence[str]
    config: Mapping[str, Any]
    title: str = "Fitted people"
    truth_error_mm: Mapping[str, float] | None = None


def require_renderer() -> None:
    """Raise MissingPackageError where bodies cannot be drawn."""
    if importlib.util.find_spec("mitsuba") is None:
        raise MissingPackageError(
            "pictures of bodies need the package mitsuba", hint='pip install "vitruvian[view]", or --no-pictures'
        )


def write_pictures(
    results: RunResults, folder: Path, *, draw: bool = True, progress: Progress = silent
) -> list[ReportPicture]:
    """Write `meshes/NAME.glb`, `overlays/NAME.png` and `overlays/NAME_side.png`; returns them for the report.

    Raises:
        MissingPackageError: pictures are wanted and mitsuba is missing.
        OutputError: something cannot be written.
    """
    pictures = []
    for count, picture in enumerate(results.pictures):
        progress("draw", count, len(results.pictures))
        pictures.append(_write_picture(results, picture, folder, draw))
    progress("draw", len(results.pictures), len(results.pictures))
    return pictures


def write_run_report(
    results: RunResults, pictures: Sequence[ReportPicture], folder: Path, *, seconds: Mapping[str, float]
) -> None:
    """Write `report.html`. Raises OutputError where that is impossible."""
    write_report(_report(results, pictures, seconds), folder / "report.html")


def _write_picture(results: RunResults, picture: SourcePicture, folder: Path, draw: bool) -> ReportPicture:
    rows = results.people.rows_of(picture.identity)
    fits, keypoints = results.fits[rows], results.people.keypoints[rows]
    usable = fits[fits.usable]
    width, height = (round(side) for side in picture.camera.image_size.tolist())
    mesh = ""
    if len(usable):
        mesh = f"meshes/{picture.stem}.glb"
        write_gltf(fits, results.body, folder / mesh)
    if not draw:
        return ReportPicture(picture.name, (), f"{width} × {height} pixels", mesh)
    photo, camera = _canvas(picture)
    scale = float(camera.image_size[0] / picture.camera.image_size[0])
    seen = replace(keypoints, positions=keypoints.positions * scale)
    views = [("Seen keypoints", draw_keypoints(photo, seen))]
    if len(usable):
        posed = usable.pose(results.body)
        views += _views(photo, camera, posed.mesh(), seen if picture.photograph is None else None, results.body.gender)
        overlays = prepare_folder(folder / "overlays")
        for suffix, (_, pixels) in zip(("", "_side"), views[1:], strict=True):
            with replacing(overlays / f"{picture.stem}{suffix}.png") as temporary:
                Image.fromarray(pixels).save(temporary)
    return ReportPicture(picture.name, tuple(views), f"{width} × {height} pixels", mesh)


def _views(
    photo: np.ndarray, camera: Camera, people: Mesh, keypoints: Keypoints | None, gender: str
) -> list[tuple[str, np.ndarray]]:
    """The body over the photograph (or, without one, under its keypoints), and from the side."""
    over = overlay(photo, people, camera, colors=gender, opacity=0.95, samples=12)
    if keypoints is not None:
        over = draw_keypoints(over, keypoints)
    height, width = photo.shape[:2]
    side_height = min(max(height, 320), 640)
    aspect = min(max(width / height, 0.6), 1.4)
    side = turned_view(people, size=(round(side_height * aspect), side_height), colors=gender)
    return [("Fitted body", over), ("From the side", side[..., :3])]


def _canvas(picture: SourcePicture) -> tuple[np.ndarray, Camera]:
    """The photograph at drawing size (an empty one where there are only keypoints) and its camera at that size."""
    if picture.photograph is not None:
        pixels = fit_within(read_image(picture.photograph).pixels, LONGEST_SIDE_PX)
    else:
        width, height = (round(side) for side in picture.camera.image_size.tolist())
        scale = min(1.0, LONGEST_SIDE_PX / max(width, height))
        size = (max(1, round(height * scale)), max(1, round(width * scale)), 3)
        pixels = np.broadcast_to(np.array(_EMPTY_CANVAS, dtype=np.uint8), size).copy()
    return pixels, picture.camera.resize(width=pixels.shape[1], height=pixels.shape[0])


def _report(results: RunResults, pictures: Sequence[ReportPicture], seconds: Mapping[str, float]) -> Report:
    fits = results.fits
    truth = results.truth_error_mm or {}
    time_ms = 1000 * seconds.get("fit", 0.0) / max(len(fits), 1)
    used = results.people.keypoints.seen.sum(-1).tolist()
    people = [
        ReportPerson(
            picture=one.image,
            person=one.person,
            status=one.status,
            reprojection_px=float(one.reprojection_px),
            cost=float(one.cost),
            time_ms=time_ms,
            keypoints_used=count,
            truth_error_mm=truth.get(one.image),
        )
        for one, count in zip(fits, used, strict=True)
    ]
    good = fits[fits.usable]
    facts = [("People", str(len(fits))), ("Body", f"{fits.family}, {fits.gender}")]
    if len(good):
        facts.append(("Reprojection, median", f"{float(good.reprojection_px.median()):.1f} px"))
    facts += [(_STEP_TITLES.get(step, step), f"{value:.1f} s") for step, value in seconds.items()]
    return Report(
        title=results.title,
        version=fits.version,
        people=people,
        pictures=pictures,
        failures=[ReportFailure(f.name, f.reason, f.error.hint or "") for f in results.failures],
        config=json.loads(json.dumps(dict(results.config), default=str)),
        facts=facts,
        notes=results.notes,
    )


_STEP_TITLES = {"load the body": "Loading", "find people": "Finding people", "fit": "Fitting", "draw": "Drawing"}
