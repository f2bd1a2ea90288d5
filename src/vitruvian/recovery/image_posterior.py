"""The distribution of poses of each person given their crop of a photograph, on any body with the 22 body joints."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.bodies.skeletons import BODY_JOINTS, SMPL
from vitruvian.errors import InputError, ShapeError
from vitruvian.flows import FlowDistribution
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.crops import Crop, crop_of_box, crop_pixels, normalized_pixels
from vitruvian.keypoints.images import Photograph
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.targets import keypoint_targets
from vitruvian.priors.pose_spaces import PoseEvaluation
from vitruvian.recovery.crop_view import CropView, view_of_crop
from vitruvian.recovery.encoders.protocol import IMAGENET_MEAN, IMAGENET_STD
from vitruvian.recovery.estimates import PlacedPoses, Weighting, solve_translation
from vitruvian.recovery.image_network import ImageNetwork
from vitruvian.recovery.posterior import PoseSamples
from vitruvian.tensors import BatchRecord, resized, shared

NUM_BODY = len(BODY_JOINTS)


@dataclass(frozen=True, eq=False)
class ImagePosterior(BatchRecord):
    """Poses of a batch of people given the crop of each; the methods are those of `BodyPosterior`.

    Density is that of the network's coordinates: for published networks the six numbers a joint of 24 joints. Joints
    that the body lacks (SMPL's hands) are left out; those that it has besides (fingers, jaw) are at rest.

    Attributes:
        network: shared by all people.
        model: the body that poses are made for.
        context: of the flow.
        crop_view: camera of each crop.
        betas: point estimates; they mean something on the body of the network alone.
        base: base pose in the crop's camera frame; None where the coordinates need none.
        pelvis: estimated position in the camera frame, metres.
        seen: share of the body keypoints that were seen.
    """

    context: Float[Tensor, "batch context"]
    crop_view: CropView
    betas: Float[Tensor, "batch shape"]
    base: Float[Tensor, "batch joint 3 3"] | None
    pelvis: Float[Tensor, "batch 3"]
    seen: Float[Tensor, "batch"]
    network: ImageNetwork = shared()
    model: BodyModel = shared()

    def __len__(self) -> int:
        return self.context.shape[0]

    @cached_property
    def body(self) -> FlowDistribution:
        """Distribution of the coordinates of the pose."""
        return self.network.flow(self.context)

    @property
    def entropy(self) -> Float[Tensor, "batch"]:
        """Entropy of the pose in nats; with published networks the same for every picture."""
        return self.body.entropy

    @property
    def num_kept(self) -> int:
        """Leading joints of the network that the body has: 24 on SMPL, else 22."""
        names = SMPL.names[: self.network.config.num_joints]
        return len(names) if self.model.skeleton.names[: len(names)] == names else NUM_BODY

    def knows_shape(self, body: BodyModel) -> bool:
        """Whether the network's shape coefficients are those of this body."""
        return body.family == self.network.config.body and body.gender == "neutral"

    def mode(self) -> PoseSamples:
        """The most likely pose of each person, exactly: z = 0."""
        return self.decode(self.context.new_zeros(len(self), self.body.num_features))

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> PoseSamples:
        """Independent poses and shapes; fields are `(num_samples, batch, …)`."""
        latent = self.body.sample_latent(num_samples, generator=generator)
        noise = self.betas.new_empty(num_samples, *self.betas.shape).normal_(generator=generator)
        return self.decode(latent, betas=self.betas + self.network.shape_std * noise)

    @torch.no_grad()
    def decode(
        self,
        latent: Float[Tensor, "*sample batch D"],
        *,
        betas: Float[Tensor, "*sample batch shape"] | None = None,
    ) -> PoseSamples:
        """Poses of given latents, with the estimated shapes unless others are given, on the joints of the body."""
        rotations = self.rotations(self.body.from_latent(latent))
        lead, missing = latent.shape[:-1], self.model.num_joints - rotations.shape[-3]
        rest = torch.eye(3, dtype=rotations.dtype, device=rotations.device).expand(*lead, missing, 3, 3)
        return PoseSamples(
            rotations=torch.cat((rotations, rest), dim=-3),
            betas=(self.betas if betas is None else betas).expand(*lead, -1),
            expression=latent.new_zeros(*lead, 0),
            pelvis=self.pelvis.expand(*lead, 3),
            latent=latent,
            hand_latent=latent.new_zeros(*lead, 2, 0),
            log_prob=self.body.log_prob_of_latent(latent),
            log_prob_hands=latent.new_zeros(*lead, 2),
            log_prob_shape=self.log_prob_of_shape(self.betas if betas is None else betas).expand(lead),
        )

    def log_prob_of_shape(self, betas: Float[Tensor, "*sample batch shape"]) -> Float[Tensor, "*sample batch"]:
        """Log-density of shapes about the estimate, nats, over standard deviations of people."""
        spread = self.network.shape_std.to(betas)
        return torch.distributions.Normal(self.betas, spread, validate_args=False).log_prob(betas).sum(-1)

    def rotations(self, features: Float[Tensor, "*sample batch D"]) -> Float[Tensor, "*sample batch kept 3 3"]:
        """Local rotations of the joints that the body has, the root in the camera frame."""
        turned = self.network.coordinates.rotations(features, self.base)
        root = self.crop_view.R_camera_crop[:, None] @ turned[..., :1, :, :]
        return torch.cat((root, turned[..., 1 : self.num_kept, :, :]), dim=-3)

    @torch.no_grad()
    def log_prob(self, rotations: Float[Tensor, "*sample batch joint 3 3"]) -> Float[Tensor, "*sample batch"]:
        """Log-likelihood of poses by their leading local rotations, as many as the body shares with the network.

        Nats; joints of the network that the body lacks are taken from the mode.
        """
        if rotations.shape[-3] < self.num_kept or rotations.shape[-4:-3] != self.context.shape[:1]:
            raise ShapeError(
                "rotations do not match the people of the posterior",
                seen=tuple(rotations.shape),
                expected=f"(…, {len(self)}, {self.num_kept} or more, 3, 3)",
            )
        return self.body.log_prob(self.features(rotations))

    def features(self, rotations: Float[Tensor, "*sample batch joint 3 3"]) -> Float[Tensor, "*sample batch D"]:
        """Coordinates of poses of the body; joints that it lacks are taken from the mode."""
        coordinates, kept = self.network.coordinates, self.num_kept
        root = self.crop_view.R_camera_crop.transpose(-1, -2)[:, None] @ rotations[..., :1, :, :]
        parts = [root, rotations[..., 1:kept, :, :]]
        if kept < coordinates.num_joints:
            mode = coordinates.rotations(self.body.mode, self.base)[..., kept:, :, :]
            parts.append(mode.expand(*rotations.shape[:-3], -1, 3, 3))
        return coordinates.features(torch.cat(parts, dim=-3), self.base)

    def pose_space(self, *, strength: Float[Tensor, "batch"] | None = None) -> "ImagePoseSpace":
        """The latent space of the flow, for the solver: its unit Gaussian is the prior, times `strength`."""
        return ImagePoseSpace(self, strength=strength)

    def place(self, poses: PoseSamples, keypoints: Keypoints, camera: Camera) -> PlacedPoses:
        """Move poses to where they explain the keypoints best.

        Args:
            poses: `(*sample, batch)`.
            keypoints: `(batch, K)`, any registered format; those that the body has targets for count.
            camera: one per person.
        """
        body, weighting = self.model, Weighting()
        targets = keypoint_targets(body, keypoints.format)
        betas = resized(poses.betas, min(body.num_shape, poses.betas.shape[-1]))
        betas = betas if self.knows_shape(body) else torch.zeros_like(betas)
        shaped = body.with_shape(betas)
        posed = shaped.with_pose(poses.rotations, -shaped.joints[..., 0, :])
        places = posed.points(targets.points)
        lead, seen = places.shape[:-2], keypoints.sanitized()
        positions = seen.positions[:, targets.keypoint].expand(*lead, -1, -1)
        confidence = seen.confidence[:, targets.keypoint].expand(*lead, -1)
        camera = camera.map(lambda x: x.expand(*lead, x.shape[-1]))
        pelvis = solve_translation(places, positions, confidence, camera, poses.pelvis)
        error = (camera.project(places + pelvis[..., None, :]) - positions).norm(dim=-1)
        box = seen.bounding_box()
        size = (box[..., 2:] - box[..., :2]).amax(-1).clamp_min(1.0)
        relative = (error / (weighting.error_share * size)[..., None]).square()
        limited = relative / (1 + relative / weighting.robust**2)
        params = BodyParams(poses.rotations, betas, poses.expression, pelvis - shaped.joints[..., 0, :])
        total = confidence.sum(-1).clamp_min(1e-6)
        return PlacedPoses(params, (confidence * error).sum(-1) / total, 0.5 * (confidence * limited).sum(-1))


class ImagePoseSpace:
    """Rotations of a body as a latent of the flow of each person (ProHMR, eq. 8): R(z), with prior ½|z|².

    The global orientation is among them, in the camera frame. Row i of a state belongs to person i of the posterior.

    Args:
        posterior: the distributions.
        distribution: the flows of the same people, if at hand.
        strength: factor on the residual z of each person; one if None.
    """

    def __init__(
        self,
        posterior: ImagePosterior,
        distribution: FlowDistribution | None = None,
        *,
        strength: Float[Tensor, "person"] | None = None,
    ) -> None:
        self.posterior = posterior
        self._distribution = distribution or posterior.body
        self._strength = strength

    @property
    def joints(self) -> tuple[int, ...]:
        return tuple(range(self.posterior.num_kept))

    @property
    def num_parameters(self) -> int:
        return self._distribution.num_features

    def select(self, index: Int[Tensor, "kept"]) -> "ImagePoseSpace":
        """The space of some of the people; an index may repeat, to follow several hypotheses of one person."""
        strength = None if self._strength is None else self._strength[index]
        return ImagePoseSpace(self.posterior[index], self._distribution.select(index), strength=strength)

    def initial(self, batch: int, *, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "batch D"]:
        """The mode."""
        return torch.zeros(batch, self.num_parameters, dtype=dtype, device=device)

    def decode(self, state: Float[Tensor, "batch D"]) -> Float[Tensor, "batch k 3 3"]:
        return self.evaluate(state, with_jacobian=False).rotations

    def differential(self, state: Float[Tensor, "batch D"]) -> Float[Tensor, "batch three_k D"]:
        differential = self.evaluate(state).differential
        assert differential is not None
        return differential

    @torch.no_grad()
    def evaluate(self, state: Float[Tensor, "batch D"], *, with_jacobian: bool = True) -> PoseEvaluation:
        posterior = self.posterior
        if not with_jacobian:
            return PoseEvaluation(posterior.rotations(self._distribution.from_latent(state)), None)
        features, tangents = self._distribution.from_latent_with_differential(state)
        # Turning the camera acts from the left, so right perturbations stay as they are.
        differential = posterior.network.coordinates.differential(features, posterior.base, tangents)
        return PoseEvaluation(posterior.rotations(features), differential[:, : 3 * posterior.num_kept])

    def retract(self, state: Float[Tensor, "batch D"], step: Float[Tensor, "batch D"]) -> Float[Tensor, "batch D"]:
        return state + step

    @torch.no_grad()
    def encode(self, rotations: Float[Tensor, "batch k 3 3"]) -> Float[Tensor, "batch D"]:
        """Latent of the given rotations; exact, since the flow is invertible."""
        return self._distribution.to_latent(self.posterior.features(rotations))

    def residual(self, state: Float[Tensor, "batch D"]) -> Float[Tensor, "batch D"]:
        return state if self._strength is None else self._strength[:, None] * state

    def residual_jacobian(self, state: Float[Tensor, "batch D"]) -> Float[Tensor, "batch D D"]:
        identity = torch.eye(self.num_parameters, dtype=state.dtype, device=state.device)
        if self._strength is not None:
            return self._strength[:, None, None] * identity
        return identity.expand(state.shape[0], -1, -1)


@torch.no_grad()
def infer_from_photographs(
    network: ImageNetwork,
    body: BodyModel,
    keypoints: Keypoints,
    camera: Camera,
    photographs: Sequence[Photograph],
) -> ImagePosterior:
    """Posterior of a batch of people from the pixels around their keypoints.

    Args:
        network: what `read_image_network` returned.
        body: the body that poses are made for: a whole body of any family.
        keypoints: `(batch, K)` in pixels of the photographs; they say where to look (and are read by networks whose
            encoder reads keypoints).
        camera: one per person.
        photographs: that of each person; one object for all people of a picture.

    Raises:
        InputError: a body without the 22 body joints, numbers that do not match, or people without keypoints.
    """
    if body.skeleton.names[:NUM_BODY] != BODY_JOINTS:
        raise InputError("image networks know the poses of whole bodies only", seen=body.family)
    count = len(keypoints.confidence)
    if len(photographs) != count or len(camera.focal_px) != count:
        raise InputError(
            "one photograph and one camera per person are needed",
            seen=f"{len(photographs)} photographs, {len(camera.focal_px)} cameras",
            expected=count,
        )
    dtype = next(network.parameters()).dtype
    seen, camera = keypoints.sanitized().to(dtype=dtype), camera.to(dtype=dtype)
    if bool((~seen.seen.any(-1)).any()):
        raise InputError("nothing says where in the photograph a person is", seen="people without keypoints")
    crop = crop_of_box(seen.bounding_box())
    view = CropView.of(crop, camera)
    pixels = torch.zeros(0, 3, network.config.crop_px, network.config.crop_px, dtype=torch.uint8)
    if count:
        pixels = torch.stack([_cut(p, crop[row], network.config.crop_px) for row, p in enumerate(photographs)])
    inputs = normalized_pixels(pixels, mean=IMAGENET_MEAN, std=IMAGENET_STD).to(dtype)
    context = network.context(view_of_crop(view, seen, camera), inputs)
    prediction = network.predict(context)
    transl = view.translation(prediction.camera)
    own = resized(prediction.betas, min(body.num_shape, prediction.betas.shape[-1]))
    pelvis = transl + (body.with_shape(own.to(body.dtype)).joints[:, 0]).to(dtype)
    return ImagePosterior(
        network=network,
        model=body,
        context=context,
        crop_view=view,
        betas=prediction.betas,
        base=prediction.base,
        pelvis=(view.R_camera_crop @ pelvis[..., None])[..., 0],
        seen=seen.seen.to(dtype).mean(-1),
    )


def _cut(photograph: Photograph, crop: Crop, size_px: int) -> Tensor:
    scale = photograph.scale[0]  # very large files are held smaller
    return crop_pixels(photograph.pixels, Crop(crop.center_px * scale, crop.side_px * scale, crop.angle), size_px)
