"""A second chance for people whose fit misses sure keypoints: other starts, other priors, left and right exchanged.

All candidates of a person, the first fit among them, compete on one objective that is the same for all: the evidence
under a wide robust scale, how likely the flow finds the pose given the keypoints, and the spread of people the shape.
Keypoints alone would let poses win that explain the picture with wrong depths: a lying person turned round.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.bodies.skeletons import BODY_JOINTS
from vitruvian.estimation.beliefs import FLOW, belief_by_name
from vitruvian.estimation.regress import FLOW_FIT, flow_prior, placed_mode, regress
from vitruvian.estimation.verdicts import Signs, signs_of
from vitruvian.fitting.config import FitConfig
from vitruvian.fitting.directions import cue_terms
from vitruvian.fitting.fit import fit_keypoints
from vitruvian.fitting.fitter import FittedPeople
from vitruvian.fitting.parts import BodyPrior, body_prior
from vitruvian.fitting.residuals import geman_mcclure
from vitruvian.keypoints.formats import GROUPS
from vitruvian.keypoints.people import People
from vitruvian.keypoints.targets import keypoint_targets
from vitruvian.recovery.estimates import knows_poses, place
from vitruvian.tensors import concatenate_records, put_rows, stack_records

Settings = Callable[[FitConfig], FitConfig]

ARMS = ("shoulder", "elbow", "wrist")
LEGS = ("hip", "knee", "ankle", "heel", "big_toe", "small_toe")


@dataclass(frozen=True)
class SecondChance:
    """Who is fitted again, and how the candidates are compared. Chosen on validation subjects.

    Attributes:
        misfit: share of the person's size by which the keypoints of the body are missed on average.
        outliers: share of sure keypoints that lie far off.
        samples, starts: of so many samples of the flow, the best so many are starts.
        sigma_share: error of a keypoint that counts as one, as a share of the person's size.
        robust_scale: of Geman-McClure, in units of it; wide, so that what is far off still counts.
        exchange: what it costs to take left and right of some keypoints for exchanged.
        other_prior: what it costs to leave the flow for a prior that has not read the keypoints.
        margin: a candidate must be better by this much than the first fit to take its place.
        close: candidates that are not this much worse than the chosen one, but face elsewhere, are named as its rivals.
        seed: of the latents of the samples, which are the same for everyone.
    """

    misfit: float = 0.02
    outliers: float = 0.15
    samples: int = 48
    starts: int = 4
    sigma_share: float = 0.01
    robust_scale: float = 12.0
    exchange: float = 12.0
    other_prior: float = 30.0
    margin: float = 60.0
    close: float = 3.0
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Candidate:
    """Another fit of the same people: where it came from, and what it costs to believe it at all."""

    name: str
    fitted: FittedPeople
    penalty: float
    people: People


@dataclass(frozen=True, eq=False)
class Chosen:
    """The better fits, in the order of the people: `names` say which candidate won, "" where the first fit stays."""

    fitted: FittedPeople
    names: tuple[str, ...]
    notes: tuple[str, ...]


@torch.no_grad()
def second_chances(
    body: BodyModel,
    people: People,
    fitted: FittedPeople,
    *,
    settings: Settings,
    config: SecondChance | None = None,
) -> Chosen:
    """Fit those again who miss sure keypoints, and keep the best fit of each.

    Args:
        body: the body that was fitted.
        people: everyone; row i belongs to row i of `fitted`.
        fitted: the first fits.
        settings: what the caller changes in the settings made for a prior.
        config: see `SecondChance`.
    """
    config = config or SecondChance()
    names, notes = [""] * len(people), [""] * len(people)
    if not len(people):
        return Chosen(fitted, (), ())
    signs = signs_of(body, fitted.params, people, min_confidence=settings(FitConfig()).min_confidence)
    rows = misses(signs, fitted, config).nonzero()[:, 0]
    if not len(rows) or not knows_poses(body):
        return Chosen(fitted, tuple(names), tuple(notes))
    some = people[rows]
    candidates = [Candidate("", fitted[rows], 0.0, some), *_candidates(body, some, settings, config)]
    energy = torch.stack([c.penalty + objective(body, c.fitted.params, c.people, settings, config) for c in candidates])
    energy = torch.nan_to_num(energy, nan=torch.inf)
    best = torch.cat((energy[:1], energy[1:] + config.margin)).argmin(0)
    everything = stack_records([candidate.fitted for candidate in candidates])
    winners = everything[best, torch.arange(len(rows))]
    for k, (row, winner) in enumerate(zip(rows.tolist(), best.tolist(), strict=True)):
        names[row] = candidates[winner].name
        notes[row] = _rivals(candidates, energy[:, k], winner, k, config)
    return Chosen(put_rows(fitted, rows, winners), tuple(names), tuple(notes))


def misses(signs: Signs, fitted: FittedPeople, config: SecondChance) -> Bool[Tensor, "person"]:
    """Who has a fit that misses sure keypoints of the body."""
    finite = torch.isfinite(fitted.cost) & torch.isfinite(fitted.reprojection_px)
    return finite & ((signs.misfit_body > config.misfit) | (signs.outliers > config.outliers))


def _candidates(body: BodyModel, people: People, settings: Settings, config: SecondChance) -> list[Candidate]:
    """Other fits of everyone: from samples of the flow, from the bank at all rolls, and with sides exchanged."""
    found = []
    any_way_up = settings(replace(FitConfig(), level=0.0, upright_seen=0.0, upright_hidden=0.0))
    for prior in ("mixture", "vposer"):
        fitted = _fit(body, people, any_way_up, body_prior(prior, body.skeleton))
        found.append(Candidate(f"{prior}, any way up", fitted, config.other_prior, people))
    fitted = _from_samples(body, people, settings, config)
    found.append(Candidate(f"{FLOW}, from samples", fitted, 0.0, people))
    for places, words in ((None, "everything"), (ARMS, "the arms"), (LEGS, "the legs")):
        exchanged = with_sides_exchanged(people, places)
        belief = belief_by_name(FLOW, body, exchanged)
        fitted = _fit(body, exchanged, settings(belief.config), belief.prior, belief.start)
        found.append(Candidate(f"{FLOW}, left and right of {words} exchanged", fitted, config.exchange, exchanged))
    return found


def _fit(
    body: BodyModel, people: People, config: FitConfig, prior: BodyPrior | None, start: BodyParams | None = None
) -> FittedPeople:
    return fit_keypoints(
        body,
        people.keypoints,
        people.known_camera,
        config=config,
        prior=prior,
        start=start,
        terms=cue_terms(people.cues, prior, spread=config.cue_spread),
    )


def _from_samples(body: BodyModel, people: People, settings: Settings, config: SecondChance) -> FittedPeople:
    """The flow's fit from the samples that explain the keypoints best; everyone has the same latents."""
    posterior = regress(people)
    placed = placed_mode(posterior, body, people)
    generator = torch.Generator().manual_seed(config.seed)
    latent = torch.randn(config.samples, 1, posterior.body.num_features, generator=generator)
    hands = torch.randn(config.samples, 1, 2, posterior.hands.num_features, generator=generator)
    samples = posterior.decode(
        latent.to(posterior.context).expand(-1, len(people), -1),
        hands.to(posterior.context).expand(-1, len(people), -1, -1),
    )
    candidates = place(samples, body, people.keypoints, people.known_camera)
    best = candidates.energy.topk(config.starts, dim=0, largest=False).indices
    starts = concatenate_records([placed.params[None], candidates.params[best, torch.arange(len(people))]])
    prior = flow_prior(posterior, body, people, placed)
    return _fit(body, people, settings(FLOW_FIT), prior, starts.map(lambda x: x.transpose(0, 1)))


