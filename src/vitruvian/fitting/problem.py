"""Least-squares problems over one body per batch item: variables, terms, and their normal equations."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, Self, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.skinning import forward_kinematics, pose_features
from vitruvian.fitting.normal_equations import DenseNormalEquations
from vitruvian.priors.pose_spaces import PoseSpace
from vitruvian.tensors import BatchRecord


@dataclass(frozen=True, eq=False)
class FitState(BatchRecord):
    """The variables of a fit, one row per person: a state per pose space, shape, expression, translation."""

    poses: tuple[Tensor, ...]
    betas: Float[Tensor, "*batch shape"]
    expression: Float[Tensor, "*batch expression"]
    transl: Float[Tensor, "*batch 3"]

    @property
    def batch_size(self) -> int:
        return self.transl.shape[0]


@dataclass(frozen=True)
class VariableLayout:
    """Columns of the step vector: the pose spaces one after the other, then shape, expression, translation."""

    poses: tuple[slice, ...]
    betas: slice
    expression: slice
    transl: slice

    @property
    def size(self) -> int:
        return self.transl.stop


@dataclass(frozen=True, eq=False)
class BodyEvaluation:
    """The bodies of a state, and what terms need to linearise around it."""

    state: FitState
    rotations: Float[Tensor, "batch joint 3 3"]
    world_rotations: Float[Tensor, "batch joint 3 3"]
    joints: Float[Tensor, "batch joint 3"]
    differentials: tuple[Tensor | None, ...]
    problem: "BodyProblem"

    @cached_property
    def pose_features(self) -> Float[Tensor, "batch feature"]:
        return pose_features(self.rotations)

    def pull_back(self, jacobian: Float[Tensor, "batch row slot_times_3"]) -> Float[Tensor, "batch row parameter"]:
        """Derivative by right perturbations of the moving joints → derivative by the parameters of the pose spaces."""
        blocks = []
        start = 0
        for space, differential in zip(self.problem.spaces, self.differentials, strict=True):
            stop = start + 3 * len(space.joints)
            block = jacobian[..., start:stop]
            blocks.append(block if differential is None else block @ differential)
            start = stop
        return torch.cat(blocks, dim=-1)


@dataclass(frozen=True, eq=False)
class ResidualBlock:
    """Residual of one term, its derivative by some columns of the step, and its cost.

    `jacobian` is None where the residual is `scale` times those columns of the state themselves. `cost` is ½|r|² unless
    the term is robust; then residual and Jacobian are already reweighted so that Jᵀr is the exact gradient.
    """

    residual: Float[Tensor, "batch row"]
    columns: slice
    jacobian: Float[Tensor, "batch row column"] | None
    cost: Float[Tensor, "batch"]
    scale: Tensor | float = 1.0


@runtime_checkable
class Term(Protocol):
    """One summand of the objective."""

    def evaluate(self, body: BodyEvaluation, *, with_jacobian: bool) -> ResidualBlock:
        """Residual at a body, with its Jacobian where asked for."""
        ...

    def __getitem__(self, index: Int[Tensor, "kept"]) -> Self:
        """The term for some of the batch items."""
        ...


class BodyProblem:
    """Find the pose, shape, expression and translation of many independent people at once.

    Args:
        body: the model.
        spaces: pose spaces over disjoint joints; joints in no space stay as in `fixed_rotations`.
        terms: summands of the objective.
        fixed_rotations: `(batch, J, 3, 3)` or `(J, 3, 3)`, rotations of joints that no space moves; identity if None.
        num_shape, num_expression: how many coefficients are variables; the state may hold more, which stay as they are.
    """

    def __init__(
        self,
        body: BodyModel,
        spaces: Sequence[PoseSpace],
        terms: Sequence[Term],
        *,
        num_shape: int,
        num_expression: int,
        fixed_rotations: Tensor | None = None,
    ) -> None:
        self.body = body
        self.spaces = tuple(spaces)
        self.terms = tuple(terms)
        self.num_shape = num_shape
        self.num_expression = num_expression
        if fixed_rotations is None:
            fixed_rotations = torch.eye(3, dtype=body.dtype, device=body.device).expand(body.num_joints, 3, 3)
        self.fixed_rotations = fixed_rotations
        self.moving_joints = tuple(joint for space in self.spaces for joint in space.joints)
        self.layout = self._lay_out()
        self._moving_rows = torch.tensor(self.moving_joints, device=body.device)

    @property
    def size(self) -> int:
        """Length of the step vector of one person."""
        return self.layout.size

    def _lay_out(self) -> VariableLayout:
        slices, start = [], 0
        for size in (*(s.num_parameters for s in self.spaces), self.num_shape, self.num_expression, 3):
            slices.append(slice(start, start + size))
            start += size
        return VariableLayout(tuple(slices[:-3]), *slices[-3:])

    def __getitem__(self, index: Int[Tensor, "kept"]) -> "BodyProblem":
        """The problem of some of the people."""
        fixed = self.fixed_rotations[index] if self.fixed_rotations.dim() == 4 else self.fixed_rotations
        spaces = [space.select(index) for space in self.spaces]
        return BodyProblem(
            self.body,
            spaces,
            [term[index] for term in self.terms],
            num_shape=self.num_shape,
            num_expression=self.num_expression,
            fixed_rotations=fixed,
        )

    def evaluate(self, state: FitState, *, with_jacobian: bool) -> BodyEvaluation:
        """Pose the bodies of a state."""
        body = self.body
        evaluations = [
            space.evaluate(pose, with_jacobian=with_jacobian)
            for space, pose in zip(self.spaces, state.poses, strict=True)
        ]
        batch = state.batch_size
        rotations = self.fixed_rotations.expand(batch, -1, -1, -1)
        moving = torch.cat([e.rotations for e in evaluations], dim=1)
        rotations = rotations.index_copy(1, self._moving_rows, moving)
        rest = body.with_shape(state.betas, state.expression).joints
        G, joints = forward_kinematics(body.skeleton, rotations, rest, state.transl)
        return BodyEvaluation(state, rotations, G, joints, tuple(e.differential for e in evaluations), self)

    def cost(self, state: FitState) -> Float[Tensor, "batch"]:
        """Value of the objective per person; differentiable."""
        return self.cost_of(self.evaluate(state, with_jacobian=False))

    def cost_of(self, body: BodyEvaluation) -> Float[Tensor, "batch"]:
        """The objective of bodies that are evaluated already."""
        cost = body.state.transl.new_zeros(body.state.batch_size)
        for term in self.terms:
            cost = cost + term.evaluate(body, with_jacobian=False).cost
        return cost

    def linearize(self, state: FitState) -> DenseNormalEquations:
        """Cost, gradient and Gauss-Newton matrix per person."""
        return self.linearize_about(self.evaluate(state, with_jacobian=True))

    def linearize_about(self, body: BodyEvaluation) -> DenseNormalEquations:
        """The normal equations of bodies that are evaluated already, with their differentials."""
        state = body.state
        size, batch = self.layout.size, state.batch_size
        hessian = state.transl.new_zeros(batch, size, size)
        gradient = state.transl.new_zeros(batch, size)
        cost = state.transl.new_zeros(batch)
        for term in self.terms:
            block = term.evaluate(body, with_jacobian=True)
            cost = cost + block.cost
            columns = block.columns
            if block.jacobian is None:
                gradient[:, columns] += block.scale * block.residual
                hessian.diagonal(dim1=1, dim2=2)[:, columns] += torch.as_tensor(block.scale) ** 2
            else:
                transposed = block.jacobian.transpose(1, 2)
                gradient[:, columns] += (transposed @ block.residual[..., None])[..., 0]
                if columns == slice(0, size):
                    hessian.baddbmm_(transposed, block.jacobian)
                else:
                    hessian[:, columns, columns] += transposed @ block.jacobian
        return DenseNormalEquations(cost, gradient, hessian)

    def curvature(self, state: FitState) -> Float[Tensor, "batch parameter"]:
        """Diagonal of the Gauss-Newton matrix."""
        return self.linearize(state).diagonal

    def retract(self, state: FitState, step: Float[Tensor, "batch parameter"]) -> FitState:
        """State after a step."""
        layout = self.layout
        poses = tuple(
            space.retract(pose, step[:, columns])
            for space, pose, columns in zip(self.spaces, state.poses, layout.poses, strict=True)
        )
        return replace(
            state,
            poses=poses,
            betas=_add_leading(state.betas, step[:, layout.betas]),
            expression=_add_leading(state.expression, step[:, layout.expression]),
            transl=state.transl + step[:, layout.transl],
        )


def _add_leading(values: Tensor, step: Tensor) -> Tensor:
    """Add `step` to the first columns of `values`."""
    count = step.shape[1]
    if count == values.shape[1]:
        return values + step
    return torch.cat((values[:, :count] + step, values[:, count:]), dim=1)
