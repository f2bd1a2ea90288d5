"""Lift 2D skeletons from keypoint files to distributions of 3D skeletons, without any body model."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.apps.distribution_config import LiftKeypoints, require_samples
from vitruvian.apps.failures import Failure
from vitruvian.apps.inputs import InputOptions, gather
from vitruvian.apps.run_folder import run_folder
from vitruvian.fits import config_json, package_version
from vitruvian.keypoints.detectors import Detector
from vitruvian.keypoints.formats import get_format
from vitruvian.output import replacing
from vitruvian.progress import Progress, silent
from vitruvian.recovery.lifter import lift, shipped_lifter
from vitruvian.tensors import BatchRecord


@dataclass(frozen=True, eq=False)
class LiftedPeople(BatchRecord):
    """3D skeletons of N people; row 0 of the sample axis is the mode.

    Attributes:
        skeletons: `(N, 1 + n, K, 3)`, metres along the axes of the camera, relative to the middle of the hips.
        log_prob: `(N, 1 + n)`, nats.
        format: names the K points.
    """

    skeletons: Float[Tensor, "person sample point 3"]
    log_prob: Float[Tensor, "person sample"]
    format: str


@dataclass(frozen=True, eq=False)
class LiftOutcome:
    """What a run did: the people, the inputs that could not be used, and the folder."""

    people: LiftedPeople | None
    failures: tuple[Failure, ...]
    folder: Path
    notes: tuple[str, ...] = ()


@torch.no_grad()
def lift_keypoints(
    config: LiftKeypoints,
    *,
    detector: Detector | None = None,
    progress: Progress = silent,
) -> LiftOutcome:
    """Lift everyone and write `skeletons.npz` (`skeletons`, `log_prob`, `names`, `image`, `person`).

    Raises:
        OutputError: the output folder cannot be written; found out before anything else.
        InputError: fewer than one sample is asked for, nothing was given, or the keypoint folder is missing.
        WeightsError: the installation lacks the trained lifter.
    """
    require_samples(config.n)
    with run_folder(config.out, overwrite=config.overwrite) as folder:
        return _lift_into(folder, config, detector, progress)


def _lift_into(folder: Path, config: LiftKeypoints, detector: Detector | None, progress: Progress) -> LiftOutcome:
    options = InputOptions(config.keypoints, config.focal_px, config.image_size, keypoint_format=config.keypoint_format)
    gathered = gather(list(config.inputs), options, detector=detector, progress=progress)
    if not len(gathered.people):
        return LiftOutcome(None, gathered.failures, folder, gathered.notes)
    seen = gathered.people.to_format(config.skeleton)
    lifted = lift(seen.keypoints, seen.known_camera, lifter=shipped_lifter(config.skeleton))
    generator = torch.Generator().manual_seed(config.seed)
    skeletons = torch.cat((lifted.mode()[None], lifted.sample(config.n, generator=generator)))
    people = LiftedPeople(skeletons.transpose(0, 1), lifted.log_prob(skeletons).T, config.skeleton)
    arrays: dict[str, Any] = {
        "skeletons": people.skeletons.numpy(),
        "log_prob": people.log_prob.numpy(),
        "names": np.array(get_format(config.skeleton).names, dtype=np.str_),
        "image": np.array(seen.name, dtype=np.str_),
        "picture": np.array(seen.picture, dtype=np.str_),
        "person": np.array(seen.person, dtype=np.int64),
        "frame": np.array(seen.frame, dtype=np.int64),
        "version": np.array(package_version()),
        "config": np.array(config_json({**asdict(config), "inputs": "", "out": "", "keypoints": ""})),
    }
    with replacing(folder / "skeletons.npz") as temporary:
        np.savez_compressed(temporary, **arrays)
    return LiftOutcome(people, gathered.failures, folder, gathered.notes)
