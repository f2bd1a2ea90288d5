"""Training of the image network with its discriminator on Lightning Fabric: one process or many, resumable."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vitruvian.bodies.model import BodyModel
from vitruvian.data.cropped_people import PeopleSource
from vitruvian.data.synthetic import PoseLibrary
from vitruvian.errors import MissingPackageError
from vitruvian.recovery.image_critic import ImageCritic
from vitruvian.recovery.image_losses import Figure, ImageLossWeights, image_losses
from vitruvian.recovery.image_network import ImageNetwork, ImageNetworkConfig
from vitruvian.training.checkpoints import load_strictly, read_run, save_run, save_weights
from vitruvian.training.feed import Feed
from vitruvian.training.image_batch import ViewedCrops, viewed_crops
from vitruvian.training.image_scores import ImageScores, score
from vitruvian.training.loop import schedule
from vitruvian.training.plots import plot_log

WEIGHTS_FILE = "image.safetensors"
VALIDATION_SEED = 1 << 20
"""Added to the seed of the batches that nobody trains on."""

Report = Callable[[int, float, Mapping[str, float]], None]


@dataclass(frozen=True)
class ImageTraining:
    """Everything that decides a training run of the image network; the defaults are those of ProHMR."""

    network: ImageNetworkConfig = field(default_factory=ImageNetworkConfig)
    losses: ImageLossWeights = field(default_factory=ImageLossWeights)
    steps: int = 500_000
    """Steps of the optimiser."""
    batch_size: int = 64
    """People a step and process."""
    learning_rate: float = 1e-4
    decay: bool = False
    """Let the learning rate warm up and fall to zero along a cosine; the paper keeps it."""
    weight_decay: float = 1e-4
    gradient_clip: float = 10.0
    """Largest norm of the gradient."""
    num_samples: int = 2
    """Poses of each person in a step: the mode, and samples."""
    noise: float = 0.005
    """Standard deviation added to true poses before their likelihood is taken."""
    noise_2d: float = 0.01
    """Noise on the keypoints that an encoder of keypoints sees, in sides of the crop."""
    half_precision: bool = True
    """Compute the networks in bfloat16 where that is safe."""
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    """Processes started from here. Under torchrun, which starts them itself, the number of its processes a machine."""
    num_nodes: int = 1
    """Machines, under torchrun."""
    log_every: int = 100
    save_every: int = 1000
    validate_every: int = 5000
    validation_people: int = 256
    seed: int = 0
    workers: int | None = None
    """Threads that make batches ahead of time; None: four where a GPU waits for them, else none."""


class ImageObjective(nn.Module):
    """The network with its losses as one module, which is what processes that train together share gradients of."""

    def __init__(self, network: ImageNetwork, figure: Figure, config: ImageTraining) -> None:
        super().__init__()
        self.network, self.config, self._figure = network, config, figure

    def forward(
        self, batch: ViewedCrops, critic: ImageCritic, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor, Tensor]]:
        """Weighted loss, its parts by name, and what the critic shall tell from real people."""
        config, device = self.config, batch.pixels.device
        with torch.autocast(device.type, torch.bfloat16, enabled=config.half_precision):
            prediction = self.network(batch.view, batch.normalized())
        losses = image_losses(
            prediction,
            self.network.coordinates,
            batch.crop_view,
            batch.targets,
            self._figure,
            critic,
            num_samples=config.num_samples,
            noise=config.noise,
            half_precision=config.half_precision,
            generator=generator,
        )
        return losses.terms.total(config.losses), losses.terms.detached(), losses.fakes


class CriticObjective(nn.Module):
    """The loss of the discriminator as a module."""

    def __init__(self, critic: ImageCritic) -> None:
        super().__init__()
        self.critic = critic

    def forward(self, fake: tuple[Tensor, Tensor], real: tuple[Tensor, Tensor]) -> Tensor:
        return self.critic.loss(fake, real)


@dataclass(frozen=True)
class ImageData:
    """Where people come from.

    Args:
        train: training people.
        validation: people to measure on; those of `train` under another seed if None.
        poses: real poses for the discriminator; those of the batch if None.
    """

    train: PeopleSource
    validation: PeopleSource | None = None
    poses: PoseLibrary | None = None

    def real(self, batch: ViewedCrops, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Poses and shapes of real people, as many as the batch has."""
        rotations = batch.targets.rotations
        if self.poses is not None:
            weights = self.poses.weights.double()
            rows = torch.multinomial(weights, len(rotations), replacement=True, generator=generator)
            known = self.poses.rotations[rows].to(rotations)
            rotations = torch.cat((known, rotations[:, known.shape[1] :]), dim=1)
        betas = torch.randn(batch.targets.betas.shape, generator=generator).to(rotations)
        return rotations, betas


