"""Synthetic people in poses of subjects that no training saw, for benchmarks; the poses lie inside the package."""

from functools import cache
from importlib.resources import files

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.data.detector_errors import ErrorModel
from vitruvian.data.synthetic import PoseLibrary, SyntheticBatch, SyntheticConfig, SyntheticPeople
from vitruvian.errors import WeightsError
from vitruvian.geometry.rotations import exp_so3
from vitruvian.tensors import concatenate_records

LEAST_POINTS = 8
"""People of whom fewer of the 25 body points were detected are left out."""


@cache
def held_out_poses() -> PoseLibrary:
    """Poses of subjects outside every training, shipped with the package; all equally likely."""
    source = files("vitruvian") / "resources" / "flow" / "test_poses.npz"
    if not source.is_file():
        raise WeightsError("the held-out poses are missing from the installation", hint="reinstall vitruvian")
    with source.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        axis_angle = torch.from_numpy(arrays["axis_angle"].astype(np.float32))
    return PoseLibrary(exp_so3(axis_angle), torch.ones(len(axis_angle)))


def held_out_people(body: BodyModel, errors: ErrorModel | None = None) -> SyntheticPeople:
    """A source of people in held-out poses, as they were recorded, upright where those were."""
    config = SyntheticConfig(
        pose_noise=0.0, recombine=0.0, shape_spread=1.0, turned=0.0, known_gravity=0.0, errors=errors or ErrorModel()
    )
    return SyntheticPeople(body, held_out_poses(), config)


def draw_well_seen(people: SyntheticPeople, count: int, *, seed: int) -> SyntheticBatch:
    """`count` people of whom enough was detected."""
    batches, total, number = [], 0, 0
    while total < count:
        batch = people.batch(512, seed=seed, number=number)
        kept = batch[well_seen(batch, least=LEAST_POINTS)]
        batches.append(kept)
        total += len(kept)
        number += 1
    return concatenate_records(batches)[:count]


def well_seen(batch: SyntheticBatch, *, least: int) -> Bool[Tensor, "batch"]:
    """People of whom at least so many of the 25 body points were detected."""
    return (batch.keypoints.confidence[:, :25] > 0).sum(-1) >= least
