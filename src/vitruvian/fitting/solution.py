"""What a solver returns: the state it reached, and for every item how that ended."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from vitruvian.tensors import BatchRecord

State = TypeVar("State", bound=BatchRecord)


class Status(IntEnum):
    """How the fit of one person ended."""

    CONVERGED = 0
    ITERATION_LIMIT = 1
    """Still improving when the allowed iterations were used up; the result is usable."""
    STALLED = 2
    """No step lowers the objective any more, though the gradient is not small; the result is usable."""
    FAILED = 3
    """The objective is not finite; the result is the start."""
    NO_EVIDENCE = 4
    """There was no usable keypoint; nothing was fitted."""


@dataclass(frozen=True, eq=False)
class Solution(BatchRecord, Generic[State]):
    """Final state, objective, `Status` and number of iterations per item; the objective at every iteration."""

    state: State
    cost: Float[Tensor, "batch"]
    status: Int[Tensor, "batch"]
    iterations: Int[Tensor, "batch"]
    history: tuple[Float[Tensor, "batch"], ...] = ()


@runtime_checkable
class Solver(Protocol):
    """Minimises a batch of problems; Levenberg-Marquardt and L-BFGS are the two implementations."""

    def solve(self, problem: Any, start: State) -> Solution[State]:
        """Minimise from `start`, each item by itself."""
        ...
