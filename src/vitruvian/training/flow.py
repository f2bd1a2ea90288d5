"""Training of the pose network: synthetic people in, distributions of poses out."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.skeletons import SMPLX
from vitruvian.data.synthetic import PoseLibrary, SyntheticBatch, SyntheticConfig, SyntheticPeople
from vitruvian.geometry.rotations import log_so3
from vitruvian.keypoints.canonical import canonical_format
from vitruvian.priors.hand_statistics import HandStatistics
from vitruvian.recovery.chart import BODY, NUM_BODY
from vitruvian.recovery.losses import LossWeights, PoseCritic, RestJoints, Targets, losses
from vitruvian.recovery.network import NetworkConfig, PoseNetwork
from vitruvian.recovery.refinement import PointedBody
from vitruvian.recovery.views import View, feature_blocks, view_of
from vitruvian.tensors import BatchRecord
from vitruvian.training.checkpoints import load_strictly, read_weights, save_weights
from vitruvian.training.loop import LoopConfig, LoopResult, train
from vitruvian.training.warm_start import started_from

_KEYPOINTS_OF_JOINT = {
    "pelvis": ("left_hip", "right_hip", "hip_center"), "spine1": ("hip_center", "shoulder_center"),
    "spine2": ("hip_center", "shoulder_center"), "spine3": ("shoulder_center",), "neck": ("shoulder_center",),
    "left_foot": ("left_big_toe", "left_small_toe", "left_heel"),
    "right_foot": ("right_big_toe", "right_small_toe", "right_heel"),
    "left_collar": ("left_shoulder",), "right_collar": ("right_shoulder",),
    "head": ("nose", "left_ear", "right_ear", "left_eye", "right_eye"),
}  # fmt: skip
"""Keypoints of which one must be seen for a joint to count as visible; joints not listed have their own."""


@dataclass(frozen=True)
class FlowTraining:
    """Everything that decides a training run of the pose network."""

    loop: LoopConfig = field(default_factory=LoopConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    losses: LossWeights = field(default_factory=LossWeights)
    people: SyntheticConfig = field(default_factory=SyntheticConfig)
    half_precision: bool = True
    """Compute the networks in bfloat16 where that is safe."""


def visible_joints(visible: Tensor) -> Tensor:
    """`(*batch, 22)`: joints with a visible keypoint, from the visibility of the canonical keypoints."""
    fmt = canonical_format()
    columns = []
    for name in BODY.names:
        rows = [fmt.index(place) for place in _KEYPOINTS_OF_JOINT.get(name, (name,))]
        columns.append(visible[..., rows].any(-1))
    return torch.stack(columns, dim=-1)


def targets_in_view(batch: SyntheticBatch, view: View) -> Targets:
    """The truth of a batch in the virtual cameras of `view`."""
    T = view.R_camera_view
    rotations = batch.rotations[:, :NUM_BODY].clone()
    rotations[:, 0] = T.transpose(-1, -2) @ rotations[:, 0]
    return Targets(
        rotations=rotations,
        jaw=log_so3(batch.rotations[:, SMPLX.index("jaw")]),
        betas=batch.betas,
        expression=batch.expression,
        hands=batch.hands,
        joints=batch.joints[:, :NUM_BODY] @ T,
        visible=visible_joints(batch.visible),
    )


@dataclass(frozen=True, eq=False)
class ViewedPeople(BatchRecord):
    """What the network sees of people, and the truth."""

    view: View
    targets: Targets


def viewed_people(batch: SyntheticBatch) -> ViewedPeople:
    """Synthetic people in their virtual cameras, with the gravity that is known of them."""
    view = view_of(batch.keypoints, batch.camera, gravity=batch.gravity)
    return ViewedPeople(view, targets_in_view(batch, view))


class FlowTask:
    """The pose network with its critic, as a task of the training loop."""

    def __init__(
        self,
        config: FlowTraining,
        body: BodyModel,
        library: PoseLibrary,
        *,
        hands: tuple[HandStatistics, HandStatistics] | None = None,
    ) -> None:
        self.config = config
        torch.manual_seed(config.loop.seed)
        self._network = PoseNetwork(config.network, PointedBody.of(body, num_shape=config.network.num_shape))
        self.critic = PoseCritic(num_shape=config.network.num_shape)
        self.people = SyntheticPeople(body, library, config.people, hands=hands)
        self.rest = RestJoints.of(body, num_shape=config.network.num_shape)
        self._critic_optimizer = torch.optim.AdamW(self.critic.parameters(), lr=1e-4, weight_decay=1e-4)
        self._last: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    @property
    def network(self) -> nn.Module:
        return self._network

    def modules(self) -> Mapping[str, nn.Module]:
        return {"network": self._network, "critic": self.critic}

    def draw(self, number: int, size: int, seed: int) -> ViewedPeople:
        return viewed_people(self.people.batch(size, seed=seed, number=number))

    def loss(self, batch: ViewedPeople, number: int, seed: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        view, targets = batch.view, batch.targets
        device = view.points.device
        generator = torch.Generator().manual_seed(seed * 7919 + number)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.config.half_precision):
            prediction = self._network(view)
        terms, mode = losses(
            prediction,
            view,
            targets,
            self.rest.to(device=device),
            self.critic,
            weights=self.config.losses,
            half_precision=self.config.half_precision,
            generator=generator,
        )
        self._last = (mode.detach(), targets.rotations, prediction.head.betas.detach(), targets.betas)
        return terms.total(self.config.losses), terms.detached()

    def after_step(self, number: int) -> None:
        if number % 8 or self._last is None:
            return
        mode, real, fake_betas, betas = self._last
        self._critic_optimizer.zero_grad(set_to_none=True)
        self.critic.loss(mode, real, fake_betas, betas).backward()
        self._critic_optimizer.step()


@torch.no_grad()
def shape_errors(task: FlowTask, weights: Mapping[str, Tensor], *, people: int = 2048) -> Float[Tensor, "shape"]:
    """Root mean square distance of true shape coefficients from the estimate, on people outside the training run."""
    network = PoseNetwork(task.config.network)
    network.load_state_dict({name: tensor.cpu() for name, tensor in weights.items()})
    batch = task.people.batch(people, seed=task.config.loop.seed + 1, number=1 << 30)
    view = view_of(batch.keypoints, batch.camera)
    return (network.eval()(view).head.betas - batch.betas).square().mean(0).sqrt()


def train_flow(
    config: FlowTraining,
    body: BodyModel,
    library: PoseLibrary,
    folder: Path,
    *,
    hands: tuple[HandStatistics, HandStatistics] | None = None,
    start: Path | None = None,
    report: Callable[[int, float, Mapping[str, float]], None] | None = None,
) -> LoopResult:
    """Train the pose network and write `folder/flow.safetensors`; a run that was stopped goes on where it was.

    Args:
        config: the run.
        body: body with hands and face.
        library: training poses.
        folder: where the run lives.
        hands: hand statistics; those of the package if None.
        start: weights that a new run starts from (see `warm_start`); random ones if None.
        report: see `training.loop.train`.
    """
    task = FlowTask(config, body, library, hands=hands)
    if start is not None:
        load_strictly(task.network, started_from(*read_weights(start), feature_blocks()))
    result = train(task, config.loop, folder, report=report)
    weights = {**result.weights, "regressor.head.shape_std": shape_errors(task, result.weights)}
    save_weights(
        weights,
        folder / "flow.safetensors",
        half=True,
        metadata={
            "network": asdict(config.network),
            "features": feature_blocks(),
            "training": asdict(config),
            "body": {"family": body.family, "gender": body.gender, "digest": body.digest},
            "steps": result.steps,
        },
    )
    return result
