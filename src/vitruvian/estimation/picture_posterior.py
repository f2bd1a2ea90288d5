"""The distribution of poses given keypoints and depth cues of the picture: mode, samples, likelihoods, entropy.

The flow gives p(z | keypoints) = N(z; 0, I). Cues d add a likelihood L(d | z), the very term of the fit, so that

    p(z | picture) = N(z; 0, I) L(d | z) / Z.

Its mode is found by Levenberg-Marquardt. Around it the density is nearly Gaussian, with precision I + JᵀJ, because
directions of bones depend mildly on z; that Gaussian, mixed with a share of N(0, I) for what it cuts off, proposes, and
importance weights make samples, Z and entropy those of p itself (Laplace proposal with a defensive mixture, Hesterberg
1995; sampling importance resampling, Rubin 1988).
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.errors import InputError
from vitruvian.fitting.directions import ROBUST_SCALE, BoneDirections, bone_vectors, expected_errors
from vitruvian.fitting.levenberg_marquardt import LevenbergMarquardt
from vitruvian.fitting.problem import BodyProblem, FitState
from vitruvian.fitting.residuals import PoseSpacePrior, geman_mcclure
from vitruvian.keypoints.depth_cues import DepthCues
from vitruvian.recovery.posterior import BodyPosterior, PoseSamples

DEFENSIVE = 0.1
"""Share of proposals from the flow's own distribution: no weight then exceeds ten times the best likelihood."""
PROPOSALS = 16
"""Proposals of which each sample is drawn."""
POOL = 256
"""Proposals that Z and the entropy are measured with."""


@dataclass(frozen=True, eq=False)
class CueLikelihood:
    """log L(d | pose) = −½ Σ_b ω_b ρ(|v_b/|v_b| − d_b| / σ_b) of the bones of a body, at the mean shape."""

    body: BodyModel
    cues: DepthCues
    spread: float = 1.0

    def log(self, rotations: Float[Tensor, "*sample batch 55 3 3"]) -> Float[Tensor, "*sample batch"]:
        """Log-likelihood of poses, up to a constant; zero where nothing is known."""
        bones = bone_vectors(self.body)
        v = self.body.with_shape().with_pose(rotations).points(bones.points)
        along = torch.nn.functional.normalize(v, dim=-1)
        directions, weights = self.cues.directions[:, list(bones.rows)], self.cues.confidence[:, list(bones.rows)]
        sigma = self.spread * v.new_tensor(expected_errors(bones.rows))
        error = torch.where(weights[..., None] > 0, (along - directions) / sigma[:, None], 0.0)
        value, _ = geman_mcclure((error * error).sum(-1), ROBUST_SCALE)
        return -0.5 * (weights * value).sum(-1)


@dataclass(frozen=True, eq=False)
class PicturePosterior:
    """Poses of a batch of people given their keypoints and depth cues; used like a `BodyPosterior`.

    Attributes:
        keypoints: the distributions given the keypoints alone.
        likelihood: of the cues.
        center: latent of the mode.
        factor: lower Cholesky factor of the proposal's precision I + JᵀJ.
        log_evidence: log Z, nats.
        entropy: of the body pose, nats.
        effective: effective share of the proposals (Kong 1992): 1 if they follow the distribution itself.
    """

    keypoints: BodyPosterior
    likelihood: CueLikelihood
    center: Float[Tensor, "batch 66"]
    factor: Float[Tensor, "batch 66 66"]
    log_evidence: Float[Tensor, "batch"]
    entropy: Float[Tensor, "batch"]
    effective: Float[Tensor, "batch"]

    def __len__(self) -> int:
        return len(self.keypoints)

    def mode(self) -> PoseSamples:
        """The most likely pose of each person, to the tolerance of the solver."""
        hands = self.keypoints.hands
        return self._conditioned(
            self.keypoints.decode(self.center, self.center.new_zeros(len(self), 2, hands.num_features))
        )

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> PoseSamples:
        """Independent poses of body and hands, and shapes; fields are `(num_samples, batch, …)`.

        Each is drawn by weight from 16 proposals of its own.
        """
        posterior = self.keypoints
        latent = self._propose(num_samples * PROPOSALS, generator)
        weight = self._log_weight(latent).unflatten(0, (num_samples, PROPOSALS))
        noise = torch.rand(weight.shape, generator=generator, dtype=weight.dtype, device=weight.device)
        chosen = (weight - torch.log(-torch.log(noise.clamp(1e-12, 1 - 1e-7)))).argmax(1)  # Gumbel: index by weight
        index = chosen[:, None, :, None].expand(-1, 1, -1, latent.shape[-1])
        latent = latent.unflatten(0, (num_samples, PROPOSALS)).gather(1, index)[:, 0]
        hands = posterior.hands.sample_latent(num_samples, generator=generator)
        spread = posterior.betas.new_empty(num_samples, *posterior.betas.shape).normal_(generator=generator)
        betas = posterior.betas + posterior.network.shape_std * spread
        return self._conditioned(posterior.decode(latent, hands, betas=betas))

    def log_prob(self, rotations: Float[Tensor, "*sample batch joint 3 3"]) -> Float[Tensor, "*sample batch"]:
        """Log-likelihood of body poses, as `BodyPosterior.log_prob`, given the cues too."""
        of_keypoints = self.keypoints.log_prob(rotations)
        missing = self.likelihood.body.num_joints - rotations.shape[-3]
        if missing > 0:
            rest = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
            rotations = torch.cat((rotations, rest.expand(*rotations.shape[:-3], missing, 3, 3)), dim=-3)
        return of_keypoints + self.likelihood.log(rotations) - self.log_evidence

    def _conditioned(self, poses: PoseSamples) -> PoseSamples:
        more = self.likelihood.log(poses.rotations) - self.log_evidence
        return replace(poses, log_prob=poses.log_prob + more)

    def _propose(self, count: int, generator: torch.Generator | None) -> Float[Tensor, "count batch 66"]:
        return propose(self.center, self.factor, count, generator)

    def _log_weight(self, latent: Float[Tensor, "count batch 66"]) -> Float[Tensor, "count batch"]:
        return log_weight(self.keypoints, self.likelihood, self.center, self.factor, latent)


