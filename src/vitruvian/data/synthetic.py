"""Endless training pairs: people posed from motion capture, seen by cameras, as keypoints that a detector might give.

People are made of joints and a few points of the surface, never of meshes, so that one processor core makes tens of
thousands a second. Batch number n of a seed is always the same.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.skeletons import BODY_JOINTS, SMPLX
from vitruvian.data.detector_errors import ErrorModel, detect, redefine_points
from vitruvian.data.pose_selection import ARM, LEG
from vitruvian.data.shapes import StatureModel, draw_shapes
from vitruvian.errors import InputError
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.rotations import exp_so3
from vitruvian.keypoints.canonical import CANONICAL, canonical_format, canonical_points
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.places import mirror_place
from vitruvian.priors.hand_statistics import HandStatistics, read_hand_statistics
from vitruvian.tensors import BatchRecord

NUM_BODY_JOINTS = len(BODY_JOINTS)
STANDING_HEIGHT_M = 1.7
_ASPECTS = (4 / 3, 3 / 2, 16 / 9, 1.0, 3 / 4, 2 / 3, 9 / 16)
_FRONT_POINTS = {"nose": 0.0, "left_eye": 0.0, "right_eye": 0.0, "left_ear": 0.55, "right_ear": 0.55}
"""Points of the head, and how far past the side view (cosine) they can still be seen."""


@dataclass(frozen=True, eq=False)
class PoseLibrary(BatchRecord):
    """Poses of the 22 body joints to draw from.

    Args:
        rotations: local rotations, the root in a world with y up.
        weights: relative probability of each pose.
    """

    rotations: Float[Tensor, "pose 22 3 3"]
    weights: Float[Tensor, "pose"]

    def __post_init__(self) -> None:
        if self.rotations.shape[1:] != (NUM_BODY_JOINTS, 3, 3) or len(self.rotations) == 0:
            raise InputError("not a library of body poses", seen=tuple(self.rotations.shape), expected="(N, 22, 3, 3)")


@dataclass(frozen=True)
class SyntheticConfig:
    """How people and cameras are drawn."""

    errors: ErrorModel = field(default_factory=ErrorModel)
    """The detector."""
    pose_noise: float = 0.12
    """Largest standard deviation (radians) of noise added to every joint of half of the people."""
    recombine: float = 0.5
    """Probability that limbs come from different poses: each limb of such a person keeps its own or takes another's."""
    mirror: float = 0.5
    """Probability of the mirror image."""
    shape_spread: float = 1.1
    """Standard deviation of the shape coefficients; stature is that of adults (data/shapes.py)."""
    num_shape: int = 10
    num_expression: int = 10
    hand_spread: float = 1.15
    """Standard deviation of the hand coefficients, in those of the hand prior."""
    num_hand: int = 24
    """Components of each hand."""
    crops: float = 0.25
    """Probability that the picture shows the upper body or the head only."""
    known_focal: float = 0.5
    """Probability that the camera's focal length is known; otherwise the image diagonal is taken for it."""
    turned: float = 0.15
    """Probability that the whole person is turned at random: upside-down, lying, seen from above."""
    known_gravity: float = 0.5
    """Probability that the direction of gravity is known."""
    gravity_noise: float = 0.05
    """Standard deviation (radians) of the known direction about each axis."""
    redefine: bool = True
    """Vary what detectors mean by the names of points."""


@dataclass(frozen=True, eq=False)
class SyntheticBatch(BatchRecord):
    """People, and what a detector sees of them.

    The camera has the focal length that a user would know or assume; `transl` and `points` are scaled along the optical
    axis to match it, `rotations` are the true ones in the camera frame.
    """

    keypoints: Keypoints
    visible: Bool[Tensor, "batch point"]
    camera: Camera
    gravity: Float[Tensor, "batch 3"]
    """Direction of gravity in the camera frame, a unit vector; zeros where it is not known."""
    rotations: Float[Tensor, "batch joint 3 3"]
    betas: Float[Tensor, "batch shape"]
    expression: Float[Tensor, "batch expression"]
    hands: Float[Tensor, "batch 2 component"]
    """Coefficients of the left and right hand, in standard deviations."""
    transl: Float[Tensor, "batch 3"]
    joints: Float[Tensor, "batch joint 3"]
    """Joints in the camera frame, metres."""
    pixels: Float[Tensor, "batch point 2"]
    """True positions of the canonical keypoints on the body."""
    poses: Tensor
    """Row of each person's pose in the library."""

    def __len__(self) -> int:
        return self.transl.shape[0]


