"""From keypoints of people to the distribution of their poses, and from there to a start and a prior for fitting."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.errors import InputError
from vitruvian.fitting.fit import FitConfig
from vitruvian.fitting.parts import BodyPrior, ShapeBelief
from vitruvian.fitting.stages import Stage
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.observations import Keypoints, PeopleInImage
from vitruvian.recovery.estimates import PlacedPoses, knows_shape, place
from vitruvian.recovery.network import PoseNetwork
from vitruvian.recovery.posterior import BodyPosterior, PoseSamples, infer
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
)
"""Settings of a fit that starts at the mode of the flow and stays in its latent space.

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
    people: Keypoints | PeopleInImage | Sequence[PeopleInImage],
    camera: Camera | None = None,
    *,
    network: PoseNetwork | None = None,
) -> BodyPosterior:
    """Distribution of the poses of everyone, from their keypoints alone.

    Args:
        people: `(person, K)` keypoints in any registered format, or the people of one or several pictures.
        camera: one for all, or one per person; None takes the image size that `people` know, with a focal length of the
            image diagonal unless they know that too.
        network: in place of the shipped one.

    Raises:
        InputError: no camera and no image size, or cameras that do not match the people.
        WeightsError: the installation lacks the trained network.
    """
    keypoints, camera = people_and_cameras(people, camera)
    network = network or pose_network()
    dtype = next(network.parameters()).dtype
    filled = infer(network, keypoints.map(filled_up).to(dtype=dtype), camera.map(filled_up).to(dtype=dtype))
    return filled[: len(keypoints.confidence)]


def people_and_cameras(
    people: Keypoints | PeopleInImage | Sequence[PeopleInImage], camera: Camera | None
) -> tuple[Keypoints, Camera]:
    """All people with a camera each."""
    if isinstance(people, PeopleInImage):
        people = [people]
    if not isinstance(people, Keypoints):
        if not people:
            raise InputError("no pictures given")
        if camera is None:
            camera = concatenate_records([_camera_of(picture) for picture in people])
        widest = people[0].keypoints.format
        people = concatenate_records([picture.keypoints.to_format(widest) for picture in people])
    if people.confidence.dim() == 1:
        people = people[None]
    count = people.confidence.shape[0]
    if camera is None:
        raise InputError(
            "the size of the picture is not known", expected="a camera", hint="Camera.from_image_size(width, height)"
        )
    if camera.focal_px.dim() == 1:
        camera = repeated(camera, count)
    if camera.focal_px.shape[0] != count:
        raise InputError("one camera per person is needed", seen=camera.focal_px.shape[0], expected=count)
    return people, camera


def repeated(camera: Camera, count: int) -> Camera:
    """One camera for each of `count` people."""
    return camera.map(lambda x: x.expand(count, -1))


def _camera_of(picture: PeopleInImage) -> Camera:
    if picture.image_size is None:
        raise InputError("the size of the picture is not known", seen=picture.image, expected="width and height")
    return repeated(Camera.from_image_size(*picture.image_size, focal_px=picture.focal_px), len(picture))


@torch.no_grad()
def flow_prior(
    posterior: BodyPosterior,
    body: BodyModel,
    keypoints: Keypoints,
    camera: Camera,
    *,
    hands: bool = True,
    strength: PriorStrength | None = None,
) -> BodyPrior:
    """The posterior as the prior of a fit, row i for person i: |z|² in the latent of the flow (ProHMR, eq. 8).

    Args:
        posterior: the distributions.
        body: the body that is fitted; on that of the network, the estimated shape is a prior too.
        keypoints, camera: what will be fitted.
        hands: also fit the hands in the latent of their flow.
        strength: how strongly the latent is held.
    """
    strength = strength or PriorStrength()
    keypoints, camera = people_and_cameras(keypoints, camera)
    placed = place(posterior.mode(), body, keypoints, camera)
    box = keypoints.sanitized().bounding_box()
    size = (box[:, 2:] - box[:, :2]).amax(-1).clamp_min(1.0)
    factor = strength(posterior.seen, placed.reprojection_px / size)
    shape = ShapeBelief(posterior.betas, posterior.network.shape_std / strength.shape) if knows_shape(body) else None
    spaces = (posterior.hand_pose_space("left"), posterior.hand_pose_space("right")) if hands else ()
    return BodyPrior("flow", posterior.pose_space(strength=factor), hands=spaces, shape=shape)


@torch.no_grad()
def flow_start(
    posterior: BodyPosterior,
    body: BodyModel,
    keypoints: Keypoints,
    camera: Camera,
    *,
    num_samples: int = 0,
    generator: torch.Generator | None = None,
) -> BodyParams:
    """Where a fit starts: the mode, moved to where it explains the keypoints best; `(person, ...)`.

    With `num_samples`, the pose among the mode and that many samples that explains the keypoints best.
    """
    keypoints, camera = people_and_cameras(keypoints, camera)
    placed = place(posterior.mode(), body, keypoints, camera)
    if num_samples == 0:
        return placed.params
    samples = place(posterior.sample(num_samples, generator=generator), body, keypoints, camera)
    energy = torch.cat((placed.energy[None], samples.energy))
    together = concatenate_records([placed.params[None], samples.params])
    people = torch.arange(energy.shape[1])
    return together[energy.argmin(0), people]


__all__ = [
    "FLOW_FIT",
    "IN_VIEWS",
    "BodyPosterior",
    "PlacedPoses",
    "PoseSamples",
    "PriorStrength",
    "flow_prior",
    "flow_start",
    "people_and_cameras",
    "regress",
    "repeated",
]
