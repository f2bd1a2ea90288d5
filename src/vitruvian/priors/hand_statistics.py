"""Reader of the hand statistics in the package: mean, principal components and spread of the finger rotations."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.errors import InputError, WeightsError
from vitruvian.tensors import TensorRecord


@dataclass(frozen=True, eq=False)
class HandStatistics(TensorRecord):
    """Gaussian over the axis-angle vectors (radians) of the 15 finger joints of one hand, in SMPL-X order."""

    mean: Float[Tensor, "45"]
    components: Float[Tensor, "45 45"]
    std: Float[Tensor, "45"]


@cache
def read_hand_statistics(side: str) -> HandStatistics:
    """Statistics of the "left" or "right" hand; the two are mirror images.

    Raises:
        InputError: for another side.
        WeightsError: where the package lacks the file.
    """
    if side not in ("left", "right"):
        raise InputError("unknown side of the body", seen=side, expected="left or right")
    source = files("vitruvian") / "resources" / "priors" / "hands.npz"
    if not source.is_file():
        raise WeightsError("the hand statistics are missing from the installation", hint="reinstall vitruvian")
    with source.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        return HandStatistics(
            *(torch.from_numpy(arrays[f"{side}_{name}"].copy()) for name in ("mean", "components", "std"))
        )
