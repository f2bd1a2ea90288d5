"""Configurations of the applications of the pose distribution, apart from their code for a quick command line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vitruvian.errors import InputError


@dataclass(frozen=True)
class SamplePhotographs:
    """Draw 3D poses that explain everyone in photographs or OpenPose keypoint files."""

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PHOTO|FOLDER")] = ()
    """Photographs, folders of photographs, or OpenPose files. May be left out with --keypoints."""
    out: Annotated[Path, tyro.conf.arg(aliases=("-o",), metavar="FOLDER")] = Path("out")
    """Folder for the results; made if it does not exist."""
    n: Annotated[int, tyro.conf.arg(aliases=("-n",))] = 25
    """Samples per person, besides the mode."""
    keypoints: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """OpenPose files (NAME_keypoints.json), matched to the photographs by name, or used alone."""
    keypoint_format: Annotated[str | None, tyro.conf.arg(metavar="NAME|auto")] = None
    """What the numbers of keypoint files mean (openpose-body25b, coco17, halpe26, ...). Without it, or with auto: told
    from their number, and from how plausible the limbs are in each order."""
    evidence: Literal["picture", "keypoints"] = "picture"
    """What is known of each person. picture: keypoints, and which way the bones point as a network sees it in the
    photograph, where there is one; keypoints: these alone."""
    gender: Literal["neutral", "female", "male"] = "neutral"
    """Shape space of the open body."""
    network: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """An image network, which reads the pixels around each person instead of their keypoints: a file of `vitruvian
    train image`, or a published ProHMR checkpoint."""
    focal_px: float | None = None
    """Focal length in pixels. Without it: the photograph's metadata, else the length of the image diagonal."""
    image_size: tuple[int, int] | None = None
    """Width and height in pixels, for keypoints without photographs. Without it: guessed from the keypoints."""
    seed: int = 0
    """Of the samples."""
    pictures: bool = True
    """Draw the mode, samples, and the uncertainty."""
    overwrite: bool = False
    """Take away the results of an earlier run in the folder; without it such a folder is refused."""


@dataclass(frozen=True)
class LiftKeypoints:
    """Lift the 2D skeletons of everyone in OpenPose keypoint files, or in photographs, to 3D."""

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="KEYPOINTS")] = ()
    """OpenPose files, photographs, or folders of photographs. May be left out with --keypoints."""
    out: Annotated[Path, tyro.conf.arg(aliases=("-o",), metavar="FOLDER")] = Path("out")
    """Folder for the results; made if it does not exist."""
    skeleton: Literal["openpose-body25", "h36m17"] = "openpose-body25"
    """Which points are lifted: OpenPose's BODY_25 or the 17 joints of Human3.6M."""
    n: Annotated[int, tyro.conf.arg(aliases=("-n",))] = 25
    """Samples per person, besides the mode."""
    keypoints: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder of OpenPose files."""
    keypoint_format: Annotated[str | None, tyro.conf.arg(metavar="NAME|auto")] = None
    """What the numbers of keypoint files mean (openpose-body25b, coco17, halpe26, ...). Without it, or with auto: told
    from their number, and from how plausible the limbs are in each order."""
    focal_px: float | None = None
    """Focal length in pixels. Without it: the photograph's metadata, else the length of the image diagonal."""
    image_size: tuple[int, int] | None = None
    """Width and height in pixels, for keypoints without photographs. Without it: guessed from the keypoints."""
    seed: int = 0
    """Of the samples."""
    overwrite: bool = False
    """Take away the results of an earlier run in the folder; without it such a folder is refused."""


def require_samples(number: int) -> None:
    """Raise `InputError` unless at least one sample per person is asked for."""
    if number < 1:
        raise InputError("at least one sample per person is needed", seen=number, hint="-n 25")
