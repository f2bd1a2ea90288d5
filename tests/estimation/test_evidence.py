"""Keypoints that are not evidence change no number of a fit."""

import pytest
import torch

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.open_body import open_body
from vitruvian.data.detector_errors import EXACT_DETECTOR
from vitruvian.estimation.fit import fit
from vitruvian.evaluation.held_out import held_out_people
from vitruvian.keypoints.observations import Keypoints


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return open_body(num_shape=10, num_expression=10)


@pytest.mark.parametrize("prior", ["flow", "mixture"])
def test_points_below_the_limit_change_no_fit(body: BodyModel, prior: str, generator: torch.Generator) -> None:
    people = held_out_people(body, EXACT_DETECTOR).batch(3, seed=4)
    clean = people.keypoints
    unseen = (clean.confidence == 0) | (torch.rand(clean.confidence.shape, generator=generator) < 0.2)
    assert int(unseen.sum()) > 20
    clean = Keypoints(clean.positions, torch.where(unseen, 0.0, clean.confidence), clean.format)
    junk = 0.0999 * torch.rand(unseen.shape, generator=generator)
    anywhere = 2000 * torch.randn(*unseen.shape, 2, generator=generator)
    dirty = Keypoints(
        torch.where(unseen[..., None], anywhere, clean.positions),
        torch.where(unseen, junk, clean.confidence),
        clean.format,
    )
    one, other = (fit(body, keypoints, people.camera, prior=prior) for keypoints in (clean, dirty))
    assert torch.equal(one.params.rotations, other.params.rotations)
    assert torch.equal(one.params.betas, other.params.betas)
    assert torch.equal(one.params.transl, other.params.transl)
    assert torch.equal(one.cost, other.cost)