@torch.no_grad()
def given_cues(
    posterior: BodyPosterior,
    body: BodyModel,
    cues: DepthCues,
    *,
    spread: float = 1.0,
    generator: torch.Generator | None = None,
) -> PicturePosterior:
    """The distributions of people of whom depth cues are known too; of people without any, the given ones.

    Args:
        posterior: given the keypoints alone.
        body: a body of the SMPL-X tree; only the proportions of its bones matter.
        cues: one row per person.
        spread: factor on the expected errors of directions.
        generator: of the proposals that measure Z and entropy.

    Raises:
        InputError: the cues do not match the people.
    """
    if cues.confidence.shape[0] != len(posterior):
        raise InputError(
            "one row of depth cues per person is needed", seen=len(cues.confidence), expected=len(posterior)
        )
    cues = cues.to(dtype=posterior.context.dtype, device=posterior.context.device)
    center, factor = _laplace(posterior, body, cues, spread)
    likelihood = CueLikelihood(body, cues, spread)
    latent = propose(center, factor, POOL, generator)
    weight = log_weight(posterior, likelihood, center, factor, latent)
    log_evidence = torch.logsumexp(weight, 0) - math.log(POOL)
    share = torch.softmax(weight, 0)
    log_density = posterior.body.log_prob_of_latent(latent) + _log_likelihood(posterior, likelihood, latent)
    known = (cues.confidence > 0).any(-1)
    entropy = log_evidence - (share * log_density).sum(0)
    return PicturePosterior(
        keypoints=posterior,
        likelihood=likelihood,
        center=center,
        factor=factor,
        log_evidence=torch.where(known, log_evidence, 0.0),
        entropy=torch.where(known, entropy, posterior.entropy),
        effective=1 / (POOL * share.square().sum(0)),
    )


def _laplace(
    posterior: BodyPosterior, body: BodyModel, cues: DepthCues, spread: float
) -> tuple[Float[Tensor, "batch 66"], Float[Tensor, "batch 66 66"]]:
    """Mode, and Cholesky factor of the Gauss-Newton precision there."""
    space = posterior.pose_space()
    term = BoneDirections.of(cues, body, space.joints, 0, 0, spread=spread)
    problem = BodyProblem(body, [space], [PoseSpacePrior(0, 1.0), term], num_shape=0, num_expression=0)
    mode = space.initial(len(posterior), dtype=body.dtype, device=body.device)
    state = FitState((mode,), *(mode.new_zeros(len(posterior), n) for n in (body.num_shape, body.num_expression, 3)))
    solved = LevenbergMarquardt(max_iterations=20).solve(problem, state).state
    columns = problem.layout.poses[0]
    precision = problem.linearize(solved).hessian[:, columns, columns]
    return solved.poses[0], torch.linalg.cholesky(precision)


def propose(
    center: Float[Tensor, "batch 66"],
    factor: Float[Tensor, "batch 66 66"],
    count: int,
    generator: torch.Generator | None,
) -> Float[Tensor, "count batch 66"]:
    """Latents of 0.9 N(center, (L Lᵀ)⁻¹) + 0.1 N(0, I)."""
    noise = center.new_empty(count, *center.shape).normal_(generator=generator)
    narrow = center + torch.linalg.solve_triangular(factor.transpose(-1, -2), noise[..., None], upper=True)[..., 0]
    wide = torch.rand(count, len(center), generator=generator, dtype=center.dtype, device=center.device) < DEFENSIVE
    return torch.where(wide[..., None], noise, narrow)


def log_weight(
    posterior: BodyPosterior,
    likelihood: CueLikelihood,
    center: Float[Tensor, "batch 66"],
    factor: Float[Tensor, "batch 66 66"],
    latent: Float[Tensor, "count batch 66"],
) -> Float[Tensor, "count batch"]:
    """log N(z; 0, I) L(z) / q(z) of proposals z; the constant of the Gaussians cancels."""
    prior = -0.5 * latent.square().sum(-1)
    away = (factor.transpose(-1, -2) @ (latent - center)[..., None])[..., 0]
    narrow = -0.5 * away.square().sum(-1) + factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    proposal = torch.logaddexp(narrow + math.log(1 - DEFENSIVE), prior + math.log(DEFENSIVE))
    return prior + _log_likelihood(posterior, likelihood, latent) - proposal


def _log_likelihood(
    posterior: BodyPosterior, likelihood: CueLikelihood, latent: Float[Tensor, "count batch 66"]
) -> Float[Tensor, "count batch"]:
    hands = latent.new_zeros(*latent.shape[:-1], 2, posterior.hands.num_features)
    return likelihood.log(posterior.decode(latent, hands).rotations)
