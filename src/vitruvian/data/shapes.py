"""Drawing body shapes with the stature of real adults."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.tensors import TensorRecord

ADULT_STATURE_M = {"female": (1.62, 0.07), "male": (1.76, 0.07)}
"""Mean and standard deviation of the stature of adults (NCD Risk Factor Collaboration 2016, high-income countries)."""


@dataclass(frozen=True, eq=False)
class StatureModel(TensorRecord):
    """Stature of a body as a linear function of its shape coefficients.

    Attributes:
        mean: stature (metres) of the mean shape.
        slope: metres per unit of each coefficient.
    """

    mean: Float[Tensor, ""]
    slope: Float[Tensor, "shape"]

    @classmethod
    @torch.no_grad()
    def of(cls, body: BodyModel, *, num_shape: int) -> "StatureModel":
        """Measured from head to heel on the meshes of single coefficients, in the rest pose."""
        betas = torch.cat((torch.zeros(1, num_shape), torch.eye(num_shape), -torch.eye(num_shape))).to(body.dtype)
        statures = []
        for shape in betas.split(8):
            rest = torch.eye(3, dtype=body.dtype).expand(len(shape), body.num_joints, 3, 3)
            height = body.with_shape(shape).with_pose(rest).vertices[..., 1]
            statures.append(height.amax(-1) - height.amin(-1))
        stature = torch.cat(statures)
        return cls(stature[0], (stature[1 : 1 + num_shape] - stature[1 + num_shape :]) / 2)

    def __call__(self, betas: Float[Tensor, "*batch shape"]) -> Float[Tensor, "*batch"]:
        return self.mean + betas @ self.slope


def draw_shapes(
    count: int, *, stature: StatureModel, spread: float, gender: str, generator: torch.Generator
) -> Float[Tensor, "person shape"]:
    """Shapes of adults: normal coefficients, with what they say of stature replaced by a draw of real statures.

    The coefficients of the open body describe bodies from 1.36 to 2.09 m, learnt with a spread of 0.13 m so that tall
    and short people are covered; drawn as they are, one adult in ten would be shorter than 1.5 m.

    Args:
        count: number of people.
        stature: of the body.
        spread: standard deviation of the coefficients.
        gender: "female" or "male"; for any other, half of the people are women.
        generator: source of the draws.
    """
    betas = spread * torch.randn(count, len(stature.slope), generator=generator)
    draw, normal = torch.rand(count, generator=generator), torch.randn(count, generator=generator)
    women = draw < {"female": 1.0, "male": 0.0}.get(gender, 0.5)
    (low, low_spread), (high, high_spread) = ADULT_STATURE_M["female"], ADULT_STATURE_M["male"]
    wanted = torch.where(women, low + low_spread * normal, high + high_spread * normal)
    slope = stature.slope.to(betas)
    return betas + (wanted - stature(betas))[:, None] * slope / slope.square().sum()
