"""From a posterior and the keypoints it came from: where each pose stands, how well it reprojects, and a mean pose."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.bodies.skeletons import BODY_JOINTS, SMPLX
from vitruvian.errors import InputError
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.canonical import CANONICAL
from vitruvian.keypoints.observations import EVIDENCE_CONFIDENCE, Keypoints
from vitruvian.keypoints.targets import KeypointTargets, keypoint_targets
from vitruvian.recovery.chart import NUM_BODY
from vitruvian.recovery.posterior import BodyPosterior, PoseSamples
from vitruvian.tensors import BatchRecord, resized


@dataclass(frozen=True)
class Weighting:
    """How the weighted mean of samples trusts reprojection and likelihood.

    Attributes:
        num_samples: samples besides the mode.
        spread: factor on the latents of the samples; a mean over 66 dimensions gains from samples close to the mode.
        error_share: reprojection error that counts as one, as a share of the size of the person in the picture.
        robust: errors are limited to this many units.
        likelihood: how much the difference in log-likelihood from the mode counts.
    """

    num_samples: int = 100
    spread: float = 0.3
    error_share: float = 0.05
    robust: float = 4.0
    likelihood: float = 0.0


@dataclass(frozen=True, eq=False)
class PlacedPoses(BatchRecord):
    """Poses with the translation that best explains the keypoints, and their reprojection error.

    Attributes:
        params: parameters of a body of the SMPL-X tree; leading axes as those of the poses.
        reprojection_px: mean distance of the keypoints, weighted by confidence.
        energy: ½ Σ c ρ(e) of the reprojection errors e in the units of `Weighting`.
    """

    params: BodyParams
    reprojection_px: Float[Tensor, "*batch"]
    energy: Float[Tensor, "*batch"]


def solve_translation(
    points: Float[Tensor, "*batch point 3"],
    positions: Float[Tensor, "*batch point 2"],
    weights: Float[Tensor, "*batch point"],
    camera: Camera,
    guess: Float[Tensor, "*batch 3"],
) -> Float[Tensor, "*batch 3"]:
    """Translation whose projections are nearest to the keypoints, in closed form.

    Minimises Σ w |f (X + t)_xy − (u − c) (Z + t_z)|², linear in t; a weak pull to `guess` decides where keypoints do
    not, and a translation that would put the body behind the camera is replaced by it.

    For poses whose turn is known; `fitting.start.place_in_view` turns and places poses that only resemble the person.
    """
    rays = (positions - camera.center_px[..., None, :]) / camera.focal_px[..., None, :]
    one = torch.ones_like(rays[..., :1])
    rows = torch.stack(
        (torch.cat((one, 0 * one, -rays[..., :1]), -1), torch.cat((0 * one, one, -rays[..., 1:]), -1)), dim=-2
    )
    weight = weights[..., None]
    H = torch.einsum("...pri,...prj,...p->...ij", rows, rows, weights)
    residual = rays * points[..., 2:] - points[..., :2]
    g = torch.einsum("...pri,...pr->...i", rows, residual * weight)
    pull = 1e-4 * weights.sum(-1)[..., None, None].clamp_min(1e-6) * torch.eye(3).to(H)
    t = torch.linalg.solve(H + pull, g + (pull @ guess[..., None])[..., 0])
    nearest = points[..., 2].amin(-1) + t[..., 2]
    return torch.where((nearest > 0.1)[..., None], t, guess)


def knows_shape(body: BodyModel) -> bool:
    """True for the body whose shape coefficients the network speaks of: the neutral open body."""
    return body.family == "open" and body.gender == "neutral"


def knows_poses(body: BodyModel) -> bool:
    """True where the first 22 joints are those that the posterior speaks of: SMPL, SMPL+H, SMPL-X, the open body."""
    return body.skeleton.names[:NUM_BODY] == BODY_JOINTS


def rotations_on(body: BodyModel, rotations: Float[Tensor, "*batch 55 3 3"]) -> Float[Tensor, "*batch joint 3 3"]:
    """Rotations of SMPL-X's 55 joints on a body with fewer: by name; joints that SMPL-X lacks stay at rest."""
    names = body.skeleton.names
    if names == SMPLX.names:
        return rotations
    rows = torch.tensor([SMPLX.index(name) if name in SMPLX.names else 0 for name in names], device=rotations.device)
    known = torch.tensor([name in SMPLX.names for name in names], device=rotations.device)
    rest = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    return torch.where(known[:, None, None], rotations[..., rows, :, :], rest)


