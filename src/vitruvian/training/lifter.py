"""Training of the lifters: projected, disturbed skeletons in, the likelihood of their 3D positions out."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitruvian.bodies.model import BodyModel
from vitruvian.data.synthetic import PoseLibrary, SyntheticBatch, SyntheticConfig, SyntheticPeople
from vitruvian.keypoints.formats import get_format
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.targets import keypoint_targets
from vitruvian.recovery.lifter import Lifter, LifterConfig
from vitruvian.recovery.losses import limited
from vitruvian.recovery.views import View, points_view
from vitruvian.tensors import BatchRecord
from vitruvian.training.checkpoints import save_weights
from vitruvian.training.loop import LoopConfig, LoopResult, train


@dataclass(frozen=True)
class LifterTraining:
    """Everything that decides a training run of a lifter. Losses are means: metres, nats per dimension."""

    lifter: LifterConfig
    loop: LoopConfig = field(default_factory=LoopConfig)
    people: SyntheticConfig = field(default_factory=SyntheticConfig)
    keypoints_3d: float = 10.0
    likelihood: float = 0.2
    noise_2d: float = 0.01
    """Standard deviation of the keypoints in units of half the person's size (log-uniform from a fifth of it)."""
    noise_3d: float = 0.005
    """Noise on the true positions, metres."""
    missing: float = 0.1
    """Mean share of points that are missing."""
    half_precision: bool = True


class SkeletonSource:
    """2D and 3D skeletons of one format, from synthetic people.

    Args:
        people: the people.
        format: keypoint format.
    """

    def __init__(self, people: SyntheticPeople, format: str) -> None:
        targets = keypoint_targets(people.body, format)
        assert len(targets) == len(get_format(format))
        self.people = people
        self.format = format
        self._points = targets.points

    def draw(
        self, batch: SyntheticBatch, generator: torch.Generator, *, noise: float, missing: float
    ) -> tuple[View, Float[Tensor, "batch point 3"]]:
        """What is seen of each person, and the skeleton in the virtual camera."""
        shaped = self.people.body.with_shape(batch.betas, batch.expression)
        skeleton = shaped.with_pose(batch.rotations, batch.transl).points(self._points)
        size, count = skeleton.shape[:2]
        pixels = batch.camera.project(skeleton)
        extent = (pixels.amax(1) - pixels.amin(1)).amax(-1, keepdim=True) / 2
        level = noise * 5 ** (-torch.rand(size, 1, generator=generator)) * extent
        spread = level * torch.exp(0.5 * torch.randn(size, count, generator=generator))
        pixels = pixels + spread[..., None] * torch.randn(pixels.shape, generator=generator)
        confidence = torch.sigmoid(
            2 - torch.log(spread / (0.005 * extent)) + torch.randn(size, count, generator=generator)
        )
        plain = torch.rand(size, 1, generator=generator) < 0.3
        confidence = torch.where(plain, 1.0, confidence)
        lost = torch.rand(size, count, generator=generator) < 2 * missing * torch.rand(size, 1, generator=generator)
        keypoints = Keypoints(pixels, torch.where(lost, 0.0, confidence), self.format).sanitized()
        view = points_view(keypoints, batch.camera)
        return view, skeleton @ view.R_camera_view


@dataclass(frozen=True, eq=False)
class ViewedSkeletons(BatchRecord):
    """What a lifter sees of people, and their skeletons in the virtual camera, metres."""

    view: View
    skeleton: Float[Tensor, "batch point 3"]
    disturbed: Float[Tensor, "batch point 3"]
    """With the noise under which the likelihood is taken."""


class LifterTask:
    """A lifter as a task of the training loop."""

    def __init__(self, config: LifterTraining, body: BodyModel, library: PoseLibrary) -> None:
        self.config = config
        torch.manual_seed(config.loop.seed)
        self._lifter = Lifter(config.lifter)
        self.source = SkeletonSource(SyntheticPeople(body, library, config.people), config.lifter.format)

    @property
    def network(self) -> nn.Module:
        return self._lifter

    def modules(self) -> Mapping[str, nn.Module]:
        return {"network": self._lifter}

    def after_step(self, number: int) -> None:
        """Nothing to do."""

    def draw(self, number: int, size: int, seed: int) -> ViewedSkeletons:
        config = self.config
        batch = self.source.people.batch(size, seed=seed, number=number)
        generator = torch.Generator().manual_seed(seed * 7919 + number)
        view, skeleton = self.source.draw(batch, generator, noise=config.noise_2d, missing=config.missing)
        noise = config.noise_3d * torch.randn(skeleton.shape, generator=generator)
        return ViewedSkeletons(view, skeleton, skeleton + noise)

    def loss(self, batch: ViewedSkeletons, number: int, seed: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        config, lifter = self.config, self._lifter
        view, skeleton = batch.view, batch.skeleton
        with torch.autocast(skeleton.device.type, torch.bfloat16, enabled=config.half_precision):
            distribution = lifter(view.points, view.confidence, view.half_size)
            log_prob = distribution.log_prob(lifter.coordinates(batch.disturbed))
            mode = distribution.mode
        likelihood = limited(-log_prob / mode.shape[-1]).mean()
        relative = skeleton - skeleton[:, lifter.root : lifter.root + 1]
        error = (lifter.skeleton(mode.float()) - relative).abs().mean()
        total = config.likelihood * likelihood + config.keypoints_3d * error
        return total, {"likelihood": likelihood.detach(), "keypoints_3d": error.detach()}


def train_lifter(
    config: LifterTraining,
    body: BodyModel,
    library: PoseLibrary,
    folder: Path,
    *,
    report: Callable[[int, float, Mapping[str, float]], None] | None = None,
) -> LoopResult:
    """Train a lifter and write `folder/lifter-FORMAT.safetensors`; a run that was stopped goes on where it was."""
    task = LifterTask(config, body, library)
    result = train(task, config.loop, folder, report=report)
    save_weights(
        result.weights,
        folder / f"lifter-{config.lifter.format}.safetensors",
        metadata={"lifter": asdict(config.lifter), "training": asdict(config), "steps": result.steps},
        half=True,
    )
    return result
