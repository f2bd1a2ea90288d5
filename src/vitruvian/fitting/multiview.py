"""One person in several uncalibrated views: view problems coupled by one shape and one body pose."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitruvian.fitting.normal_equations import DenseNormalEquations
from vitruvian.fitting.problem import BodyEvaluation, BodyProblem, FitState
from vitruvian.tensors import BatchRecord


@dataclass(frozen=True, eq=False)
class MultiViewState(BatchRecord):
    """States of all views of each person: every tensor is `(person, view, ...)`; the shape is the same in all views."""

    poses: tuple[Tensor, ...]
    betas: Float[Tensor, "person view shape"]
    expression: Float[Tensor, "person view expression"]
    transl: Float[Tensor, "person view 3"]

    @staticmethod
    def of_views(state: FitState, num_views: int) -> "MultiViewState":
        """From a state with one row per view; the shape becomes the mean over the views."""
        split = state.map(lambda x: x.unflatten(0, (-1, num_views)))
        betas = split.betas.mean(1, keepdim=True).expand_as(split.betas).clone()
        return MultiViewState(split.poses, betas, split.expression, split.transl)

    def flat(self) -> FitState:
        """One row per view."""
        return FitState(self.poses, self.betas, self.expression, self.transl).map(lambda x: x.flatten(0, 1))


class MultiViewProblem:
    """Views of N people with a free global orientation per view, tied together (ProHMR, eq. 12).

    Adds ½ w² Σ_v ‖R_v − mean R‖² over the body joints to the sum of the view problems, and gives all views one shape.

    Args:
        views: problem with one item per (person, view), the views of a person side by side. Its terms are summed over
            the views, so those about what views share should be divided among them beforehand.
        num_views: V.
        consistency: w; the paper has 300.
        shared_joints: rows of the joints whose rotations must agree (not the root).
        present: `(N, V)`, False for views that a person lacks; they do not take part in the mean.
    """

    def __init__(
        self,
        views: BodyProblem,
        num_views: int,
        *,
        consistency: float,
        shared_joints: tuple[int, ...],
        present: Bool[Tensor, "person view"],
    ) -> None:
        self.views = views
        self.num_views = num_views
        self.consistency = consistency
        self.shared_joints = tuple(joint for joint in shared_joints if joint in views.moving_joints)
        self.present = present
        layout = views.layout
        size = layout.size
        shape = torch.arange(layout.betas.start, layout.betas.stop, device=views.body.device)
        own = torch.tensor([c for c in range(size) if c not in set(shape.tolist())], device=views.body.device)
        columns = torch.empty(num_views, size, dtype=torch.long, device=views.body.device)
        for view in range(num_views):
            columns[view, own] = torch.arange(len(own), device=views.body.device) + view * len(own)
            columns[view, shape] = torch.arange(len(shape), device=views.body.device) + num_views * len(own)
        self.columns = columns
        """Column of the joint step for each column of the step of each view."""
        self.size = num_views * len(own) + len(shape)

    def __getitem__(self, index: Int[Tensor, "kept"]) -> "MultiViewProblem":
        rows = (index[:, None] * self.num_views + torch.arange(self.num_views, device=index.device)).flatten()
        return MultiViewProblem(
            self.views[rows],
            self.num_views,
            consistency=self.consistency,
            shared_joints=self.shared_joints,
            present=self.present[index],
        )

    def linearize(self, state: MultiViewState) -> DenseNormalEquations:
        """Cost, gradient and Gauss-Newton matrix per person."""
        body = self.views.evaluate(state.flat(), with_jacobian=True)
        views = self.views.linearize_about(body).map(lambda x: x.unflatten(0, (-1, self.num_views)))
        people, count = views.cost.shape
        gradient = views.gradient.new_zeros(people, self.size)
        hessian = views.hessian.new_zeros(people, self.size, self.size)
        for view in range(count):
            columns = self.columns[view]
            gradient[:, columns] += views.gradient[:, view]
            hessian[:, columns[:, None], columns] += views.hessian[:, view]
        residual = self._disagreement(body)
        jacobian = self._disagreement_jacobian(body)
        share = self.present / self.present.sum(-1, keepdim=True).clamp_min(1)
        pose = slice(0, self.views.layout.betas.start)
        for a in range(count):
            columns_a = self.columns[a, pose]
            Ja = jacobian[:, a].transpose(1, 2)
            gradient[:, columns_a] += (Ja @ residual[:, a, :, None])[..., 0]
            for b in range(count):
                # ∂(R_v − mean R): 1 − 1/V on the own view, −1/V on the others; the projection is idempotent.
                factor = float(a == b) * self.present[:, a] - share[:, a] * self.present[:, b]
                columns_b = self.columns[b, pose]
                hessian[:, columns_a[:, None], columns_b] += factor[:, None, None] * (Ja @ jacobian[:, b])
        cost = views.cost.sum(-1) + 0.5 * residual.square().sum((1, 2))
        return DenseNormalEquations(cost, gradient, hessian)

    def _disagreement(self, body: BodyEvaluation) -> Float[Tensor, "person view nine_k"]:
        """w (R_v − mean R) of the shared joints, zero for views that are not there."""
        grouped = body.rotations[:, list(self.shared_joints)].unflatten(0, (-1, self.num_views))
        present = self.present[:, :, None, None, None].to(grouped.dtype)
        mean = (grouped * present).sum(1, keepdim=True) / present.sum(1, keepdim=True).clamp_min(1)
        return (self.consistency * (grouped - mean) * present).flatten(2)

    def _disagreement_jacobian(self, body: BodyEvaluation) -> Float[Tensor, "person view nine_k pose"]:
        """Derivative of w R_v by the pose of view v."""
        joints = list(self.shared_joints)
        R = body.rotations[:, joints]
        # R exp([δ]ₓ) ≈ R + R [δ]ₓ, and row-major vec(R [e_m]ₓ) are the three columns of each 9 × 3 block.
        generators = R.new_zeros(3, 3, 3)
        for m, (i, j) in enumerate(((2, 1), (0, 2), (1, 0))):
            generators[m, i, j], generators[m, j, i] = 1.0, -1.0
        blocks = self.consistency * torch.einsum("bkij,mjl->bkilm", R, generators).flatten(2, 3)
        slots = {joint: slot for slot, joint in enumerate(self.views.moving_joints)}
        full = R.new_zeros(R.shape[0], len(joints), 9, len(slots), 3)
        for row, joint in enumerate(joints):
            full[:, row, :, slots[joint]] = blocks[:, row]
        jacobian = body.pull_back(full.flatten(3).flatten(1, 2)).unflatten(0, (-1, self.num_views))
        return jacobian * self.present[:, :, None, None]

    def cost(self, state: MultiViewState) -> Float[Tensor, "person"]:
        """Value of the objective per person; differentiable."""
        body = self.views.evaluate(state.flat(), with_jacobian=False)
        views = self.views.cost_of(body).unflatten(0, (-1, self.num_views)).sum(-1)
        return views + 0.5 * self._disagreement(body).square().sum((1, 2))

    def curvature(self, state: MultiViewState) -> Float[Tensor, "person parameter"]:
        """Diagonal of the Gauss-Newton matrix."""
        return self.linearize(state).diagonal

    def retract(self, state: MultiViewState, step: Float[Tensor, "person parameter"]) -> MultiViewState:
        """State after a step of all views."""
        per_view = step[:, self.columns].flatten(0, 1)
        moved = self.views.retract(state.flat(), per_view).map(lambda x: x.unflatten(0, (-1, self.num_views)))
        return MultiViewState(moved.poses, moved.betas, moved.expression, moved.transl)