@dataclass(frozen=True)
class ImageResult:
    """What a run ends with."""

    network: ImageNetwork
    steps: int
    scores: ImageScores | None


def train_image(
    config: ImageTraining,
    body: BodyModel,
    data: ImageData,
    folder: Path,
    *,
    network: ImageNetwork | None = None,
    critic: ImageCritic | None = None,
    report: Report | None = None,
) -> ImageResult:
    """Train the image network and write `folder/image.safetensors`; a run that was stopped goes on where it was.

    Also writes `run.pt` (everything needed to go on), `log.jsonl`, and, with matplotlib, `log.png`.

    Args:
        config: the run.
        body: the body whose joints and keypoints are compared, and whose shapes are meant.
        data: people.
        folder: where the run lives.
        network, critic: to start a new run from, in place of random ones; of the sizes of `config`.
        report: called with the step, the progress from 0 to 1, and the mean values since the last call.

    Raises:
        MissingPackageError: Lightning is not installed.
    """
    if find_spec("lightning") is None:
        raise MissingPackageError("training on pictures needs Lightning", hint="pip install 'vitruvian[train]'")
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator=config.accelerator, devices=config.devices, num_nodes=config.num_nodes)
    fabric.launch()
    torch.manual_seed(config.seed)
    run = _ImageRun(fabric, config, body, data, folder, network, critic)
    last = None
    with run.feed() as feed:
        while run.number < config.steps:
            run.step(feed)
            if run.number % config.log_every == 0:
                means = run.log()
                if report is not None:
                    report(run.number, run.number / config.steps, means)
            if run.number % config.validate_every == 0 or run.number == config.steps:
                last = run.validate()
            if run.number % config.save_every == 0 or run.number == config.steps:
                run.save()
    run.write(last)
    return ImageResult(run.network.eval(), run.number, last)


