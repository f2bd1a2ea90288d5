"""The commands `export` and `view`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.markup import escape

from vitruvian.cli.console import console
from vitruvian.errors import InputError

if TYPE_CHECKING:
    from vitruvian.fits import Fits

_MOST_NAMED = 10


@dataclass(frozen=True)
class Export:
    """Write fitted people for other programs; the suffix of the file decides the format.

    .glb: skinned meshes with skeleton and expression blend shapes. .obj, .ply: posed meshes. .npz: motion of one person
    as AMASS stores SMPL-X. .bvh: motion of one person.
    """

    fits: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FITS")]
    """fits.npz, or the folder that holds it."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """File to write."""
    rows: tuple[int, ...] = ()
    """Rows of the fits, counted from 0; everybody if none are given."""
    track: int | None = None
    """One person of a sequence, in all frames; needed for motion files where several people were followed."""
    frame_rate: float = 30.0
    """Frames per second of motion files."""


@dataclass(frozen=True)
class View:
    """Look at fitted people in the browser: bodies, skeletons, and the camera with its photograph."""

    fits: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FITS")]
    """fits.npz, or the folder that holds it."""
    photos: Path | None = None
    """Folder of the photographs, to show them in front of the cameras."""
    host: str = "127.0.0.1"
    port: int = 8080


def export(arguments: list[str]) -> int:
    """`vitruvian export`."""
    config = tyro.cli(Export, prog="vitruvian export", args=arguments)
    from vitruvian.exports.files import MOTION_SUFFIXES
    from vitruvian.exports.files import export as export_fits
    from vitruvian.exports.sequences import rows_of_track
    from vitruvian.fits import load_fits

    chosen = _chosen_rows(load_fits(_fits_file(config.fits)), config.rows)
    if config.track is not None:
        chosen = rows_of_track(chosen, config.track)
    path = export_fits(chosen, config.out, frame_rate=config.frame_rate)
    written = chosen[chosen.usable]
    if path.suffix.lower() in MOTION_SUFFIXES:
        _tell_of_motion(written, path)
    else:
        _say(f"{len(written)} people → {path}")
    return 0


def _chosen_rows(fits: "Fits", rows: tuple[int, ...]) -> "Fits":
    """The named rows; all of them if none are named."""
    wrong = sorted({row for row in rows if not 0 <= row < len(fits)})
    if wrong:
        last = f"0 to {len(fits) - 1}" if len(fits) else "none: nobody is in the file"
        raise InputError("there are no such rows", seen=", ".join(map(str, wrong)), expected=last)
    return fits[list(rows)] if rows else fits


def _tell_of_motion(motion: "Fits", path: Path) -> None:
    """What was written, and what a reader of the file has to know."""
    from vitruvian.exports.files import shapes_are_foreign
    from vitruvian.exports.sequences import missing_frames

    _say(f"{len(motion)} frames → {path}")
    missing = missing_frames(motion)
    if missing:
        named = ", ".join(map(str, missing[:_MOST_NAMED])) + (", …" if len(missing) > _MOST_NAMED else "")
        _note(f"{len(missing)} frames between the first and the last have no fit and were left out: {named}")
    if path.suffix.lower() == ".npz" and shapes_are_foreign(motion):
        _note(f"the betas are those of the body {motion.body}; SMPL-X would make another person of them")


def _say(text: str) -> None:
    console.print(escape(text), highlight=False, soft_wrap=True)


def _note(text: str) -> None:
    console.print(f"[yellow]note[/] {escape(text)}", highlight=False, soft_wrap=True)


def view(arguments: list[str]) -> int:
    """`vitruvian view`."""
    config = tyro.cli(View, prog="vitruvian view", args=arguments)
    from vitruvian.apps.viewing import show_fits
    from vitruvian.fits import load_fits

    viewer = show_fits(load_fits(_fits_file(config.fits)), photos=config.photos, host=config.host, port=config.port)
    console.print(f"Open {viewer.address} in a browser; Ctrl-C ends.", highlight=False)
    viewer.wait()
    return 0


def _fits_file(path: Path) -> Path:
    return path / "fits.npz" if path.is_dir() else path
