"""From keypoints of people to the distribution of their poses, and from there to a start and a prior for fitting."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.bodies.skeletons import SMPLX
from vitruvian.estimation.arguments import PeopleLike, as_people
from vitruvian.fitting.fit import FitConfig
from vitruvian.fitting.parts import BodyPrior, ShapeBelief
from vitruvian.fitting.stages import Stage
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.observations import EVIDENCE_CONFIDENCE
from vitruvian.keypoints.people import People
from vitruvian.recovery.estimates import PlacedPoses, knows_shape, place
from vitruvian.recovery.network import PoseNetwork
from vitruvian.recovery.posterior import BodyPosterior, infer
from vitruvian.recovery.weights import pose_network
from vitruvian.tensors import concatenate_records, filled_up

FLOW_FIT = FitConfig(
    schedule=(
        Stage("limbs", robust_scale=6.0, iterations=8),
        Stage("full", robust_scale=3.0, hand_keypoints=1.0, face_keypoints=1.0, iterations=15),
    ),
    sigma_share=0.006,
    hip_weight=0.5,
    shoulder_weight=0.7,
    upright_seen=0.0,
    upright_hidden=0.0,
)
"""Settings of a fit that starts at the mode of the flow and stays in its latent space.

Nothing here knows which way is up in the picture: turning it about the optical axis turns the fit.

The start is near, so two stages suffice, and keypoints far from it are wrong: the robust scale is small. Where hips and
shoulders are differs between detectors, and the flow has learnt by how much. Chosen on the validation subjects.
"""


@dataclass(frozen=True)
class PriorStrength:
    """How strongly a fit holds the latent of the flow: its residual is strength · seen^(−power) · misfit / usual · z.

    The flow has read the keypoints already. The fewer were seen, and the worse the mode explains them (they are then
    noisy), the less can a fit better what it made of them; with an even strength, people with missing limbs or noisy
    keypoints came out worse than the mode. Chosen on the validation subjects, a little weaker than what was best there:
    the synthetic detector places its points less surely than a known one does.

    Attributes:
        strength: factor for people of whom everything is seen, with usual misfit.
        power: of the share of body keypoints that were seen.
        usual_misfit: reprojection error of the mode as a share of the person's size in the picture.
        range: limits of misfit / usual.
        shape: factor on the distance of the shape from the estimate, in standard deviations.
    """

    strength: float = 1.7
    power: float = 0.4
    usual_misfit: float = 0.02
    range: tuple[float, float] = (0.5, 3.0)
    shape: float = 1.5

    def __call__(self, seen: Float[Tensor, "person"], misfit: Float[Tensor, "person"]) -> Float[Tensor, "person"]:
        relative = torch.nan_to_num(misfit / self.usual_misfit, nan=self.range[1]).clamp(*self.range)
        return self.strength * seen.clamp_min(_LEAST_SEEN) ** -self.power * relative


_LEAST_SEEN = 0.12
IN_VIEWS = PriorStrength(strength=0.7, power=0.6, range=(1.0, 1.0), shape=0.5)
"""For several views of one person, who know more together than the flow of any one of them.

Chosen on 8 people of the bank in 4 views with noise of 2 and 6 px: PA-MPJPE 5.8 and 10.0 mm, 8.3 and 10.8 with twice
the strength.
"""


def regress(
    people: PeopleLike,
    camera: Camera | None = None,
    *,
    network: PoseNetwork | None = None,
    gravity: Float[Tensor, "person 3"] | None = None,
    min_confidence: float = EVIDENCE_CONFIDENCE,
) -> BodyPosterior:
    """Distribution of the poses of everyone, from their keypoints alone.

    Args:
        people: what `detect` or `read_keypoints` returned, or `(person, K)` keypoints in any registered format.
        camera: one for all, or one per person; None takes the cameras that the people have.
        network: in place of the shipped one.
        gravity: direction of gravity in the camera frame, one row per person, where known; zeros mean: not known.
            Without it, a picture turned about its optical axis gives the same people turned.
        min_confidence: keypoints of lower confidence change nothing.

    Raises:
        InputError: no camera and no image size, or cameras that do not match the people.
        WeightsError: the installation lacks the trained network.
    """
    seen = as_people(people, camera)
    network = network or pose_network()
    dtype = next(network.parameters()).dtype
    keypoints, cameras = seen.keypoints.map(filled_up), seen.known_camera.map(filled_up)
    posterior = infer(
        network,
        keypoints.to(dtype=dtype),
        cameras.to(dtype=dtype),
        gravity=None if gravity is None else filled_up(gravity.to(dtype=dtype)),
        min_confidence=min_confidence,
    )
    return posterior[: len(seen)]


def placed_mode(posterior: BodyPosterior, body: BodyModel, people: People) -> PlacedPoses:
    """The mode of each person, moved to where it explains the keypoints best: where a fit starts."""
    least = posterior.min_confidence
    return place(posterior.mode(), body, people.keypoints, people.known_camera, min_confidence=least)


@torch.no_grad()
def flow_prior(
    posterior: BodyPosterior,
    body: BodyModel,
    people: People,
    placed: PlacedPoses,
    *,
    strength: PriorStrength | None = None,
) -> BodyPrior:
    """The posterior as the prior of a fit, row i for person i: |z|² in the latent of the flow (ProHMR, eq. 8).

    Args:
        posterior: the distributions.
        body: the body that is fitted; on that of the network, the estimated shape is a prior too, and on SMPL-X's tree
            the hands are fitted in the latent of their flow.
        people: who will be fitted.
        placed: their modes, see `placed_mode`.
        strength: how strongly the latent is held.
    """
    strength = strength or PriorStrength()
    box = people.keypoints.evidence(posterior.min_confidence).bounding_box()
    size = (box[:, 2:] - box[:, :2]).amax(-1).clamp_min(1.0)
    factor = strength(posterior.seen, placed.reprojection_px / size)
    shape = ShapeBelief(posterior.betas, posterior.network.shape_std / strength.shape) if knows_shape(body) else None
    hands = body.skeleton.names == SMPLX.names
    spaces = (posterior.hand_pose_space("left"), posterior.hand_pose_space("right")) if hands else ()
    return BodyPrior("flow", posterior.pose_space(strength=factor), hands=spaces, shape=shape)


@torch.no_grad()
def best_of_samples(
    posterior: BodyPosterior,
    body: BodyModel,
    people: People,
    *,
    num_samples: int,
    generator: torch.Generator | None = None,
) -> BodyParams:
    """The pose among the mode and some samples that explains the keypoints of each person best; `(person, ...)`."""
    placed = placed_mode(posterior, body, people)
    drawn = posterior.sample(num_samples, generator=generator)
    least = posterior.min_confidence
    samples = place(drawn, body, people.keypoints, people.known_camera, min_confidence=least)
    energy = torch.cat((placed.energy[None], samples.energy))
    together = concatenate_records([placed.params[None], samples.params])
    rows = torch.arange(energy.shape[1])
    return together[energy.argmin(0), rows]


__all__ = [
    "FLOW_FIT",
    "IN_VIEWS",
    "PriorStrength",
    "best_of_samples",
    "flow_prior",
    "placed_mode",
    "regress",
]
