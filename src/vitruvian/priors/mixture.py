"""Gaussian mixture over body poses, as a residual of the nearest component (SMPLify's pose prior, on SO(3))."""

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitruvian.assets import packaged_arrays
from vitruvian.geometry.rotations import exp_so3, log_so3, right_jacobian_inverse
from vitruvian.priors.vposer import BODY_POSE_JOINTS
from vitruvian.tensors import TensorRecord


@dataclass(frozen=True, eq=False)
class MixturePrior(TensorRecord):
    """Energy −log max_k w_k N(x; μ_k, Σ_k) of a body pose, with x_j = log(M_jᵀ R_j) the offset from a mean pose M.

    The residual is [Lₖᵀ(x − μ_k), sqrt(2 (c_k − min c))] of the component k of least energy, where L_k Lₖᵀ = Σ_k⁻¹ and
    c_k = −log w_k + ½ log det Σ_k; so ½|r|² is that energy up to a constant.

    Args:
        reference: mean rotation M of each joint.
        weights: of the components, summing to one.
        means: μ_k.
        precision_roots: L_k, lower triangular.
        joints: rows of the skeleton.
    """

    reference: Float[Tensor, "k 3 3"]
    weights: Float[Tensor, "component"]
    means: Float[Tensor, "component D"]
    precision_roots: Float[Tensor, "component D D"]
    joints: tuple[int, ...] = BODY_POSE_JOINTS

    @classmethod
    @cache
    def learnt(cls) -> "MixturePrior":
        """The mixture learnt by this project, float32 (see resources/priors/card.md).

        Raises:
            WeightsError: where the package lacks the file.
        """
        arrays = packaged_arrays("priors", "mixture.npz")
        reference, weights, means, roots = (
            torch.from_numpy(arrays[name]) for name in ("reference", "weights", "means", "precision_roots")
        )
        return cls(reference, weights, means, roots)

    @property
    def mean_rotations(self) -> Float[Tensor, "k 3 3"]:
        """Mean pose of the heaviest component: where a fit starts."""
        return self.pose(self.means[self.weights.argmax()][None])[0]

    def save(self, path: Path) -> None:
        """Write the arrays, float32, as one .npz file."""
        names = ("reference", "weights", "means", "precision_roots")
        np.savez_compressed(path, **{name: getattr(self, name).to(torch.float32).numpy() for name in names})

    def coordinates(self, rotations: Float[Tensor, "batch k 3 3"]) -> Float[Tensor, "batch D"]:
        """Offset x of a pose from the mean pose."""
        return log_so3(self.reference.to(rotations).mT @ rotations).flatten(-2)

    def pose(self, coordinates: Float[Tensor, "batch D"]) -> Float[Tensor, "batch k 3 3"]:
        """Rotations at an offset from the mean pose; the inverse of `coordinates`."""
        return self.reference.to(coordinates) @ exp_so3(coordinates.unflatten(-1, (-1, 3)))

    def log_densities(self, x: Float[Tensor, "batch D"]) -> Float[Tensor, "batch component"]:
        """log w_k N(x; μ_k, Σ_k)."""
        constant = 0.5 * x.shape[-1] * math.log(2 * math.pi)
        return -0.5 * self._scaled(x).square().sum(-1) - self._offsets().to(x) - constant

    def log_prob(self, rotations: Float[Tensor, "batch k 3 3"]) -> Float[Tensor, "batch"]:
        """Natural logarithm of the density of a pose, in the coordinates of `coordinates`."""
        return self.log_densities(self.coordinates(rotations)).logsumexp(dim=-1)

    def sample(self, count: int, *, generator: torch.Generator) -> Float[Tensor, "count k 3 3"]:
        """Random poses."""
        component = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = torch.randn(count, self.means.shape[-1], generator=generator, dtype=self.means.dtype)
        scaled = torch.linalg.solve_triangular(self.precision_roots[component].mT, noise[..., None], upper=True)
        return self.pose(self.means[component] + scaled[..., 0])

    def residual(self, rotations: Float[Tensor, "batch k 3 3"]) -> Float[Tensor, "batch r"]:
        """Residual of the component of least energy; see the class."""
        x = self.coordinates(rotations)
        scaled, component = self._nearest(x)
        offsets = self._offsets().to(x)
        constant = (2 * (offsets - offsets.min())).sqrt()[component]
        return torch.cat((scaled, constant[:, None]), dim=-1)

    def jacobian(self, rotations: Float[Tensor, "batch k 3 3"]) -> Float[Tensor, "batch r three_k"]:
        """Derivative of `residual` by right perturbations; the last row is zero."""
        x = self.coordinates(rotations)
        _, component = self._nearest(x)
        turn = right_jacobian_inverse(x.unflatten(-1, (-1, 3)))
        roots = self.precision_roots.to(x).mT[component].unflatten(-1, (-1, 3))
        rows = (roots.transpose(1, 2) @ turn).transpose(1, 2).flatten(-2)
        return torch.cat((rows, torch.zeros_like(rows[:, :1])), dim=1)

    def _offsets(self) -> Float[Tensor, "component"]:
        log_root = self.precision_roots.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -self.weights.log() - log_root

    def _scaled(self, x: Float[Tensor, "batch D"]) -> Float[Tensor, "batch component D"]:
        offset = x[:, None] - self.means.to(x)
        return torch.einsum("bkd,kde->bke", offset, self.precision_roots.to(x))

    def _nearest(self, x: Float[Tensor, "batch D"]) -> tuple[Float[Tensor, "batch D"], Int[Tensor, "batch"]]:
        scaled = self._scaled(x)
        energy = 0.5 * scaled.square().sum(-1) + self._offsets().to(x)
        # A NaN pose must not be able to pick an index out of range.
        component = energy.nan_to_num(nan=torch.inf).argmin(dim=-1)
        return scaled[torch.arange(len(x), device=x.device), component], component