class SyntheticPeople:
    """A source of synthetic people on one body.

    Args:
        body: a body with hands and face.
        library: poses.
        config: see `SyntheticConfig`.
        hands: statistics of the left and the right hand; those of the package if None.
    """

    def __init__(
        self,
        body: BodyModel,
        library: PoseLibrary,
        config: SyntheticConfig | None = None,
        *,
        hands: tuple[HandStatistics, HandStatistics] | None = None,
    ) -> None:
        self.body = body
        self.library = library
        self.config = config or SyntheticConfig()
        self.points = canonical_points(body)
        self._stature = StatureModel.of(body, num_shape=self.config.num_shape)
        if hands is None:
            hands = (read_hand_statistics("left"), read_hand_statistics("right"))
        self._hands = tuple(hand.to(dtype=body.dtype) for hand in hands)
        self._cumulative = library.weights.double().cumsum(0)
        swap = [SMPLX.index(mirror_place(name)) for name in BODY_JOINTS]
        self._mirror_order = torch.stack((torch.arange(NUM_BODY_JOINTS), torch.tensor(swap)))
        signs = torch.tensor([[1.0, -1.0, -1.0], [-1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]])
        self._mirror_signs = torch.stack((torch.ones(3, 3), signs))
        fmt = canonical_format()
        self._head_rows = torch.tensor([fmt.index(name) for name in _FRONT_POINTS] + list(fmt.groups["face"]))
        self._head_margin = torch.tensor([*_FRONT_POINTS.values(), *([-0.1] * len(fmt.groups["face"]))])
        self._head = SMPLX.index("head")
        self._limbs = tuple(torch.tensor([SMPLX.index(name) for name in names]) for names in _limb_joints())
        self._loose = torch.tensor([SMPLX.index(j) for j in ("left_wrist", "right_wrist", "head", "neck")])

    def batches(self, size: int, *, seed: int, start: int = 0) -> Iterator[SyntheticBatch]:
        """Batches number `start`, `start` + 1, … of a seed, without end."""
        number = start
        while True:
            yield self.batch(size, seed=seed, number=number)
            number += 1

    def batch(self, size: int, *, seed: int, number: int = 0) -> SyntheticBatch:
        """Batch `number` of a seed."""
        generator = torch.Generator().manual_seed((seed * 1_000_003 + number) % (1 << 63))
        draw = torch.rand(size, dtype=torch.float64, generator=generator) * self._cumulative[-1]
        poses = torch.searchsorted(self._cumulative, draw).clamp_max(len(self.library.rotations) - 1)
        return self.people(poses, generator)

    @torch.no_grad()
    def people(self, poses: Tensor, generator: torch.Generator, *, views: int = 1) -> SyntheticBatch:
        """People in chosen poses of the library; with several `views`, each person is seen that often, side by side."""
        config, size = self.config, len(poses)
        body_rotations = self._augmented(poses, generator)
        hands = torch.randn(size, 2, config.num_hand, generator=generator) * config.hand_spread
        face = torch.randn(size, 3, 3, generator=generator) * torch.tensor([[0.12, 0.02, 0.02], [0.15] * 3, [0.15] * 3])
        face[:, 0, 0] = face[:, 0, 0].abs()
        fingers = [self._hand_rotations(hands[:, side], side) for side in (0, 1)]
        betas = draw_shapes(
            size, stature=self._stature, spread=config.shape_spread, gender=self.body.gender, generator=generator
        )
        expression = torch.randn(size, config.num_expression, generator=generator)
        rotations = torch.cat((body_rotations, exp_so3(face), *fingers), dim=1)
        if views > 1:
            repeated = [x.repeat_interleave(views, dim=0) for x in (poses, rotations, hands, betas, expression)]
            poses, rotations, hands, betas, expression = repeated
        rotations[:, 0], down = _turned(rotations[:, 0], config.turned, generator)
        shaped = self.body.with_shape(betas, expression)
        posed = shaped.with_pose(rotations, -shaped.joints[:, 0])
        points, joints = posed.points(self.points), posed.joints
        camera, offset = self._place(points, generator)
        joints, points = joints + offset[:, None], points + offset[:, None]
        away = self._facing_away(posed.world_rotations[:, self._head], joints[:, self._head])
        seen = points
        if config.redefine:
            up = torch.nn.functional.normalize(joints[:, SMPLX.index("spine3")] - joints[:, 0], dim=-1)
            seen = redefine_points(points, up, generator)
        detections = detect(
            camera.project(seen),
            facing_away=away,
            person_px=camera.focal_px[:, 1] * STANDING_HEIGHT_M / joints[:, 0, 2].clamp_min(0.3),
            image_size=camera.image_size,
            model=config.errors,
            generator=generator,
        )
        pixels = camera.project(points)
        nearest = (points[..., 2].amin(1) - joints[:, 0, 2]).clamp_max(0)
        assumed, stretch = self._assumed(camera, joints[:, 0, 2], nearest, generator)
        shift = (
            joints[:, 0] * torch.stack((torch.ones_like(stretch), torch.ones_like(stretch), stretch), -1) - joints[:, 0]
        )
        return SyntheticBatch(
            keypoints=Keypoints(detections.positions, detections.confidence, CANONICAL),
            visible=detections.visible,
            camera=assumed,
            gravity=self._told_gravity(down, generator),
            rotations=rotations,
            betas=betas,
            expression=expression,
            hands=hands,
            transl=offset + shift - shaped.joints[:, 0],
            joints=joints + shift[:, None],
            pixels=pixels,
            poses=poses,
        )

    def _told_gravity(self, down: Float[Tensor, "batch 3"], generator: torch.Generator) -> Float[Tensor, "batch 3"]:
        noise = exp_so3(self.config.gravity_noise * torch.randn(len(down), 3, generator=generator))
        known = torch.rand(len(down), 1, generator=generator) < self.config.known_gravity
        return torch.where(known, (noise @ down[..., None])[..., 0], 0.0)

    def _augmented(self, poses: Tensor, generator: torch.Generator) -> Float[Tensor, "batch 22 3 3"]:
        config, size = self.config, len(poses)
        rotations = self.library.rotations[poses]
        if config.recombine:
            mixed = torch.rand(size, generator=generator) < config.recombine
            for limb in self._limbs:
                taken = mixed & (torch.rand(size, generator=generator) < 0.5)
                other = poses[torch.randperm(size, generator=generator)]
                rows = taken.nonzero()[:, 0]
                rotations[rows[:, None], limb] = self.library.rotations[other[rows][:, None], limb]
        mirror = (torch.rand(size, generator=generator) < config.mirror).long()
        rotations = (
            torch.gather(rotations, 1, self._mirror_order[mirror][..., None, None].expand(-1, -1, 3, 3))
            * self._mirror_signs[mirror][:, None]
        )
        if config.pose_noise:
            level = torch.rand(size, 1, 1, generator=generator) - 0.5
            spread = (2 * level.clamp_min(0) * config.pose_noise).expand(-1, NUM_BODY_JOINTS, 1).clone()
            spread[:, self._loose] *= 2
            noise = torch.randn(size, NUM_BODY_JOINTS, 3, generator=generator) * spread
            rotations = rotations @ exp_so3(noise)
        return rotations

    def _hand_rotations(self, coefficients: Tensor, side: int) -> Float[Tensor, "batch 15 3 3"]:
        hand, count = self._hands[side], coefficients.shape[-1]
        vectors = hand.mean + (coefficients * hand.std[:count]) @ hand.components[:count]
        return exp_so3(vectors.unflatten(-1, (-1, 3)))

    def _place(self, points: Tensor, generator: torch.Generator) -> tuple[Camera, Float[Tensor, "batch 3"]]:
        """A camera, and where the person stands before it, for points about the pelvis."""
        size = len(points)
        draw = torch.rand(size, 9, generator=generator)
        long_side = 320 * (2000 / 320) ** draw[:, 0]
        aspect = torch.tensor(_ASPECTS)[(draw[:, 1] * len(_ASPECTS)).long()]
        image = torch.stack(
            (
                torch.where(aspect > 1, long_side, long_side * aspect),
                torch.where(aspect > 1, long_side / aspect, long_side),
            ),
            -1,
        ).round()
        diagonal = image.norm(dim=-1)
        focal = diagonal * torch.exp(0.35 * torch.randn(size, generator=generator)).clamp(0.5, 2.8)
        low, high = points[..., :2].amin(1), points[..., :2].amax(1)
        extent = torch.maximum(high[:, 1] - low[:, 1], (high[:, 0] - low[:, 0]) / aspect)
        extent = extent * 1.02 * 4.5 ** draw[:, 2] ** 1.5
        center = (low + high) / 2
        # Crops: a window from the head down to chest, waist or thighs.
        cropped = draw[:, 3] < self.config.crops
        fmt = canonical_format()
        neck = points[:, fmt.index("shoulder_center"), :2]
        span = 0.45 + 1.1 * draw[:, 4]
        below = torch.stack((0.3 * (draw[:, 5] - 0.5), 0.5 * span - 0.1 - 0.3 * draw[:, 6]), -1)
        center = torch.where(cropped[:, None], neck + below, center)
        extent = torch.where(cropped, span, extent)
        depth = focal * extent / image[:, 1]
        depth = torch.maximum(depth, -points[..., 2].amin(1) + 0.3)
        # The person may stand anywhere in the frame, at times partly outside it.
        window = torch.stack((extent * aspect, extent), -1)
        slack = ((window - (high - low)) / 2).clamp_min(0) + 0.05 * window
        shift = (2 * draw[:, 7:9] - 1) * torch.where(cropped[:, None], 0.1 * window, slack)
        camera = Camera(focal[:, None].expand(-1, 2).contiguous(), image / 2, image)
        offset = torch.cat((shift - center, depth[:, None]), -1)
        return camera, offset

    def _facing_away(self, head: Tensor, position: Tensor) -> Bool[Tensor, "batch point"]:
        """Points of the head that the head itself hides."""
        to_camera = torch.nn.functional.normalize(-position, dim=-1)
        forward = (head[:, :, 2] * to_camera).sum(-1)
        left = (head[:, :, 0] * to_camera).sum(-1)
        away = torch.zeros(len(head), len(canonical_format()), dtype=torch.bool)
        away[:, self._head_rows] = forward[:, None] < -self._head_margin - 0.05
        fmt = canonical_format()
        away[:, fmt.index("left_ear")] |= left < -0.35
        away[:, fmt.index("right_ear")] |= left > 0.35
        return away

    def _assumed(
        self, camera: Camera, depth: Tensor, nearest: Tensor, generator: torch.Generator
    ) -> tuple[Camera, Float[Tensor, "batch"]]:
        """The camera that a user would give, and how much farther it puts the person; never onto the camera."""
        known = torch.rand(len(camera.focal_px), 1, generator=generator) < self.config.known_focal
        diagonal = camera.image_size.norm(dim=-1, keepdim=True).expand(-1, 2)
        known = known | (depth * (diagonal / camera.focal_px)[:, 0] + nearest < 0.3)[:, None]
        focal = torch.where(known, camera.focal_px, diagonal)
        return Camera(focal, camera.center_px, camera.image_size), (focal / camera.focal_px)[:, 0]


