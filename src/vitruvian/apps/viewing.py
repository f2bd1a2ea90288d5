"""Saved fits in the browser viewer, with their photographs where they are found."""

from pathlib import Path

import numpy as np

from vitruvian.bodies.model import BodyModel
from vitruvian.errors import InputError
from vitruvian.exports.files import fitted_body
from vitruvian.fits import Fits
from vitruvian.keypoints.images import read_image
from vitruvian.view.drawing import fit_within
from vitruvian.view.viewer import ViewedPicture, Viewer, open_viewer

_LONGEST_PHOTOGRAPH_PX = 800


def show_fits(
    fits: Fits,
    *,
    body: BodyModel | None = None,
    photos: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8080,
) -> Viewer:
    """Open the viewer on the usable people of `fits`.

    Args:
        body: the body that was fitted; None loads it again.
        photos: folder where the photographs are looked for by name.

    Raises:
        InputError: nobody in `fits` is usable.
        MissingPackageError: viser is not installed.
    """
    usable = fits[fits.usable]
    if not len(usable):
        raise InputError("nobody to show: no fit is usable", seen=", ".join(sorted(set(fits.status))) or "no people")
    body = body if body is not None else fitted_body(fits)
    pictures = []
    for picture, frame in dict.fromkeys(zip(usable.picture, usable.frame, strict=True)):
        rows = [row for row, one in enumerate(usable) if (one.picture, one.frame) == (picture, frame)]
        name = usable.image[rows[0]]
        title = f"{name} ({frame})" if frame else name
        photograph = _photograph(photos, picture)
        photograph = _photograph(photos, name) if photograph is None else photograph
        pictures.append(ViewedPicture(title, usable[rows].pose(body), usable[rows[0]].camera, photograph))
    return open_viewer(pictures, host=host, port=port)


def _inside(folder: Path, name: str) -> bool:
    """Whether a name, which a file of fits may hold in any form, is a file below the folder."""
    try:
        path = (folder / name).resolve()
        return path.is_relative_to(folder.resolve()) and path.is_file()
    except (OSError, ValueError):
        return False


def _photograph(folder: Path | None, name: str) -> np.ndarray | None:
    if folder is None or not _inside(folder, name):
        return None
    try:
        return fit_within(read_image(folder / name).pixels, _LONGEST_PHOTOGRAPH_PX)
    except InputError:  # a picture that was replaced by something else; the people can be seen without it
        return None