def mean_rotations(rotations: Float[Tensor, "pose k 3 3"], weights: Float[Tensor, "pose"]) -> Float[Tensor, "k 3 3"]:
    """Chordal mean: the rotation nearest to the weighted mean matrix, per joint."""
    mean = torch.einsum("n,nkij->kij", weights / weights.sum(), rotations)
    U, _, Vh = torch.linalg.svd(mean)
    sign = torch.ones_like(mean[..., 0])
    sign[..., -1] = torch.linalg.det(U @ Vh)
    return (U * sign[..., None, :]) @ Vh


@dataclass(frozen=True)
class MixtureFit:
    """A fitted mixture and the mean log-likelihood of its data after each round of EM."""

    prior: MixturePrior
    log_likelihoods: tuple[float, ...]


def fit_mixture(
    rotations: Float[Tensor, "pose k 3 3"],
    weights: Float[Tensor, "pose"],
    *,
    num_components: int = 8,
    floor_rad: float = 0.03,
    rounds: int = 60,
    generator: torch.Generator,
) -> MixtureFit:
    """Expectation-maximisation with full covariances, started from k-means++ centres.

    Args:
        rotations: poses to describe.
        weights: weight of each pose, any scale.
        num_components: number of Gaussians.
        floor_rad: standard deviation added in every direction.
        rounds: rounds of EM.
        generator: source of the starting centres.
    """
    share = weights / weights.sum()
    reference = mean_rotations(rotations, share)
    x = log_so3(reference.mT @ rotations).flatten(-2)
    responsibility = _spread_start(x, share, num_components, generator)
    history: list[float] = []
    for _ in range(rounds):
        mixture = _maximise(x, share, responsibility, reference, floor_rad)
        densities = mixture.log_densities(x)
        total = densities.logsumexp(dim=-1)
        history.append(float(share @ total))
        responsibility = (densities - total[:, None]).exp()
    return MixtureFit(mixture, tuple(history))


def _maximise(
    x: Float[Tensor, "pose D"],
    share: Float[Tensor, "pose"],
    responsibility: Float[Tensor, "pose component"],
    reference: Float[Tensor, "k 3 3"],
    floor_rad: float,
) -> MixturePrior:
    mass = responsibility * share[:, None]
    weights = mass.sum(0).clamp_min(1e-12)
    means = mass.T @ x / weights[:, None]
    roots = []
    for k in range(len(weights)):
        offset = x - means[k]
        covariance = (offset * mass[:, k, None]).T @ offset / weights[k]
        covariance = covariance + floor_rad**2 * torch.eye(x.shape[-1]).to(x)
        roots.append(torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(covariance))))
    return MixturePrior(reference, weights / weights.sum(), means, torch.stack(roots))


def _spread_start(
    x: Float[Tensor, "pose D"], share: Float[Tensor, "pose"], count: int, generator: torch.Generator
) -> Float[Tensor, "pose component"]:
    """Hard assignment to centres drawn far from each other (k-means++), refined by ten rounds of k-means."""
    chosen = [int(torch.multinomial(share, 1, generator=generator))]
    nearest = (x - x[chosen[0]]).square().sum(-1)
    for _ in range(count - 1):
        chosen.append(int(torch.multinomial(share * nearest, 1, generator=generator)))
        nearest = torch.minimum(nearest, (x - x[chosen[-1]]).square().sum(-1))
    centres = x[chosen]
    for _ in range(10):
        assigned = torch.nn.functional.one_hot(torch.cdist(x, centres).argmin(dim=1), count).to(x)
        mass = assigned * share[:, None]
        centres = mass.T @ x / mass.sum(0).clamp_min(1e-12)[:, None]
    return assigned