def with_sides_exchanged(people: People, places: Sequence[str] | None) -> People:
    """The same people with the labels of left and right exchanged: of all keypoints, or of places by their words."""
    keypoints = people.keypoints
    definition = keypoints.definition
    order = torch.tensor(definition.flip, device=keypoints.positions.device)
    if places is not None:
        affected = [any(place.endswith(f"_{word}") for word in places) for place in definition.places]
        if places is ARMS:
            hands = {row for side in ("left_hand", "right_hand") for row in definition.groups[side]}
            affected = [there or row in hands for row, there in enumerate(affected)]
        own = torch.arange(len(order), device=order.device)
        order = torch.where(torch.tensor(affected, device=order.device), order, own)
    exchanged = replace(keypoints, positions=keypoints.positions[:, order], confidence=keypoints.confidence[:, order])
    return replace(people, keypoints=exchanged)


@torch.no_grad()
def objective(
    body: BodyModel, params: BodyParams, people: People, settings: Settings, config: SecondChance
) -> Float[Tensor, "person"]:
    """What all candidates are compared by: ½ Σ ω ρ(e/σ) of the body's keypoints, −log q(pose | keypoints), ½|β|².

    The keypoints of the face and the hands follow the head and the wrists, so those of the body decide.
    """
    params = params.to(dtype=body.dtype, device=body.device)
    targets = keypoint_targets(body, people.format).fitted()
    keypoints = people.keypoints.sanitized().to(dtype=body.dtype, device=body.device)
    camera = people.known_camera.to(dtype=body.dtype, device=body.device)
    posed = body.with_shape(params.betas, params.expression).with_pose(params.rotations, params.transl)
    confidence = keypoints.confidence[:, targets.keypoint]
    least = settings(FitConfig()).min_confidence
    weight = (
        torch.where(confidence >= least, confidence, 0.0) * targets.weight * (targets.group == GROUPS.index("body"))
    )
    box = keypoints.bounding_box(min_confidence=least)
    sigma = config.sigma_share * (box[:, 2:] - box[:, :2]).amax(-1).clamp_min(1.0) + 1.0
    error = (camera.project(posed.points(targets.points)) - keypoints.positions[:, targets.keypoint]).norm(dim=-1)
    value, _ = geman_mcclure((error / sigma[:, None]).square(), config.robust_scale)
    evidence = 0.5 * (weight * torch.where(weight > 0, value, 0.0)).sum(-1)
    posterior = regress(people)
    likelihood = posterior.log_prob(params.rotations[:, : len(BODY_JOINTS)].to(posterior.context))
    behind = torch.where(posed.joints[:, 0, 2] > 0, 0.0, torch.inf)
    return evidence - likelihood.to(evidence) + 0.5 * params.betas.square().sum(-1) + behind


def _rivals(
    candidates: Sequence[Candidate], energy: Float[Tensor, "candidate"], winner: int, row: int, config: SecondChance
) -> str:
    """Says so where another candidate, with another facing, explains the picture nearly as well."""
    facing = [candidate.fitted.params.rotations[row, 0, :, 2] for candidate in candidates]
    for other in energy.argsort().tolist():
        near = float(energy[other] - energy[winner]) < config.close
        if other != winner and near and float(facing[other] @ facing[winner]) < 0.0:
            return "a pose that faces the other way explains the picture nearly as well"
    return ""
