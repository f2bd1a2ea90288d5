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
    for name, frame in dict.fromkeys(zip(usable.image, usable.frame, strict=True)):
        rows = [row for row, one in enumerate(usable) if (one.image, one.frame) == (name, frame)]
        people = usable[rows].pose(body)
        title = f"{name} ({frame})" if frame else name
        pictures.append(ViewedPicture(title, people, usable[rows[0]].camera, _photograph(photos, name)))
    return open_viewer(pictures, host=host, port=port)


def _photograph(folder: Path | None, name: str) -> np.ndarray | None:
    if folder is None or not (folder / name).is_file():
        return None
    try:
        return fit_within(read_image(folder / name).pixels, _LONGEST_PHOTOGRAPH_PX)
    except InputError:  # a picture that was replaced by something else; the people can be seen without it
        return None
