"""A hand-set Gaussian on joint rotations, from textbook ranges of motion, for when no learnt prior is wanted."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.skeletons import Skeleton
from vitruvian.geometry.rotations import exp_so3, log_so3, right_jacobian_inverse
from vitruvian.tensors import TensorRecord

# Mean and standard deviation about the x, y and z axis of the T-pose, in degrees, of the left side and the middle. The
# spread is about a third of the range of motion in daily life (American Academy of Orthopaedic Surgeons, 1965), wider
# where the ranges are one-sided. Signs: thighs swing forward and elbows of the left arm bend about −x and −y.
_DEGREES: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "left_hip": ((-12, 4, 4), (30, 14, 12)),
    "left_knee": ((20, 0, 0), (32, 5, 5)),
    "left_ankle": ((-2, 0, 0), (14, 10, 8)),
    "left_foot": ((0, 0, 0), (6, 4, 4)),
    "spine1": ((3, 0, 0), (11, 7, 6)),
    "spine2": ((3, 0, 0), (8, 7, 6)),
    "spine3": ((2, 0, 0), (7, 7, 5)),
    "neck": ((4, 0, 0), (12, 16, 9)),
    "head": ((0, 0, 0), (12, 14, 8)),
    "left_collar": ((0, -3, -5), (6, 8, 10)),
    "left_shoulder": ((8, -15, -52), (26, 28, 30)),
    "left_elbow": ((0, -38, 0), (16, 38, 12)),
    "left_wrist": ((0, 0, 0), (18, 12, 16)),
    "jaw": ((4, 0, 0), (8, 2, 1.5)),
}


def _mirrored(values: tuple[float, float, float]) -> tuple[float, float, float]:
    """A rotation vector mirrored at the plane between left and right."""
    x, y, z = values
    return (x, -y, -z)


@dataclass(frozen=True, eq=False)
class GaussianRotations(TensorRecord):
    """Independent Gaussians on log(M_jᵀ R_j) of each joint, with mean rotation M_j and a spread per axis.

    A `RotationPrior`: residual (B, 3k) = log(Mᵀ R) / std.
    """

    joints: tuple[int, ...]
    mean: Float[Tensor, "k 3 3"]
    std: Float[Tensor, "k 3"]

    @staticmethod
    def hand_set(skeleton: Skeleton, joints: tuple[int, ...]) -> "GaussianRotations":
        """The table of this module for some joints of a skeleton; raises KeyError for a joint that it lacks."""
        means, stds = [], []
        for joint in joints:
            name = skeleton.names[joint]
            if name.startswith("right_"):
                mean, std = _DEGREES["left_" + name.removeprefix("right_")]
                mean = _mirrored(mean)
            else:
                mean, std = _DEGREES[name]
            means.append(mean)
            stds.append(std)
        radians = math.pi / 180
        return GaussianRotations(
            joints, exp_so3(torch.tensor(means, dtype=torch.float64) * radians), torch.tensor(stds) * radians
        )

    @property
    def mean_rotations(self) -> Float[Tensor, "k 3 3"]:
        """Where a fit starts."""
        return self.mean

    def residual(self, rotations: Float[Tensor, "batch k 3 3"]) -> Float[Tensor, "batch three_k"]:
        return (self._vectors(rotations) / self.std.to(rotations)).flatten(1)

    def jacobian(self, rotations: Float[Tensor, "batch k 3 3"]) -> Float[Tensor, "batch three_k three_k"]:
        vectors = self._vectors(rotations)
        blocks = right_jacobian_inverse(vectors) / self.std.to(rotations)[..., None]
        batch, count = vectors.shape[:2]
        out = vectors.new_zeros(batch, count, 3, count, 3)
        rows = torch.arange(count, device=vectors.device)
        out[:, rows, :, rows] = blocks.transpose(0, 1)
        return out.flatten(3).flatten(1, 2)

    def _vectors(self, rotations: Tensor) -> Float[Tensor, "batch k 3"]:
        return log_so3(self.mean.to(rotations).transpose(-1, -2) @ rotations)
