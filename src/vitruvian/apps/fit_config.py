"""Configurations of the fitting applications, apart from their code so that the command line starts fast."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class FitPhotographs:
    """Fit a 3D body, hands and face to everyone in photographs or OpenPose keypoint files."""

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PHOTO|FOLDER")] = ()
    """Photographs, folders of photographs, or OpenPose files. May be left out with --keypoints."""
    out: Annotated[Path, tyro.conf.arg(aliases=("-o",), metavar="FOLDER")] = Path("out")
    """Folder for the results; made if it does not exist."""
    keypoints: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """OpenPose files (NAME_keypoints.json), matched to the photographs by name, or used alone. Without it people are
    detected."""
    body: Literal["open", "smplx", "smplh", "smpl"] = "open"
    """Family of the body. All but the open one need a licensed file: vitruvian body add FILE."""
    gender: Literal["neutral", "female", "male"] = "neutral"
    """Shape space of the body."""
    prior: Literal["auto", "flow", "vposer", "mixture", "hand-set", "bending", "none"] = "auto"
    """What poses are likely. flow: the distribution that a network finds for these keypoints; the others know no
    picture. auto: flow, or vposer with the published stages."""
    prior_weights: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER|FILE")] = None
    """A published VPoser for --prior vposer: the folder vposer_v1_0 or V02_05, or its snapshot. Without it our own."""
    limits: bool = False
    """Also hold every joint within its range of motion, whatever the prior."""
    network: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """An image network: a file of `vitruvian train image`, or a published ProHMR checkpoint. Its distribution, given
    the pixels around each person, is then the prior."""
    keypoint_format: Annotated[str | None, tyro.conf.arg(metavar="NAME|auto")] = None
    """What the numbers of keypoint files mean (openpose-body25b, coco17, halpe26, ...). Without it, or with auto: told
    from their number, and from how plausible the limbs are in each order."""
    evidence: Literal["picture", "keypoints"] = "picture"
    """What is known of each person. picture: keypoints, and which way the bones point as a network sees it in the
    photograph, where there is one; keypoints: these alone."""
    views: bool = False
    """The pictures are views of one person at the same moment, from cameras that stand anywhere: fit one shape and one
    pose to all of them. Of several people in a picture the largest counts."""
    solver: Literal["lm", "lbfgs"] = "lm"
    """Levenberg-Marquardt, or the much slower L-BFGS of the papers."""
    schedule: Literal["own", "paper"] = "own"
    """Stages of the fit: our own, or those published with SMPLify-X."""
    focal_px: float | None = None
    """Focal length in pixels. Without it: the photograph's metadata, else the length of the image diagonal."""
    image_size: tuple[int, int] | None = None
    """Width and height in pixels, for keypoints without photographs. Without it: guessed from the keypoints."""
    min_confidence: float = 0.1
    """Keypoints of lower confidence are not used."""
    pictures: bool = True
    """Draw overlays and second views."""
    overwrite: bool = False
    """Take away the results of an earlier run in the folder; without it such a folder is refused."""


@dataclass(frozen=True)
class Demo:
    """See the whole way on two pictures: a photograph that every installation has, and a rendered person."""

    out: Annotated[Path, tyro.conf.arg(aliases=("-o",), metavar="FOLDER")] = Path("vitruvian-demo")
    """Folder for the results; made if it does not exist."""
