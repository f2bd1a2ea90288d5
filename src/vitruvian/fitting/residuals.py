"""The terms of the fit: reprojection of keypoints, and priors on pose, shape, expression and upright stance."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.fitting.kinematics import PointKinematics
from vitruvian.fitting.problem import BodyEvaluation, ResidualBlock, Term
from vitruvian.geometry.cameras import Camera
from vitruvian.priors.pose_spaces import RotationPrior
from vitruvian.tensors import BatchRecord, resized


def geman_mcclure(
    squared: Float[Tensor, "*batch"], scale: Float[Tensor, "*batch"] | float
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Geman-McClure ρ(e²) = s²e²/(s² + e²) and the weight dρ/de² = (s²/(s² + e²))² that reweights e."""
    ratio = scale**2 / (scale**2 + squared)
    return ratio * squared, ratio * ratio


@dataclass(frozen=True, eq=False)
class Reprojection(BatchRecord):
    """½ Σ_k ω_k ρ(|Π(p_k) − x_k| / σ), ρ Geman-McClure (SMPLify-X, eq. 5).

    Args:
        kinematics: the points p_k on the body.
        positions: observed x_k in pixels; any value, NaN too, where there is no observation.
        weights: ω_k, zero where there is no observation.
        sigma_px: σ, the error that counts as one, per person.
        camera: intrinsics per person.
        robust_scale: scale of Geman-McClure in units of σ.
    """

    kinematics: PointKinematics
    positions: Float[Tensor, "batch point 2"]
    weights: Float[Tensor, "batch point"]
    sigma_px: Float[Tensor, "batch"]
    camera: Camera
    robust_scale: float

    def __getitem__(self, index: Tensor) -> "Reprojection":
        return Reprojection(
            self.kinematics,
            self.positions[index],
            self.weights[index],
            self.sigma_px[index],
            self.camera[index],
            self.robust_scale,
        )

    def evaluate(self, body: BodyEvaluation, *, with_jacobian: bool) -> ResidualBlock:
        kinematics, points = self.kinematics, self.kinematics.points
        state = body.state
        features = body.pose_features if points.pose_dirs is not None else None
        offsets = points.offsets(state.betas, state.expression, features)
        sums = kinematics.group_sums(body.world_rotations, body.joints, offsets)
        p = sums[:, : kinematics.num_points]
        error = (self.camera.project(p) - self.positions) / self.sigma_px[:, None, None]
        error = torch.where(self.weights[..., None] > 0, error, 0.0)
        value, reweight = geman_mcclure((error * error).sum(-1), self.robust_scale)
        cost = 0.5 * (self.weights * value).sum(-1)
        root = (self.weights * reweight).sqrt()
        residual = (error * root[..., None]).flatten(1)
        columns = slice(0, body.problem.layout.size)
        if not with_jacobian:
            return ResidualBlock(residual, columns, None, cost)
        rows = self.camera.projection_jacobian(p) * (root / self.sigma_px[:, None])[..., None, None]
        turned = kinematics.rotation_jacobian(rows, sums, body.world_rotations, body.joints)
        parts = [body.pull_back(turned.flatten(1, 2))]
        if body.problem.num_shape + body.problem.num_expression:
            parts.append(kinematics.shape_jacobian(rows, body.world_rotations).flatten(1, 2))
        parts.append(rows.flatten(1, 2))
        return ResidualBlock(residual, columns, torch.cat(parts, dim=-1), cost)


@dataclass(frozen=True, eq=False)
class PoseSpacePrior(BatchRecord):
    """The prior that a pose space carries itself, times `weight` (a weight multiplies the residual, not its square)."""

    space: int
    weight: float

    def __getitem__(self, index: Tensor) -> "PoseSpacePrior":
        return self

    def evaluate(self, body: BodyEvaluation, *, with_jacobian: bool) -> ResidualBlock:
        space, state = body.problem.spaces[self.space], body.state.poses[self.space]
        residual = self.weight * space.residual(state)
        jacobian = self.weight * space.residual_jacobian(state) if with_jacobian else None
        cost = 0.5 * (residual * residual).sum(-1)
        return ResidualBlock(residual, body.problem.layout.poses[self.space], jacobian, cost)


