"""A bank of typical body poses, from which fits choose their starts."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.assets import packaged_arrays
from vitruvian.geometry.rotations import exp_so3, log_so3
from vitruvian.tensors import TensorRecord


@dataclass(frozen=True, eq=False)
class PoseBank(TensorRecord):
    """Rotations of the 22 body joints, the root as its lean alone: no turn about the vertical of a y-up world."""

    rotations: Float[Tensor, "pose 22 3 3"]

    def __len__(self) -> int:
        return len(self.rotations)

    @classmethod
    @cache
    def learnt(cls) -> "PoseBank":
        """The bank that this project chose from motion capture (see resources/priors/pose_bank.md).

        Raises:
            WeightsError: where the package lacks the file.
        """
        axis_angle = packaged_arrays("priors", "pose_bank.npz")["axis_angle"]
        return cls(exp_so3(torch.from_numpy(axis_angle.astype(np.float32))))

    def save(self, path: Path) -> None:
        """Write the rotations as axis-angle, half precision (an error below 0.1 degrees)."""
        np.savez_compressed(path, axis_angle=log_so3(self.rotations).numpy().astype(np.float16))


def without_turn(root: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Take the turn about the vertical out of a root orientation in a y-up world; its lean remains."""
    turn = torch.atan2(root[..., 0, 2], root[..., 2, 2])
    zero = torch.zeros_like(turn)
    return exp_so3(torch.stack((zero, -turn, zero), dim=-1)) @ root
