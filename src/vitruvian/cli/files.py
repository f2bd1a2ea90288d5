"""The commands `export` and `view`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.markup import escape

from vitruvian.cli.console import console


@dataclass(frozen=True)
class Export:
    """Write fitted people for other programs; the suffix of the file decides the format.

    .glb: skinned meshes with skeleton and expression blend shapes. .obj, .ply: posed meshes. .npz: motion as AMASS
    stores SMPL-X. .bvh: motion of one person.
    """

    fits: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FITS")]
    """fits.npz, or the folder that holds it."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """File to write."""
    rows: tuple[int, ...] = ()
    """Rows of the fits; everybody if none are given."""
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
    from vitruvian.exports.files import export as export_fits
    from vitruvian.fits import load_fits

    fits = load_fits(_fits_file(config.fits))
    chosen = fits[list(config.rows)] if config.rows else fits
    path = export_fits(chosen, config.out, frame_rate=config.frame_rate)
    console.print(f"{int(chosen.usable.sum())} people → {escape(str(path))}", highlight=False, soft_wrap=True)
    return 0


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
