"""Expressive 3D people (body, hands, face) from photographs and 2D keypoints.

The names below are the public interface; they are imported when they are first used, so that `import vitruvian` is
quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitruvian.bodies.loaders import load_body
    from vitruvian.bodies.model import BodyModel
    from vitruvian.bodies.open_body import open_body
    from vitruvian.bodies.params import BodyParams
    from vitruvian.errors import VitruvianError
    from vitruvian.estimation.detect import detect
    from vitruvian.estimation.fit import fit
    from vitruvian.estimation.regress import regress
    from vitruvian.exports.files import export
    from vitruvian.fits import Fit, Fits, load_fits
    from vitruvian.geometry.cameras import Camera
    from vitruvian.keypoints.images import read_image
    from vitruvian.keypoints.observations import Keypoints
    from vitruvian.keypoints.openpose import read_keypoints, write_keypoints
    from vitruvian.keypoints.people import People
    from vitruvian.recovery.posterior import BodyPosterior

_HOME = {
    "BodyModel": "vitruvian.bodies.model",
    "BodyParams": "vitruvian.bodies.params",
    "BodyPosterior": "vitruvian.recovery.posterior",
    "Camera": "vitruvian.geometry.cameras",
    "Fit": "vitruvian.fits",
    "Fits": "vitruvian.fits",
    "Keypoints": "vitruvian.keypoints.observations",
    "People": "vitruvian.keypoints.people",
    "VitruvianError": "vitruvian.errors",
    "detect": "vitruvian.estimation.detect",
    "export": "vitruvian.exports.files",
    "fit": "vitruvian.estimation.fit",
    "load_body": "vitruvian.bodies.loaders",
    "load_fits": "vitruvian.fits",
    "open_body": "vitruvian.bodies.open_body",
    "read_image": "vitruvian.keypoints.images",
    "read_keypoints": "vitruvian.keypoints.openpose",
    "regress": "vitruvian.estimation.regress",
    "write_keypoints": "vitruvian.keypoints.openpose",
}

__all__ = [
    "BodyModel",
    "BodyParams",
    "BodyPosterior",
    "Camera",
    "Fit",
    "Fits",
    "Keypoints",
    "People",
    "VitruvianError",
    "detect",
    "export",
    "fit",
    "load_body",
    "load_fits",
    "open_body",
    "read_image",
    "read_keypoints",
    "regress",
    "write_keypoints",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vitruvian' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
