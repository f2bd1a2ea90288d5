"""What a fit of some people believes before it starts: pose prior, start, and the settings made for both."""

from dataclasses import dataclass

from vitruvian.apps.regress import FLOW_FIT, flow_prior, flow_start, regress
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.bodies.skeletons import BODY_JOINTS, SMPLX
from vitruvian.errors import InputError
from vitruvian.fitting.config import FitConfig
from vitruvian.fitting.parts import BodyPrior, body_prior
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.observations import Keypoints
from vitruvian.recovery.posterior import BodyPosterior


@dataclass(frozen=True, eq=False)
class Belief:
    """A prior, where fits start (None: poses of a bank), and the settings that suit them."""

    prior: BodyPrior | None
    start: BodyParams | None
    config: FitConfig


def belief_by_name(name: str, body: BodyModel, keypoints: Keypoints, camera: Camera) -> Belief:
    """The belief of a prior by name; `flow` regresses the distribution of these very people.

    Args:
        keypoints: `(N, K)`.
        camera: one per person.

    Raises:
        InputError: no prior of that name, or `flow` for a body without the joints that it knows.
        WeightsError: the installation lacks the weights.
    """
    if name != "flow":
        return Belief(body_prior(name, body.skeleton), None, FitConfig())
    return belief_of_posterior(regress(keypoints, camera), body, keypoints, camera)


def belief_of_posterior(posterior: BodyPosterior, body: BodyModel, keypoints: Keypoints, camera: Camera) -> Belief:
    """Start at the mode of the distribution and stay in its latent space."""
    if body.skeleton.names[: len(BODY_JOINTS)] != BODY_JOINTS:
        raise InputError(
            "the flow knows the poses of whole bodies only", seen=body.family, hint="choose another prior: hand-set"
        )
    hands = body.skeleton.names == SMPLX.names
    start = flow_start(posterior, body, keypoints, camera)
    return Belief(flow_prior(posterior, hands=hands), start, FLOW_FIT)
