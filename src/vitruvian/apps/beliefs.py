"""What a fit of some people believes before it starts: pose prior, start, and the settings made for both."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from vitruvian.apps.regress import FLOW_FIT, IN_VIEWS, flow_prior, flow_start, regress
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.bodies.skeletons import BODY_JOINTS, SMPLX
from vitruvian.data.pose_selection import LEG
from vitruvian.errors import InputError
from vitruvian.fitting.config import FitConfig
from vitruvian.fitting.fit import fit_keypoints
from vitruvian.fitting.fitter import FittedPeople
from vitruvian.fitting.parts import BodyPrior, body_prior
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.observations import EVIDENCE_CONFIDENCE, Keypoints
from vitruvian.recovery.posterior import BodyPosterior
from vitruvian.tensors import put_rows

BELOW_THE_CHEST = ("elbow", "wrist", "hip", "knee", "ankle")
LEGS = ("knee", "ankle", "heel", "big_toe", "small_toe")


@dataclass(frozen=True, eq=False)
class Belief:
    """A prior, where fits start (None: poses of a bank), and the settings that suit them."""

    prior: BodyPrior | None
    start: BodyParams | None
    config: FitConfig


def belief_by_name(
    name: str,
    body: BodyModel,
    keypoints: Keypoints,
    camera: Camera,
    *,
    views: bool = False,
    min_confidence: float = EVIDENCE_CONFIDENCE,
) -> Belief:
    """The belief of a prior by name; `flow` regresses the distribution of these very people.

    Args:
        keypoints: `(N, K)`.
        camera: one per person.
        views: all are views of one person.
        min_confidence: least confidence of keypoints that count.

    Raises:
        InputError: no prior of that name, or `flow` for a body without the joints that it knows.
        WeightsError: the installation lacks the weights.
    """
    if name != "flow":
        return Belief(body_prior(name, body.skeleton), None, FitConfig())
    posterior = regress(keypoints, camera, min_confidence=min_confidence)
    return belief_of_posterior(posterior, body, keypoints, camera, views=views)


def belief_of_posterior(
    posterior: BodyPosterior, body: BodyModel, keypoints: Keypoints, camera: Camera, *, views: bool = False
) -> Belief:
    """Start at the mode of the distribution and stay in its latent space."""
    if body.skeleton.names[: len(BODY_JOINTS)] != BODY_JOINTS:
        raise InputError(
            "the flow knows the poses of whole bodies only", seen=body.family, hint="choose another prior: hand-set"
        )
    hands = body.skeleton.names == SMPLX.names
    start = flow_start(posterior, body, keypoints, camera)
    strength = IN_VIEWS if views else None
    return Belief(flow_prior(posterior, body, keypoints, camera, hands=hands, strength=strength), start, FLOW_FIT)


def refit_portraits(
    fitted: FittedPeople, body: BodyModel, keypoints: Keypoints, camera: Camera, config: FitConfig
) -> FittedPeople:
    """Fit people of whom only head and shoulders are seen under the hand-set prior: arms hang, legs stand.

    The flow, which learnt from motion capture, guesses the unseen rest of a portrait as a person about to move.
    """
    rows = portraits(keypoints, min_confidence=config.min_confidence).nonzero()[:, 0]
    if len(rows) == 0:
        return fitted
    settings = replace(FitConfig(), min_confidence=config.min_confidence, solver=config.solver)
    prior = body_prior("hand-set", body.skeleton)
    again = fit_keypoints(body, keypoints[rows], camera[rows], config=settings, prior=prior)
    return put_rows(fitted, rows, again)


def stand_on_unseen_legs(
    fitted: FittedPeople, body: BodyModel, keypoints: Keypoints, *, min_confidence: float
) -> FittedPeople:
    """Straighten the legs of people of whom no knee, ankle or foot is seen, who may then stand.

    The flow finds the bent legs of somebody about to move most likely there, which nothing in the picture says.
    """
    rows = _none_seen(keypoints, LEGS, min_confidence).nonzero()[:, 0]
    if len(rows) == 0 or body.skeleton.names[: len(BODY_JOINTS)] != BODY_JOINTS:
        return fitted
    legs = [row for row, name in enumerate(BODY_JOINTS) if any(part in name for part in LEG)]
    rotations = fitted.params.rotations.clone()
    rotations[rows[:, None], torch.tensor(legs, device=rows.device)] = torch.eye(3).to(rotations)
    return replace(fitted, params=replace(fitted.params, rotations=rotations))


def portraits(keypoints: Keypoints, *, min_confidence: float) -> Bool[Tensor, "person"]:
    """People of whom no elbow, wrist, hip, knee or ankle is seen, but a shoulder or the face is."""
    return _none_seen(keypoints, BELOW_THE_CHEST, min_confidence)


def _none_seen(keypoints: Keypoints, places: Sequence[str], min_confidence: float) -> Bool[Tensor, "person"]:
    """People of whom something is seen, but none of these places on either side."""
    found = (keypoints.definition.find(f"{side}_{place}") for side in ("left", "right") for place in places)
    rows = [row for row in found if row is not None]
    sure = keypoints.evidence(min_confidence).seen
    return sure.any(-1) & ~sure[:, rows].any(-1)
