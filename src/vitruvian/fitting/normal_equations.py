"""Normal equations of a batch of least-squares problems: what Levenberg-Marquardt needs of them, and the dense ones."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from vitruvian.tensors import BatchRecord

_ALIGNED = 16
"""Numbers between the starts of two systems in memory: a multiple of this keeps every one on a border of 64 bytes."""


@dataclass(frozen=True, eq=False)
class NormalEquations(BatchRecord, ABC):
    """Cost, gradient g = Jᵀr and Gauss-Newton matrix H = JᵀJ of every item, H in whatever form solves fastest.

    A solver asks only for `diagonal` and `damped_step`, so problems whose H is banded (frames of a video) or an arrow
    (parts that meet in one) bring records of their own.
    """

    cost: Float[Tensor, "*batch"]
    gradient: Float[Tensor, "*batch parameter"]

    @property
    @abstractmethod
    def diagonal(self) -> Float[Tensor, "*batch parameter"]:
        """diag H."""

    @abstractmethod
    def damped_step(self, damping: Float[Tensor, "*batch"]) -> "DampedStep":
        """Solve (H + λ diag H) d = −g with the λ of every item."""


@dataclass(frozen=True, eq=False)
class DampedStep(BatchRecord):
    """The step d per item, zero where the damped matrix was not positive definite; `solved` is false there."""

    step: Float[Tensor, "*batch parameter"]
    solved: Bool[Tensor, "*batch"]


@dataclass(frozen=True, eq=False)
class DenseNormalEquations(NormalEquations):
    """Normal equations with all of H, solved by Cholesky factors."""

    hessian: Float[Tensor, "*batch parameter parameter"]

    @property
    def diagonal(self) -> Float[Tensor, "*batch parameter"]:
        return self.hessian.diagonal(dim1=1, dim2=2)

    def damped_step(self, damping: Float[Tensor, "*batch"]) -> DampedStep:
        # Triangular solves round by where a matrix lies in memory. Systems filled up with rows of the identity to a
        # multiple of the alignment lie alike, so a step does not depend on the place of its item in the batch.
        size = self.gradient.shape[1]
        filling = -size % _ALIGNED
        hessian = F.pad(self.hessian, (0, filling, 0, filling))
        gradient = F.pad(self.gradient, (0, filling))
        diagonal = hessian.diagonal(dim1=1, dim2=2)
        limits = torch.finfo(diagonal.dtype)
        # In units of each parameter's own diagonal, so that neither its unit nor that of the objective matters.
        diagonal += (damping[:, None] + 8 * limits.eps) * diagonal + limits.tiny
        diagonal[:, size:] = 1
        factor, info = torch.linalg.cholesky_ex(hessian)
        step = -torch.cholesky_solve(gradient[..., None], factor)[:, :size, 0]
        solved = (info == 0) & torch.isfinite(step).all(-1)
        return DampedStep(torch.where(solved[:, None], step, torch.zeros_like(step)), solved)
