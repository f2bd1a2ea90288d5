"""Batches of least-squares problems in plain vectors, whose optima are known."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vitruvian.fitting.normal_equations import DenseNormalEquations
from vitruvian.tensors import BatchRecord


@dataclass(frozen=True, eq=False)
class Vector(BatchRecord):
    x: Tensor


@dataclass(frozen=True, eq=False)
class VectorProblem:
    """½ |r(x, data)|² per item; `residual` takes batches. `batches` records the size of every evaluation."""

    residual: Callable[[Tensor, Tensor], Tensor]
    data: Tensor
    size: int
    batches: list[int] = field(default_factory=list)

    def __getitem__(self, index: Tensor) -> "VectorProblem":
        return VectorProblem(self.residual, self.data[index], self.size, self.batches)

    def retract(self, state: Vector, step: Tensor) -> Vector:
        return Vector(state.x + step)

    def cost(self, state: Vector) -> Tensor:
        self.batches.append(len(state.x))
        return 0.5 * (self.residual(state.x, self.data) ** 2).sum(-1)

    def curvature(self, state: Vector) -> Tensor:
        return torch.ones_like(state.x)

    def gradient(self, state: Vector) -> Tensor:
        with torch.enable_grad():
            x = state.x.detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad((0.5 * self.residual(x, self.data) ** 2).sum(), x)
        return gradient

    def linearize(self, state: Vector) -> DenseNormalEquations:
        residual = self.residual(state.x, self.data)
        cost = self.cost(state)
        with torch.enable_grad():
            jacobian = torch.autograd.functional.jacobian(
                lambda x: self.residual(x, self.data).sum(0), state.x.detach(), vectorize=True
            ).transpose(0, 1)
        transposed = jacobian.transpose(1, 2)
        return DenseNormalEquations(cost, (transposed @ residual[..., None])[..., 0], transposed @ jacobian)


def quadratic(
    batch: int, size: int, generator: torch.Generator, *, condition: float = 100.0
) -> tuple[VectorProblem, Vector, Tensor]:
    """r = A (x − x*) with singular values of A from 1 to √condition; the problem, a start, and x*."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    left, right = torch.linalg.qr(normal(batch, size, size)).Q, torch.linalg.qr(normal(batch, size, size)).Q
    A = left @ torch.diag(torch.logspace(0, 1, size, base=condition**0.5, dtype=torch.float64)) @ right
    optimum = normal(batch, size)
    data = torch.cat((A, optimum[:, None]), dim=1)

    def residual(x: Tensor, data: Tensor) -> Tensor:
        return (data[:, :-1] @ (x - data[:, -1])[..., None])[..., 0]

    return VectorProblem(residual, data, size), Vector(optimum + 2 * normal(batch, size)), optimum


def rosenbrock(batch: int, size: int, generator: torch.Generator) -> tuple[VectorProblem, Vector]:
    """The extended Rosenbrock function, r = 10 (x_{2i} − x_{2i−1}²), 1 − x_{2i−1}, whose optimum is all ones."""

    def residual(x: Tensor, data: Tensor) -> Tensor:
        odd, even = x[:, 0::2], x[:, 1::2]
        return torch.cat((data * (even - odd * odd), 1 - odd), dim=1)

    start = 4 * torch.rand(batch, size, generator=generator, dtype=torch.float64) - 2
    return VectorProblem(residual, torch.full((batch, 1), 10.0, dtype=torch.float64), size), Vector(start)