@dataclass(frozen=True, eq=False)
class PosePrior(BatchRecord):
    """A prior on rotations (mixture, joint limits, bending), times `weight`, whatever spaces decode to them."""

    prior: RotationPrior
    weight: float

    def __getitem__(self, index: Tensor) -> "PosePrior":
        return self

    def evaluate(self, body: BodyEvaluation, *, with_jacobian: bool) -> ResidualBlock:
        joints = list(self.prior.joints)
        rotations = body.rotations[:, joints]
        residual = self.weight * self.prior.residual(rotations)
        cost = 0.5 * (residual * residual).sum(-1)
        columns = slice(0, body.problem.layout.betas.start)
        if not with_jacobian:
            return ResidualBlock(residual, columns, None, cost)
        local = (self.weight * self.prior.jacobian(rotations)).unflatten(-1, (-1, 3))
        slots = {joint: slot for slot, joint in enumerate(body.problem.moving_joints)}
        kept = [k for k, joint in enumerate(joints) if joint in slots]
        full = local.new_zeros(*local.shape[:2], len(slots), 3)
        full[:, :, [slots[joints[k]] for k in kept]] = local[:, :, kept]
        return ResidualBlock(residual, columns, body.pull_back(full.flatten(-2)), cost)


@dataclass(frozen=True, eq=False)
class CoefficientPrior(BatchRecord):
    """½ weight² |(c − mean) / std|² on the shape or the expression coefficients, which are in standard deviations.

    Args:
        name: `betas` or `expression`.
        weight: factor on the residual.
        mean: centre per person, zero if None.
        std: spread of each coefficient, one if None.
    """

    name: str
    weight: float
    mean: Float[Tensor, "batch coefficient"] | None = None
    std: Float[Tensor, "coefficient"] | None = None

    def __getitem__(self, index: Tensor) -> "CoefficientPrior":
        return CoefficientPrior(self.name, self.weight, None if self.mean is None else self.mean[index], self.std)

    def evaluate(self, body: BodyEvaluation, *, with_jacobian: bool) -> ResidualBlock:
        columns: slice = getattr(body.problem.layout, self.name)
        count = columns.stop - columns.start
        values = getattr(body.state, self.name)
        total = values.shape[-1]
        if self.mean is not None:
            values = values - resized(self.mean, total)
        scale = values.new_full((total,), self.weight)
        if self.std is not None:
            scale = scale / resized(self.std, total, filling=1.0)
        residual = scale * values
        cost = 0.5 * (residual * residual).sum(-1)
        return ResidualBlock(residual[:, :count], columns, None, cost, scale[:count])


@dataclass(frozen=True, eq=False)
class Upright(BatchRecord):
    """½ w² |R_root ŷ − up|²: the trunk leans against standing upright, strongly where little of the body is seen.

    Args:
        up: direction of "up" in the camera frame, (0, −1, 0) for a level camera.
        weights: w per person.
    """

    up: Float[Tensor, "3"]
    weights: Float[Tensor, "batch"]

    def __getitem__(self, index: Tensor) -> "Upright":
        return Upright(self.up, self.weights[index])

    def evaluate(self, body: BodyEvaluation, *, with_jacobian: bool) -> ResidualBlock:
        R = body.rotations[:, 0]
        residual = self.weights[:, None] * (R[:, :, 1] - self.up)
        cost = 0.5 * (residual * residual).sum(-1)
        columns = slice(0, body.problem.layout.betas.start)
        if not with_jacobian:
            return ResidualBlock(residual, columns, None, cost)
        if 0 not in body.problem.moving_joints:
            return ResidualBlock(residual, columns, residual.new_zeros(*residual.shape, columns.stop), cost)
        # R exp([δ]ₓ) ŷ ≈ R ŷ + R (δ × ŷ) = R ŷ + R [−δ_z, 0, δ_x]ᵀ
        local = torch.stack((R[:, :, 2], torch.zeros_like(R[:, :, 1]), -R[:, :, 0]), dim=-1)
        full = local.new_zeros(local.shape[0], 3, len(body.problem.moving_joints), 3)
        full[:, :, body.problem.moving_joints.index(0)] = self.weights[:, None, None] * local
        return ResidualBlock(residual, columns, body.pull_back(full.flatten(-2)), cost)


@dataclass(frozen=True, eq=False)
class Scaled:
    """Another term with a factor per item on its residual, so the square of it on its cost."""

    term: Term
    factor: Float[Tensor, "batch"]

    def __getitem__(self, index: Tensor) -> "Scaled":
        return Scaled(self.term[index], self.factor[index])

    def evaluate(self, body: BodyEvaluation, *, with_jacobian: bool) -> ResidualBlock:
        block = self.term.evaluate(body, with_jacobian=with_jacobian)
        factor = self.factor[:, None]
        return ResidualBlock(
            factor * block.residual,
            block.columns,
            None if block.jacobian is None else factor[..., None] * block.jacobian,
            self.factor.square() * block.cost,
            factor * block.scale,
        )
