"""Configurations of the applications of the pose distribution, apart from their code for a quick command line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


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
    evidence: Literal["picture", "keypoints"] = "picture"
    """What is known of each person. picture: keypoints, and which way the bones point as a network sees it in the
    photograph, where there is one; keypoints: these alone."""
    gender: Literal["neutral", "female", "male"] = "neutral"
    """Shape space of the open body."""
    focal_px: float | None = None
    """Focal length in pixels. Without it: the photograph's metadata, else the length of the image diagonal."""
    image_size: tuple[int, int] | None = None
    """Width and height in pixels, for keypoints without photographs. Without it: guessed from the keypoints."""
    seed: int = 0
    """Of the samples."""
    pictures: bool = True
    """Draw the mode, samples, and the uncertainty."""


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
    focal_px: float | None = None
    """Focal length in pixels. Without it: the photograph's metadata, else the length of the image diagonal."""
    image_size: tuple[int, int] | None = None
    """Width and height in pixels, for keypoints without photographs. Without it: guessed from the keypoints."""
    seed: int = 0
    """Of the samples."""


@dataclass(frozen=True)
class EvaluateSynthetic:
    """Measure the pose distribution, fits and several views on synthetic people in held-out poses."""

    count: int = 1000
    """Number of people."""
    samples: int = 100
    """Samples of each person's distribution."""
    seed: int = 1
    """Of every random number."""
    quick: bool = False
    """150 people, 25 samples, fewer fits."""
    baselines: Path | None = None
    """Weights of the baselines, from `vitruvian train baselines`; left out if not given."""
    fit: bool = True
    """Also fit the people, and people in several views."""
    json: Path | None = None
    """File for the figures."""
