"""The bending prior of SMPLify: elbows and knees do not bend the wrong way."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.skeletons import SMPLX, Skeleton
from vitruvian.geometry.rotations import log_so3, right_jacobian_inverse
from vitruvian.tensors import TensorRecord

# Component of the rotation vector that grows when the joint is bent the wrong way.
_WRONG_WAY: dict[str, tuple[float, float, float]] = {
    "left_knee": (-1.0, 0.0, 0.0),
    "right_knee": (-1.0, 0.0, 0.0),
    "left_elbow": (0.0, 1.0, 0.0),
    "right_elbow": (0.0, -1.0, 0.0),
}


@dataclass(frozen=True, eq=False)
class BendingPrior(TensorRecord):
    """E_α = Σ exp(b_j), b_j the angle by which elbow or knee j is bent the wrong way (SMPLify-X, eq. 1).

    The residual of a joint is √2 exp(b_j / 2), so that ½|r|² = E_α.

    Args:
        axes: unit vectors a_j with b_j = a_j · log R_j.
        joints: rows of the skeleton.
    """

    axes: Float[Tensor, "k 3"]
    joints: tuple[int, ...]

    @classmethod
    def of(cls, skeleton: Skeleton = SMPLX) -> "BendingPrior":
        """The prior for the elbows and knees of a skeleton."""
        names = [name for name in _WRONG_WAY if name in skeleton.names]
        axes = torch.tensor([_WRONG_WAY[name] for name in names], dtype=torch.float64).reshape(-1, 3)
        return cls(axes, tuple(skeleton.index(name) for name in names))

    def residual(self, rotations: Float[Tensor, "batch k 3 3"]) -> Float[Tensor, "batch k"]:
        bend = (log_so3(rotations) * self.axes.to(rotations)).sum(-1)
        return 2**0.5 * torch.exp(0.5 * bend)

    def jacobian(self, rotations: Float[Tensor, "batch k 3 3"]) -> Float[Tensor, "batch k three_k"]:
        v = log_so3(rotations)
        slope = (self.axes.to(v)[:, None, :] @ right_jacobian_inverse(v))[..., 0, :]
        rows = 0.5 * self.residual(rotations)[..., None] * slope
        count = len(self.joints)
        full = rows.new_zeros(len(rows), count, count, 3)
        index = torch.arange(count, device=rows.device)
        full[:, index, index] = rows
        return full.flatten(2)
