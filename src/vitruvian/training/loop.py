"""The training loop: schedule, averaging of weights, logs, resumable checkpoints, for any task that gives a loss."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vitruvian.errors import InputError
from vitruvian.training.checkpoints import read_run, save_run
from vitruvian.training.feed import Feed
from vitruvian.training.plots import plot_log

AVERAGE_EVERY = 10
"""Steps between two updates of the averaged weights."""
WILD = 10.0
"""A gradient this many times larger than usual, or not finite, is thrown away."""


@dataclass(frozen=True)
class LoopConfig:
    """Length and pace of a run."""

    steps: int = 20_000
    """Optimiser steps of the whole run."""
    minutes: float | None = None
    """Time budget: the schedule also ends when this much time has been spent, interruptions not counted."""
    batch_size: int = 512
    learning_rate: float = 1e-3
    """Largest learning rate; it warms up, stays, and falls to zero along a cosine."""
    warmup: float = 0.02
    """Share of the run spent warming up."""
    weight_decay: float = 1e-4
    gradient_clip: float = 1.0
    """Largest norm of the gradient."""
    average: float = 0.999
    """Decay of the running average of the weights, which is what a run yields."""
    log_every: int = 100
    save_every: int = 500
    seed: int = 0
    device: str = "auto"
    """Where the networks compute: `cpu`, `cuda`, or `auto`: a GPU if there is one."""
    workers: int | None = None
    """Threads that make batches ahead of time; None: four where a GPU waits for them, else none."""

    @property
    def chosen_device(self) -> torch.device:
        """The device that `device` means on this machine.

        Raises:
            InputError: no such device, or no GPU.
        """
        gpu = torch.cuda.is_available()
        names = {"auto": "cuda" if gpu else "cpu", "cpu": "cpu", "cuda": "cuda"}
        if self.device not in names or (self.device == "cuda" and not gpu):
            raise InputError("no such device", seen=self.device, expected="auto, cpu" + (", cuda" if gpu else ""))
        return torch.device(names[self.device])


class Task(Protocol):
    """What is trained: modules, numbered batches, and their loss."""

    @property
    def network(self) -> nn.Module:
        """The module whose averaged weights the run yields."""
        ...

    def modules(self) -> Mapping[str, nn.Module]:
        """All modules whose state a checkpoint holds, the network under `network`."""
        ...

    def draw(self, number: int, size: int, seed: int) -> Any:
        """Batch `number` of a seed, tensors on the processor; may be called ahead of time and from other threads."""
        ...

    def loss(self, batch: Any, number: int, seed: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Loss of batch `number`, on the device where it lies, and values to log."""
        ...

    def after_step(self, number: int) -> None:
        """Called after the optimiser's step (a critic trains itself here)."""
        ...


@dataclass(frozen=True)
class LoopResult:
    """Averaged weights, the number of steps taken, and the seconds they took."""

    weights: dict[str, Tensor]
    steps: int
    seconds: float


def schedule(progress: float, *, warmup: float) -> float:
    """Factor on the learning rate at a share `progress` of the run."""
    if progress < warmup:
        return max(progress / warmup, 1e-3)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))


def train(
    task: Task,
    config: LoopConfig,
    folder: Path,
    *,
    report: Callable[[int, float, Mapping[str, float]], None] | None = None,
) -> LoopResult:
    """Train until the steps or the time are used up; continues a run whose checkpoint lies in `folder`.

    Writes `folder/run.pt` (everything needed to go on), `folder/log.jsonl` (one line per `log_every` steps) and, where
    matplotlib is installed, `folder/log.png`.

    Args:
        task: what to train.
        config: pace.
        folder: where the run lives.
        report: called with the step, the progress from 0 to 1, and the mean values since the last call.
    """
    run = _Run(task, config, folder)

    def draw(number: int) -> Any:
        return task.draw(number, config.batch_size, config.seed)

    with Feed(draw, device=config.chosen_device, workers=config.workers) as feed:
        while run.progress < 1:
            values = run.step(feed)
            if run.number % config.log_every == 0:
                means = run.log(values)
                if report is not None:
                    report(run.number, run.progress, means)
            if run.number % config.save_every == 0:
                run.save()
    run.save()
    return LoopResult(run.average, run.number, run.seconds)


class _Run:
    def __init__(self, task: Task, config: LoopConfig, folder: Path) -> None:
        self.task, self.config, self.folder = task, config, folder
        for module in task.modules().values():
            module.to(config.chosen_device)
        network = task.network
        decayed = [p for p in network.parameters() if p.dim() > 1]
        plain = [p for p in network.parameters() if p.dim() <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=config.learning_rate,
            betas=(0.9, 0.99),
            fused=True,
        )
        self.number, self.seconds = 0, 0.0
        self.usual_norm = 0.0
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self.average = {name: t.detach().clone() for name, t in network.state_dict().items()}
        state = read_run(folder / "run.pt")
        if state is not None:
            for name, module in task.modules().items():
                module.load_state_dict(state["modules"][name])
            self.optimizer.load_state_dict(state["optimizer"])
            self.average = {name: t.to(config.chosen_device) for name, t in state["average"].items()}
            self.number, self.seconds = int(state["number"]), float(state["seconds"])

    @property
    def progress(self) -> float:
        by_steps = self.number / self.config.steps
        return by_steps if self.config.minutes is None else max(by_steps, self.seconds / 60 / self.config.minutes)

    def step(self, feed: Feed) -> Mapping[str, Tensor]:
        began = time.monotonic()
        config, network = self.config, self.task.network
        rate = config.learning_rate * schedule(self.progress, warmup=config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        network.train()
        loss, values = self.task.loss(feed.batch(self.number), self.number, config.seed)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
        size = float(norm)
        usual = self.usual_norm or size
        if size <= WILD * usual:  # False for NaN
            self.optimizer.step()
        if math.isfinite(size):  # also after a wild one, so that the loop gets used to lasting change
            self.usual_norm = 0.98 * usual + 0.02 * min(size, WILD * usual)
        self.task.after_step(self.number)
        self.number += 1
        if self.number % AVERAGE_EVERY == 0:
            self._update_average()
        self.seconds += time.monotonic() - began
        values = {**values, "loss": loss.detach(), "gradient_norm": norm.detach()}
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.count += 1
        return values

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.average**AVERAGE_EVERY, (1 + self.number) / (10 + self.number))
        floats, sources = [], []
        for name, tensor in self.task.network.state_dict().items():
            if tensor.is_floating_point():
                floats.append(self.average[name])
                sources.append(tensor)
            else:
                self.average[name].copy_(tensor)
        torch._foreach_lerp_(floats, sources, 1 - decay)

    def log(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        means = {name: float(total) / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        line = {"step": self.number, "seconds": round(self.seconds, 1), **{k: round(v, 6) for k, v in means.items()}}
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log.jsonl").open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        return means

    def save(self) -> None:
        save_run(
            self.folder / "run.pt",
            {
                "modules": {name: module.state_dict() for name, module in self.task.modules().items()},
                "optimizer": self.optimizer.state_dict(),
                "average": self.average,
                "number": self.number,
                "seconds": self.seconds,
            },
        )
        plot_log(self.folder / "log.jsonl", self.folder / "log.png")
