"""Training VPoser on motion capture poses: reconstruction of rotations and of points on the body, and KL to N(0, I)."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitruvian.assets.weights import load_strictly
from vitruvian.bodies.skeletons import BODY_JOINTS, BODY_PARENTS, Skeleton
from vitruvian.bodies.skinning import forward_kinematics
from vitruvian.data.mocap import PoseDataset, load_pose_dataset
from vitruvian.data.pose_selection import ARM, LEG, mirror_pose
from vitruvian.data.t_pose import nominal_joints
from vitruvian.geometry.rotations import exp_so3, geodesic_angle, log_so3
from vitruvian.priors.vposer import VPoser, VPoserSettings
from vitruvian.tensors import BatchRecord
from vitruvian.training.checkpoints import read_weights, save_weights
from vitruvian.training.loop import LoopConfig, train

BODY_SKELETON = Skeleton(BODY_JOINTS, BODY_PARENTS, ())


@dataclass(frozen=True)
class VPoserConfig:
    """Options of `vitruvian train vposer`."""

    shared_data: Path
    """Folder with the motion capture archives."""
    output: Path
    """Folder for the weights (vposer.safetensors), the checkpoint and the log; a run found there is continued."""
    start: Path | None = None
    """Weights of the same sizes to start a new run from, in place of random ones."""
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=40_000, minutes=60, batch_size=512, learning_rate=1e-3, weight_decay=1e-4, log_every=200
        )
    )
    settings: VPoserSettings = field(default_factory=VPoserSettings)
    kl_weight: float = 0.005
    """Weight of the Kullback-Leibler divergence, summed over the latent."""
    rotation_weight: float = 2.0
    """Weight of the mean chordal distance of joint rotations."""
    point_weight: float = 4.0
    """Weight of the mean distance (metres) of points carried by the joints."""
    subject_power: float = 0.5
    """A subject of n poses is drawn with weight n to this power."""
    frame_power: float = 0.5
    """A pose that stands for n frames is drawn with weight n to this power within its subject."""
    swapped_share: float = 0.3
    """Share of poses that take an arm, both arms, both legs or the head from another pose."""
    blended_share: float = 0.2
    """Share of poses that are taken on the way between two poses."""
    input_noise_rad: float = 0.03
    """Noise on the rotations that the encoder sees; the target is without it."""


@dataclass(frozen=True)
class Reconstruction:
    """Errors of encoding and decoding held-out poses."""

    joint_mm: float
    angle_deg: float
    kl: float


def carried_points() -> tuple[Float[Tensor, "22 3"], Float[Tensor, "88 3"], list[int]]:
    """Joints of the nominal skeleton; points near them that show every turn, and the joint that carries each."""
    joints = nominal_joints()
    arms = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.0, 0.1, 0.0], [0.0, 0.0, 0.1]], dtype=joints.dtype)
    points = (joints[:, None] + arms).flatten(0, 1)
    return joints, points, [j for j in range(len(joints)) for _ in range(4)]


@dataclass(frozen=True, eq=False)
class PosePairs(BatchRecord):
    """Poses that the autoencoder shall rebuild, the disturbed ones that it is given, and the noise of its latent."""

    target: Float[Tensor, "batch 21 3 3"]
    shaken: Float[Tensor, "batch 21 3 3"]
    noise: Float[Tensor, "batch latent"]


class VPoserTask:
    """The autoencoder and its loss, for the training loop."""

    def __init__(self, config: VPoserConfig, data: PoseDataset) -> None:
        self.config = config
        self.vposer = VPoser(config.settings)
        if config.start is not None:
            load_strictly(self.vposer, read_weights(config.start)[0])
        self._poses = data.rotations.to(torch.float32)
        weights = data.frame_weights(subject_power=config.subject_power, frame_power=config.frame_power)
        self._weights = weights.double()
        joints, points, carriers = carried_points()
        self._joints = joints.float()
        self._arms = (points - joints[carriers]).float().unflatten(0, (-1, 4))

    @property
    def network(self) -> nn.Module:
        return self.vposer

    def modules(self) -> Mapping[str, nn.Module]:
        return {"network": self.vposer}

    def after_step(self, number: int) -> None:
        """Nothing to do."""

    def points(self, body_pose: Float[Tensor, "batch 21 3 3"]) -> Float[Tensor, "batch 22 4 3"]:
        """Four points carried by each joint, in the frame of the pelvis."""
        root = torch.eye(3).to(body_pose).expand(len(body_pose), 1, 3, 3)
        G, t = forward_kinematics(BODY_SKELETON, torch.cat((root, body_pose), dim=1), self._joints.to(root))
        return (G @ self._arms.to(root).mT).mT + t[..., None, :]

    def draw(self, number: int, size: int, seed: int) -> "PosePairs":
        """Poses to be rebuilt, half of them mirrored, and the same shaken."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        rows = torch.multinomial(self._weights, size, replacement=True, generator=generator)
        half = size // 2
        poses = torch.cat((self._poses[rows[:half]], mirror_pose(self._poses[rows[half:]])))[:, 1:]
        c = self.config
        target = recombined(poses, swapped=c.swapped_share, blended=c.blended_share, generator=generator)
        shaken = target @ exp_so3(c.input_noise_rad * torch.randn(*target.shape[:-1], generator=generator))
        return PosePairs(target, shaken, torch.randn(size, c.settings.latent, generator=generator))

    def loss(self, batch: "PosePairs", number: int, seed: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """KL + chordal distance of rotations + distance of carried points."""
        c, target = self.config, batch.target
        rebuilt, mean, std = self.vposer(batch.shaken, batch.noise)
        kl = kl_to_unit_gaussian(mean, std).mean()
        rotation = (rebuilt - target).flatten(-2).norm(dim=-1).mean()
        distance = (self.points(rebuilt) - self.points(target)).norm(dim=-1).mean()
        total = c.kl_weight * kl + c.rotation_weight * rotation + c.point_weight * distance
        return total, {"kl": kl.detach(), "rotation": rotation.detach(), "points_m": distance.detach()}


# Joints that move together, as rows of the body pose (the root left out).
_EXCHANGED = (
    tuple(BODY_JOINTS.index(f"left_{joint}") - 1 for joint in ARM),
    tuple(BODY_JOINTS.index(f"right_{joint}") - 1 for joint in ARM),
    tuple(BODY_JOINTS.index(f"{side}_{joint}") - 1 for joint in ARM for side in ("left", "right")),
    tuple(BODY_JOINTS.index(f"{side}_{joint}") - 1 for joint in LEG for side in ("left", "right")),
    tuple(BODY_JOINTS.index(joint) - 1 for joint in ("neck", "head")),
)


def recombined(
    poses: Float[Tensor, "batch 21 3 3"], *, swapped: float, blended: float, generator: torch.Generator
) -> Float[Tensor, "batch 21 3 3"]:
    """Poses of which some take a group of joints from the next pose of the batch, or lie between it and themselves."""
    size = len(poses)
    others = poses.roll(1, dims=0)
    group = torch.zeros(len(_EXCHANGED), poses.shape[1], dtype=torch.bool)
    for row, joints in enumerate(_EXCHANGED):
        group[row, list(joints)] = True
    take = group[torch.randint(len(_EXCHANGED), (size,), generator=generator)]
    take &= torch.rand(size, 1, generator=generator) < swapped
    result = torch.where(take[..., None, None], others, poses)
    way = torch.rand(size, 1, 1, generator=generator)
    way = way * (torch.rand(size, 1, 1, generator=generator) < blended)
    return result @ exp_so3(way * log_so3(result.mT @ others))


def kl_to_unit_gaussian(mean: Float[Tensor, "batch D"], std: Float[Tensor, "batch D"]) -> Float[Tensor, "batch"]:
    """Kullback-Leibler divergence of N(mean, std²) from N(0, I), summed over the dimensions."""
    return 0.5 * (mean.square() + std.square() - 1 - 2 * std.log()).sum(dim=-1)


@torch.no_grad()
def reconstruction(vposer: VPoser, body_pose: Float[Tensor, "pose 21 3 3"]) -> Reconstruction:
    """Mean errors of decoding the encoder's mean: joints of the nominal skeleton in mm, angle per joint in degrees."""
    vposer = vposer.eval()
    mean, std = vposer.encode(body_pose)
    rebuilt = vposer.decode(mean)
    joints = nominal_joints().to(body_pose)
    root = torch.eye(3).to(body_pose).expand(len(body_pose), 1, 3, 3)
    placed = [
        forward_kinematics(BODY_SKELETON, torch.cat((root, pose), dim=1), joints)[1] for pose in (rebuilt, body_pose)
    ]
    return Reconstruction(
        joint_mm=1000 * float((placed[0] - placed[1]).norm(dim=-1).mean()),
        angle_deg=float(torch.rad2deg(geodesic_angle(rebuilt, body_pose)).mean()),
        kl=float(kl_to_unit_gaussian(mean, std).mean()),
    )


def train_vposer(
    config: VPoserConfig, *, report: Callable[[int, float, Mapping[str, float]], None] | None = None
) -> Reconstruction:
    """Train, or continue the run found in the output folder, and write its averaged weights.

    Returns:
        the errors on the poses of the validation subjects.

    Raises:
        InputError: where the motion capture archives are missing.
    """
    task = VPoserTask(config, load_pose_dataset(config.shared_data, split="train"))
    result = train(task, config.loop, config.output, report=report)
    vposer = VPoser(config.settings)
    load_strictly(vposer, result.weights)
    errors = reconstruction(vposer, load_pose_dataset(config.shared_data, split="val").rotations[:, 1:])
    save_weights(
        result.weights,
        config.output / "vposer.safetensors",
        metadata={
            "settings": asdict(config.settings),
            "command": "vitruvian train vposer",
            "config": {**asdict(config), "shared_data": "", "output": "", "start": config.start is not None},
            "steps": result.steps,
            "seconds": round(result.seconds),
            "validation": asdict(errors),
        },
        half=True,
    )
    return errors
