"""Shapes drawn for training have the stature of adults, measured on the mesh."""

import pytest
import torch

from vitruvian.bodies.open_body import open_body
from vitruvian.data.shapes import ADULT_STATURE_M, StatureModel, draw_shapes


def heights(body, betas: torch.Tensor) -> torch.Tensor:  # type: ignore[no-untyped-def]
    rest = torch.eye(3).expand(len(betas), 55, 3, 3)
    y = body.with_shape(betas).with_pose(rest).vertices[..., 1]
    return y.amax(-1) - y.amin(-1)


@pytest.mark.parametrize("gender", ["female", "male"])
def test_stature_is_that_of_adults(gender: str, generator: torch.Generator) -> None:
    body = open_body(gender=gender, num_shape=10, num_expression=0)
    stature = StatureModel.of(body, num_shape=10)
    betas = draw_shapes(4000, stature=stature, spread=1.1, gender=gender, generator=generator)
    mean, spread = ADULT_STATURE_M[gender]
    told = stature(betas)
    assert abs(float(told.mean()) - mean) < 0.01
    assert abs(float(told.std()) - spread) < 0.005
    # The linear model is that of the mesh, to which head and heel are no single vertices.
    torch.testing.assert_close(told[:12], heights(body, betas[:12]), atol=0.02, rtol=0)


def test_neutral_people_are_half_women_and_keep_the_rest_of_their_shape(generator: torch.Generator) -> None:
    stature = StatureModel(torch.tensor(1.7), torch.tensor([0.13, 0.0, 0.02]))
    betas = draw_shapes(20_000, stature=stature, spread=1.1, gender="neutral", generator=generator)
    told = stature(betas)
    assert abs(float(told.mean()) - 1.69) < 0.005
    assert abs(float(told.std()) - 0.099) < 0.003
    assert abs(float(betas[:, 1].std()) - 1.1) < 0.03
