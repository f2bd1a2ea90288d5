"""Scores of the lifters on synthetic people in held-out poses."""

from typing import Any

import torch

from vitruvian.bodies.model import BodyModel
from vitruvian.evaluation.held_out import held_out_people
from vitruvian.evaluation.metrics import mpjpe_mm, pa_error_mm
from vitruvian.keypoints.formats import get_format
from vitruvian.recovery.lifter import LIFTED_FORMATS, shipped_lifter
from vitruvian.training.lifter import SkeletonSource

NOISE, MISSING = 0.01, 0.1
"""Noise of the keypoints in half person sizes, and mean share of missing ones, as in training."""


@torch.no_grad()
def score_lifters(body: BodyModel, *, count: int, samples: int, seed: int) -> dict[str, Any]:
    """Errors in millimetres of the mode and of the best of the samples (the mode among them), by format."""
    out: dict[str, Any] = {}
    for name in LIFTED_FORMATS:
        lifter = shipped_lifter(name)
        people = held_out_people(body)
        generator = torch.Generator().manual_seed(seed)
        batch = people.batch(count, seed=seed)
        view, truth = SkeletonSource(people, name).draw(batch, generator, noise=NOISE, missing=MISSING)
        distribution = lifter(view.points, view.confidence, view.half_size)
        found = torch.cat((distribution.mode[None], distribution.sample(samples - 1, generator=generator)))
        skeletons = lifter.skeleton(found)
        root = get_format(name).index("hip_center")
        errors = mpjpe_mm(skeletons, truth.expand_as(skeletons), root=root)
        aligned = pa_error_mm(skeletons, truth.expand_as(skeletons))
        out[name] = {
            "mode": {"mpjpe_mm": float(errors[0].mean()), "pa_mpjpe_mm": float(aligned[0].mean())},
            "best_of": {
                str(samples): {
                    "mpjpe_mm": float(errors.amin(0).mean()),
                    "pa_mpjpe_mm": float(aligned.amin(0).mean()),
                }
            },
        }
    return {"lifted": out}