def place(
    poses: PoseSamples,
    body: BodyModel,
    keypoints: Keypoints,
    camera: Camera,
    *,
    targets: KeypointTargets | None = None,
    weighting: Weighting | None = None,
    min_confidence: float = EVIDENCE_CONFIDENCE,
) -> PlacedPoses:
    """Move poses to where they explain the keypoints best.

    Args:
        poses: `(*sample, batch)`.
        body: SMPL, SMPL+H, SMPL-X or the open body; the mean shape is taken on those that the network does not know.
        keypoints: `(batch, K)`, any registered format.
        camera: one per person.
        targets: of the canonical keypoints on the body, if at hand.
        weighting: units of the energy.
        min_confidence: least confidence of points that count.

    Raises:
        InputError: a body without the 22 joints that the posterior speaks of.
    """
    if not knows_poses(body):
        raise InputError("the posterior speaks of whole bodies", seen=body.family, expected="the 22 joints of SMPL-X")
    weighting = weighting or Weighting()
    canonical = keypoints.evidence(min_confidence).to_format(CANONICAL)
    targets = targets if targets is not None else keypoint_targets(body, CANONICAL)
    betas = resized(poses.betas, min(body.num_shape, poses.betas.shape[-1]))
    expression = resized(poses.expression, min(body.num_expression, poses.expression.shape[-1]))
    if not knows_shape(body):
        betas, expression = torch.zeros_like(betas), torch.zeros_like(expression)
    shaped = body.with_shape(betas, expression)
    rotations = rotations_on(body, poses.rotations)
    places = shaped.with_pose(rotations, -shaped.joints[..., 0, :]).points(targets.points)
    lead = places.shape[:-2]
    positions = canonical.positions[..., targets.keypoint, :].expand(*lead, -1, -1)
    confidence = canonical.confidence[..., targets.keypoint].expand(*lead, -1)
    camera = camera.map(lambda x: x.expand(*lead, x.shape[-1]))
    pelvis = solve_translation(places, positions, confidence, camera, poses.pelvis)
    error = (camera.project(places + pelvis[..., None, :]) - positions).norm(dim=-1)
    total = confidence.sum(-1).clamp_min(1e-6)
    box = canonical.bounding_box()
    size = (box[..., 2:] - box[..., :2]).amax(-1).clamp_min(1.0)
    relative = error / (weighting.error_share * size)[..., None]
    limited = relative.square() / (1 + relative.square() / weighting.robust**2)
    params = BodyParams(rotations, betas, expression, pelvis - shaped.joints[..., 0, :])
    return PlacedPoses(params, (confidence * error).sum(-1) / total, 0.5 * (confidence * limited).sum(-1))


@torch.no_grad()
def weighted_mean(
    posterior: BodyPosterior,
    body: BodyModel,
    keypoints: Keypoints,
    camera: Camera,
    *,
    weighting: Weighting | None = None,
    targets: KeypointTargets | None = None,
    generator: torch.Generator | None = None,
) -> PoseSamples:
    """Mean of samples, in chart coordinates, weighted by how well they reproject and how likely they are."""
    weighting = weighting or Weighting()
    latent = weighting.spread * posterior.body.sample_latent(weighting.num_samples, generator=generator)
    latent = torch.cat((torch.zeros_like(latent[:1]), latent))
    hands = posterior.hands.sample_latent(0)
    hands = hands.new_zeros(len(latent), *hands.shape[1:])
    samples = posterior.decode(latent, hands)
    least = posterior.min_confidence
    placed = place(samples, body, keypoints, camera, targets=targets, weighting=weighting, min_confidence=least)
    energy = placed.energy
    log_weight = -energy - weighting.likelihood * 0.5 * latent.square().sum(-1)
    weight = torch.softmax(log_weight, dim=0)
    chart = (weight[..., None] * posterior.body.from_latent(latent)).sum(0)
    return posterior.decode(posterior.body.to_latent(chart), hands[0])
