"""What a fit of some people believes before it starts: pose prior, start, and the settings made for both."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.bodies.skeletons import BODY_JOINTS, SMPLX
from vitruvian.errors import InputError
from vitruvian.estimation.regress import FLOW_FIT, IN_VIEWS, flow_prior, placed_mode, regress
from vitruvian.fitting.config import FitConfig
from vitruvian.fitting.parts import BodyPrior, body_prior
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.people import People
from vitruvian.recovery.posterior import BodyPosterior

FLOW = "flow"
PORTRAIT_PRIOR = "hand-set"
BELOW_THE_CHEST = ("elbow", "wrist", "hip", "knee", "ankle")


@dataclass(frozen=True, eq=False)
class Belief:
    """A prior, where fits start (None: poses of a bank), the settings that suit them, and what to call it."""

    name: str
    prior: BodyPrior | None
    start: BodyParams | None
    config: FitConfig


@dataclass(frozen=True, eq=False)
class Believed:
    """Some of the people, and the belief under which they are fitted."""

    rows: Int[Tensor, "row"]
    belief: Belief


def knows_whole_bodies(body: BodyModel) -> bool:
    """Whether the flow can speak of this body: it has the 55 joints of SMPL-X."""
    return body.skeleton.names == SMPLX.names


def belief_by_name(name: str, body: BodyModel, people: People, *, views: bool = False) -> Belief:
    """The belief of a prior by name; `flow` regresses the distribution of these very people.

    Args:
        people: everyone who is fitted under it.
        views: all are views of one person.

    Raises:
        InputError: no prior of that name, or `flow` for a body without the joints that it knows.
        WeightsError: the installation lacks the weights.
    """
    if name != FLOW:
        return Belief(name, body_prior(name, body.skeleton), None, FitConfig())
    _require_whole_body(body)
    return belief_of_posterior(regress(people), body, people, views=views)


def belief_of_posterior(posterior: BodyPosterior, body: BodyModel, people: People, *, views: bool = False) -> Belief:
    """Start at the mode of the distribution and stay in its latent space.

    Raises:
        InputError: a body without the joints that the distribution speaks of, or another number of people.
    """
    _require_whole_body(body)
    if len(posterior) != len(people):
        raise InputError("the distribution is that of other people", seen=len(posterior), expected=len(people))
    placed = placed_mode(posterior, body, people)
    prior = flow_prior(posterior, body, people, placed, strength=IN_VIEWS if views else None)
    return Belief(FLOW, prior, placed.params, FLOW_FIT)


def assign_beliefs(
    body: BodyModel,
    people: People,
    *,
    prior: BodyPrior | str | None = None,
    start: BodyPosterior | BodyParams | None = None,
    min_confidence: float = FitConfig().min_confidence,
) -> list[Believed]:
    """Under which belief each person is fitted; every person is in exactly one group.

    The default is the flow, which learnt from motion capture. Where head and shoulders are all that is seen of a
    person, it would guess somebody about to move; such portraits are fitted under the hand-set prior, arms hanging.

    Args:
        body: the body that is fitted.
        people: all of them.
        prior: a belief about body poses, or its name; the flow if None.
        start: what `regress` made of the same people, which is then prior and start; or parameters to start from.
        min_confidence: keypoints below it count as unseen.

    Raises:
        InputError: a start and a prior that exclude each other, an unknown name, or a body unknown to the prior.
    """
    everyone = torch.arange(len(people))
    if isinstance(start, BodyPosterior):
        if prior is not None and prior != FLOW:
            raise InputError(
                "a distribution to start from is the prior too",
                seen=f"prior {prior if isinstance(prior, str) else prior.name}",
                hint="leave out prior, or start from parameters: start=fits.params",
            )
        return [Believed(everyone, belief_of_posterior(start, body, people))]
    if isinstance(prior, BodyPrior):
        return [Believed(everyone, Belief(prior.name, prior, start, FitConfig()))]
    if prior not in (None, FLOW) or start is not None:
        belief = belief_by_name(prior or FLOW, body, people)
        return [Believed(everyone, replace(belief, start=belief.start if start is None else start))]
    _require_whole_body(body)
    alone = portraits(people.keypoints, min_confidence=min_confidence)
    groups = []
    for rows, name in ((~alone, FLOW), (alone, PORTRAIT_PRIOR)):
        chosen = rows.nonzero()[:, 0]
        if len(chosen) or (name == FLOW and not len(people)):
            belief = belief_by_name(name, body, people[chosen])
            groups.append(Believed(chosen, replace(belief, name=name if name == FLOW else f"{name}, for a portrait")))
    return groups


def portraits(keypoints: Keypoints, *, min_confidence: float) -> Bool[Tensor, "person"]:
    """People of whom no elbow, wrist, hip, knee or ankle is seen, but a shoulder or the face is."""
    return _none_seen(keypoints, BELOW_THE_CHEST, min_confidence)


def _none_seen(keypoints: Keypoints, places: Sequence[str], min_confidence: float) -> Bool[Tensor, "person"]:
    """People of whom something is seen, but none of these places on either side."""
    found = (keypoints.definition.find(f"{side}_{place}") for side in ("left", "right") for place in places)
    rows = [row for row in found if row is not None]
    sure = keypoints.sanitized().confidence >= max(min_confidence, 1e-6)
    return sure.any(-1) & ~sure[:, rows].any(-1)


def _require_whole_body(body: BodyModel) -> None:
    if body.skeleton.names[: len(BODY_JOINTS)] != BODY_JOINTS or not knows_whole_bodies(body):
        raise InputError(
            "the flow knows the poses of whole bodies only",
            seen=f"{body.family}, {body.num_joints} joints",
            expected="the 55 joints of SMPL-X",
            hint="choose another prior: vposer, mixture or hand-set",
        )
