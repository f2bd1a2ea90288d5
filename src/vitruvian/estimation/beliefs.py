"""What a fit of some people believes before it starts: pose prior, start, and the settings made for both."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.bodies.skeletons import Skeleton
from vitruvian.errors import InputError
from vitruvian.estimation.regress import FLOW_FIT, IN_VIEWS, flow_prior, placed_mode, regress
from vitruvian.fitting.config import FitConfig
from vitruvian.fitting.parts import BodyPrior, body_prior
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.people import People
from vitruvian.priors.joint_limits import JointLimits
from vitruvian.priors.vposer import BODY_POSE_JOINTS, VPoser
from vitruvian.priors.vposer_space import VPoserSpace
from vitruvian.recovery.estimates import knows_poses
from vitruvian.recovery.posterior import BodyPosterior

FLOW = "flow"
VPOSER = "vposer"
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


@dataclass(frozen=True, eq=False)
class PriorChoice:
    """A pose prior by name, and what is believed besides.

    Attributes:
        name: `flow`, `vposer`, `mixture`, `hand-set`, `bending` or `none`; None is `default_prior` of the body.
        vposer: network of the prior `vposer`, in place of the one in the package; see `read_published_vposer`.
        limits: whether the range of motion of every joint is a prior too.

    Raises:
        InputError: a network for another prior, or of other joints than the 21 of the body.
    """

    name: str | None = None
    vposer: VPoser | None = None
    limits: bool = False

    def __post_init__(self) -> None:
        if self.vposer is None:
            return
        if self.name != VPOSER:
            raise InputError(
                "the weights of a VPoser are for the prior vposer", seen=self.name or FLOW, hint="--prior vposer"
            )
        joints = self.vposer.settings.num_joints
        if joints != len(BODY_POSE_JOINTS):
            raise InputError("the VPoser is of another skeleton", seen=f"{joints} joints", expected="21")

    def extended(self, belief: Belief, skeleton: Skeleton) -> Belief:
        """The belief, with the limits where they are wanted, and a name that says so."""
        name = belief.name if self.vposer is None else f"{belief.name}, weights given"
        if not self.limits or belief.prior is None:
            return replace(belief, name=name)
        return replace(belief, name=f"{name}, joint limits", prior=with_limits(belief.prior, skeleton))


def with_limits(prior: BodyPrior, skeleton: Skeleton) -> BodyPrior:
    """The prior, and the range of motion of every joint but the root (`JointLimits`), also while starts compete."""
    limits = (*prior.extra, JointLimits.learnt(skeleton, names=skeleton.names[1:]))
    search = None if prior.search is None else with_limits(prior.search, skeleton)
    return replace(prior, extra=limits, search=search)


def default_prior(body: BodyModel) -> str:
    """The prior by name that suits a body: the flow for whole bodies, the hand-set one for hands and heads alone."""
    return FLOW if knows_poses(body) else PORTRAIT_PRIOR


def belief_by_name(prior: str | PriorChoice, body: BodyModel, people: People, *, views: bool = False) -> Belief:
    """The belief of a prior by name; `flow` regresses the distribution of these very people.

    Args:
        prior: its name, or a choice with what is believed besides.
        people: everyone who is fitted under it.
        views: all are views of one person.

    Raises:
        InputError: no prior of that name, or `flow` for a body without the joints that it knows.
        WeightsError: the installation lacks the weights.
    """
    choice = prior if isinstance(prior, PriorChoice) else PriorChoice(prior)
    name = choice.name or default_prior(body)
    if name == FLOW:
        _require_whole_body(body)
        belief = belief_of_posterior(regress(people), body, people, views=views)
    else:
        of_body = body_prior(name, body.skeleton)
        if choice.vposer is not None:
            of_body = replace(of_body, space=VPoserSpace(choice.vposer))
        belief = Belief(name, of_body, None, FitConfig())
    return choice.extended(belief, body.skeleton)


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
    prior: BodyPrior | PriorChoice | str | None = None,
    start: BodyPosterior | BodyParams | None = None,
    min_confidence: float = FitConfig().min_confidence,
) -> list[Believed]:
    """Under which belief each person is fitted; every person is in exactly one group.

    The default is the flow, which learnt from motion capture. Where head and shoulders are all that is seen of a
    person, it would guess somebody about to move; such portraits are fitted under the hand-set prior, arms hanging.

    Args:
        body: the body that is fitted.
        people: all of them.
        prior: a belief about body poses, its name, or a choice of one; `default_prior` of the body if None.
        start: what `regress` made of the same people, which is then prior and start; or parameters to start from.
        min_confidence: keypoints below it count as unseen.

    Raises:
        InputError: a start and a prior that exclude each other, an unknown name, or a body unknown to the prior.
    """
    everyone = torch.arange(len(people))
    if isinstance(prior, BodyPrior):
        if isinstance(start, BodyPosterior):
            raise _two_priors(prior.name)
        return [Believed(everyone, Belief(prior.name, prior, start, FitConfig()))]
    choice = prior if isinstance(prior, PriorChoice) else PriorChoice(prior)
    if choice.name is None:
        choice = replace(choice, name=default_prior(body))
    if isinstance(start, BodyPosterior):
        if choice.name != FLOW:
            raise _two_priors(str(choice.name))
        return [Believed(everyone, choice.extended(belief_of_posterior(start, body, people), body.skeleton))]
    if choice.name != FLOW or start is not None:
        belief = belief_by_name(choice, body, people)
        return [Believed(everyone, replace(belief, start=belief.start if start is None else start))]
    _require_whole_body(body)
    alone = portraits(people.keypoints, min_confidence=min_confidence)
    groups = []
    for rows, name, suffix in ((~alone, FLOW, ""), (alone, PORTRAIT_PRIOR, ", for a portrait")):
        chosen = rows.nonzero()[:, 0]
        if len(chosen) or (name == FLOW and not len(people)):
            belief = belief_by_name(replace(choice, name=name), body, people[chosen])
            groups.append(Believed(chosen, replace(belief, name=f"{belief.name}{suffix}")))
    return groups


def _two_priors(name: str) -> InputError:
    return InputError(
        "a distribution to start from is the prior too",
        seen=f"prior {name}",
        hint="leave out prior, or start from parameters: start=fits.params",
    )


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
    if not knows_poses(body):
        raise InputError(
            "the flow knows the poses of whole bodies only",
            seen=f"{body.family}, {body.num_joints} joints",
            expected="the 22 body joints of SMPL-X",
            hint="choose the prior hand-set, or none by name",
        )
