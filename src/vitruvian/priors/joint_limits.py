"""Ranges of motion of all joints as a residual that is zero inside and grows outside."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.assets import packaged_arrays
from vitruvian.bodies.skeletons import SMPLX, Skeleton
from vitruvian.geometry.rotations import log_so3, right_jacobian_inverse
from vitruvian.tensors import TensorRecord

Range = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]

# Degrees about the x, y and z axis of the T-pose, for joints of the left side and the middle, that motion capture does
# not record well. Wrist, fingers: American Academy of Orthopaedic Surgeons, "Joint Motion: Method of Measuring and
# Recording" (1965); x of the wrist is the half of pronation that the wrist carries. Jaw: Okeson, "Management of
# Temporomandibular Disorders": 40-60 mm opening, about 35°. Eyes: Lee et al. 2019 (doi 10.3341/jkos): 30-45° ductions.
# Collar: Inman et al. 1944. Signs: fingers of the left hand close about −z, its wrist bends to the thumb about −y.
TEXTBOOK_DEG: dict[str, Range] = {
    "left_collar": ((-10, 15), (-20, 20), (-25, 35)),
    "left_foot": ((-60, 40), (-10, 10), (-10, 10)),
    "left_wrist": ((-80, 80), (-25, 35), (-80, 70)),
    "jaw": ((-2, 38), (-10, 10), (-4, 4)),
    "left_eye": ((-35, 40), (-45, 45), (-5, 5)),
    **{f"left_{finger}1": ((-25, 25), (-25, 25), (-90, 35)) for finger in ("index", "middle", "ring", "pinky")},
    **{f"left_{finger}2": ((-5, 5), (-5, 5), (-105, 8)) for finger in ("index", "middle", "ring", "pinky")},
    **{f"left_{finger}3": ((-5, 5), (-5, 5), (-85, 10)) for finger in ("index", "middle", "ring", "pinky")},
}


@dataclass(frozen=True, eq=False)
class JointLimits(TensorRecord):
    """Boxes on v_j = log(M_jᵀ R_j), the turn of each joint from the middle rotation M of its range.

    The residual is the distance outside the box in units of `softness_rad`, signed, zero inside.

    Args:
        reference: M of each joint.
        lower: least turn about each axis, radians.
        upper: largest turn about each axis, radians.
        joints: rows of the skeleton.
        softness_rad: the excess that counts as one.
    """

    reference: Float[Tensor, "k 3 3"]
    lower: Float[Tensor, "k 3"]
    upper: Float[Tensor, "k 3"]
    joints: tuple[int, ...]
    softness_rad: float = 0.1

    @classmethod
    def learnt(cls, skeleton: Skeleton = SMPLX, *, names: tuple[str, ...] | None = None) -> "JointLimits":
        """The limits in the package for the joints that a skeleton has (or those of `names`), the root left out.

        Raises:
            WeightsError: where the package lacks the file.
        """
        known, reference, lower, upper = _read()
        wanted = [n for n in known if n in skeleton.names and (names is None or n in names)]
        rows = [known.index(n) for n in wanted]
        return cls(reference[rows], lower[rows], upper[rows], tuple(skeleton.index(n) for n in wanted))

    def turns(self, rotations: Float[Tensor, "batch k 3 3"]) -> Float[Tensor, "batch k 3"]:
        """v of a pose, radians."""
        return log_so3(self.reference.to(rotations).mT @ rotations)

    def excess(self, rotations: Float[Tensor, "batch k 3 3"]) -> Float[Tensor, "batch k 3"]:
        """How far outside the box, radians: negative below, positive above, zero inside."""
        v = self.turns(rotations)
        return (v - self.upper.to(v)).clamp_min(0) + (v - self.lower.to(v)).clamp_max(0)

    def residual(self, rotations: Float[Tensor, "batch k 3 3"]) -> Float[Tensor, "batch three_k"]:
        return self.excess(rotations).flatten(1) / self.softness_rad

    def jacobian(self, rotations: Float[Tensor, "batch k 3 3"]) -> Float[Tensor, "batch three_k three_k"]:
        v = self.turns(rotations)
        outside = ((v > self.upper.to(v)) | (v < self.lower.to(v))).to(v)
        blocks = outside[..., None] * right_jacobian_inverse(v) / self.softness_rad
        return block_diagonal(blocks)


def block_diagonal(blocks: Float[Tensor, "batch k 3 3"]) -> Float[Tensor, "batch three_k three_k"]:
    """Square matrices with the given blocks along the diagonal."""
    count = blocks.shape[1]
    full = blocks.new_zeros(len(blocks), count, 3, count, 3)
    rows = torch.arange(count, device=blocks.device)
    full[:, rows, :, rows] = blocks.transpose(0, 1)
    return full.flatten(3).flatten(1, 2)


@cache
def _read() -> tuple[list[str], Tensor, Tensor, Tensor]:
    arrays = packaged_arrays("priors", "joint_limits.npz")
    reference, lower, upper = (torch.from_numpy(arrays[name]) for name in ("reference", "lower", "upper"))
    return [str(name) for name in arrays["names"]], reference, lower, upper


def save_limits(limits: JointLimits, path: Path, *, skeleton: Skeleton = SMPLX) -> None:
    """Write limits with their joints' names, float32."""
    arrays = {name: getattr(limits, name).to(torch.float32).numpy() for name in ("reference", "lower", "upper")}
    np.savez_compressed(path, names=np.array([skeleton.names[j] for j in limits.joints]), **arrays)