def _limb_joints() -> tuple[tuple[str, ...], ...]:
    """Both legs, one leg, each arm, and the head with the neck: parts that poses may exchange."""
    legs, arms = ([tuple(f"{side}_{joint}" for joint in limb) for side in ("left", "right")] for limb in (LEG, ARM))
    return (legs[0] + legs[1], legs[0], *arms, ("neck", "head"))


def _turned(
    root: Float[Tensor, "batch 3 3"], share: float, generator: torch.Generator
) -> tuple[Float[Tensor, "batch 3 3"], Float[Tensor, "batch 3"]]:
    """Root rotations in the frame of cameras that look from all sides, and the direction of gravity there.

    Cameras look more often from the front, and tilt a little. A share of the people is turned at random before.
    """
    size = len(root)
    somehow = exp_so3(_random_turns(size, generator))
    root = torch.where((torch.rand(size, generator=generator) < share)[:, None, None], somehow @ root, root)
    draw = torch.randn(size, 4, generator=generator)
    heading = torch.atan2(root[:, 0, 2], root[:, 2, 2])
    frontal = torch.rand(size, generator=generator) < 0.4
    yaw = torch.where(frontal, 0.7 * draw[:, 0], 2 * math.pi * torch.rand(size, generator=generator)) - heading
    wide = torch.where(torch.rand(size, generator=generator) < 0.1, 3.0, 1.0)
    zero = torch.zeros(size)
    turn = exp_so3(torch.stack((zero, yaw, zero), -1))
    tilt = exp_so3(torch.stack((0.2 * wide * draw[:, 1], zero, zero), -1))
    roll = exp_so3(torch.stack((zero, zero, 0.12 * wide * draw[:, 2]), -1))
    upright = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    R_camera_world = roll @ tilt @ upright @ turn
    return R_camera_world @ root, -R_camera_world[..., 1]


def _random_turns(size: int, generator: torch.Generator) -> Float[Tensor, "batch 3"]:
    """Rotation vectors of uniformly random rotations: directions of random quaternions."""
    quaternion = torch.nn.functional.normalize(torch.randn(size, 4, generator=generator), dim=-1)
    vector, real = quaternion[:, 1:], quaternion[:, :1]
    length = vector.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    return vector / length * 2 * torch.atan2(length, real)