class _ImageRun:
    def __init__(
        self,
        fabric: Any,
        config: ImageTraining,
        body: BodyModel,
        data: ImageData,
        folder: Path,
        network: ImageNetwork | None,
        critic: ImageCritic | None,
    ) -> None:
        self.fabric, self.config, self.data, self.folder, self.body = fabric, config, data, folder, body
        self.network = network or ImageNetwork(config.network)
        self.network.requires_grad_(True)
        joints = self.network.config.num_joints
        self.critic = critic or ImageCritic(num_joints=joints - 1, num_shape=self.network.config.num_shape)
        self.critic.requires_grad_(True)
        self.number, self.seconds = 0, 0.0
        self._sums: dict[str, Tensor] = {}
        self._count = 0
        state = read_run(folder / "run.pt")
        if state is not None:
            load_strictly(self.network, state["network"])
            load_strictly(self.critic, state["critic"])
            self.number, self.seconds = int(state["number"]), float(state["seconds"])
        self.figure = Figure(body.to(device=fabric.device), joints)
        objective = ImageObjective(self.network, self.figure, config)
        if state is None:
            self._start_flow(objective)
        self.objective, self.optimizer = fabric.setup(objective, self._optimizer(objective))
        judge = CriticObjective(self.critic)
        self.judge, self.judge_optimizer = fabric.setup(judge, self._optimizer(judge))
        if state is not None:
            self.optimizer.load_state_dict(state["optimizer"])
            self.judge_optimizer.load_state_dict(state["judge_optimizer"])

    def _optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            module.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay
        )

    @torch.no_grad()
    def _start_flow(self, objective: ImageObjective) -> None:
        """The first batch sets the scales of the flow: the same batch in every process, before they are joined."""
        batch = self._draw(0).to(device=torch.device("cpu"))
        network = self.network.train()
        prediction = network(batch.view, batch.normalized())
        prediction.flow.to_latent(network.coordinates.features(batch.targets.rotations, prediction.base))

    def _draw(self, number: int, *, seed: int = 0, source: PeopleSource | None = None) -> ViewedCrops:
        seed += self.config.seed
        people = (source or self.data.train).batch(self.config.batch_size, seed=seed, number=number)
        generator = torch.Generator().manual_seed(seed * 7919 + number)
        joints, noise = self.network.config.num_joints, self.config.noise_2d
        return viewed_crops(people, num_joints=joints, noise_2d=noise, generator=generator)

    def feed(self) -> Feed:
        """Batches of this process: every process has its own numbers."""
        world = self.fabric.world_size
        return Feed(self._draw, device=self.fabric.device, workers=self.config.workers, stride=world)

    def step(self, feed: Feed) -> None:
        began = time.monotonic()
        config, fabric = self.config, self.fabric
        rate = config.learning_rate
        if config.decay:
            rate *= schedule(self.number / config.steps, warmup=0.02)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        number = self.number * fabric.world_size + fabric.global_rank
        batch = feed.batch(number)
        generator = torch.Generator().manual_seed(config.seed * 104_729 + number)
        self.objective.train()
        loss, terms, fakes = self.objective(batch, self.critic, generator)
        self.optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        fabric.clip_gradients(self.objective, self.optimizer, max_norm=config.gradient_clip)
        self.optimizer.step()
        judged = self.judge(fakes, self.data.real(batch, generator))
        self.judge_optimizer.zero_grad(set_to_none=True)
        fabric.backward(judged)
        self.judge_optimizer.step()
        self.number += 1
        self.seconds += time.monotonic() - began
        for name, value in {**terms, "loss": loss.detach(), "critic": judged.detach()}.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._count += 1

    def log(self) -> dict[str, float]:
        """Means over steps and processes since the last call; one line of the log."""
        names = sorted(self._sums)
        values = self.fabric.all_reduce(torch.stack([self._sums[name] for name in names]) / self._count)
        self._sums, self._count = {}, 0
        means = dict(zip(names, values.tolist(), strict=True))
        self._write_line(means)
        return means

    def validate(self) -> ImageScores:
        """Errors on people that nobody trains on, shared out among the processes."""
        config, fabric = self.config, self.fabric
        batches = -(-config.validation_people // (config.batch_size * fabric.world_size))
        seed = VALIDATION_SEED if self.data.validation is None else 0

        def crops() -> Iterator[ViewedCrops]:
            for row in range(batches):
                number = row * fabric.world_size + fabric.global_rank
                yield self._draw(number, seed=seed, source=self.data.validation).to(device=fabric.device)

        own = score(self.network, self.figure, crops())
        scores = own.map(fabric.all_reduce)
        self.network.head.shape_std.copy_(scores.shape_std)
        self._write_line(scores.values())
        if fabric.is_global_zero:  # drawing takes longer than saving: not at every save
            plot_log(self.folder / "log.jsonl", self.folder / "log.png", names=_PLOTTED)
        return scores

    def _write_line(self, values: Mapping[str, float]) -> None:
        if not self.fabric.is_global_zero:
            return
        line = {"step": self.number, "seconds": round(self.seconds, 1), **{k: round(v, 6) for k, v in values.items()}}
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log.jsonl").open("a") as stream:
            stream.write(json.dumps(line) + "\n")

    def save(self) -> None:
        if self.fabric.is_global_zero:
            state = {
                "network": self.network.state_dict(),
                "critic": self.critic.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "judge_optimizer": self.judge_optimizer.state_dict(),
                "number": self.number,
                "seconds": self.seconds,
            }
            save_run(self.folder / "run.pt", state)
        self.fabric.barrier()

    def write(self, scores: ImageScores | None) -> None:
        if self.fabric.is_global_zero:
            save_weights(
                self.network.state_dict(),
                self.folder / WEIGHTS_FILE,
                metadata={
                    "image_network": self.network.config.to_json(),
                    "training": asdict(self.config),
                    "body": {"family": self.body.family, "gender": self.body.gender, "digest": self.body.digest},
                    "steps": self.number,
                    "validation": {} if scores is None else scores.values(),
                },
            )
        self.fabric.barrier()


_PLOTTED = (
    "loss", "keypoints_3d", "keypoints_2d", "sample_keypoints_2d", "pose", "shape", "orthonormality", "likelihood",
    "adversarial", "critic", "mode_mm", "best_mm",
)  # fmt: skip
