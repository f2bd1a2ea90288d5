"""The commands `train ...`."""

from collections.abc import Mapping
from typing import Any, Protocol

import tyro

from vitruvian.cli.console import Bars, console


class Training(Protocol):
    """A training command: runs to its end, reports steps, and says how many there were."""

    def __call__(self, config: Any, *, report: "Report | None" = None) -> "Steps":
        """Train as configured."""
        ...


class Report(Protocol):
    """What a run calls after a step: its number, the share that is done, and figures."""

    def __call__(self, step: int, progress: float, values: Mapping[str, float], /) -> None: ...


class Steps(Protocol):
    """A result that knows the number of its steps."""

    @property
    def steps(self) -> int: ...


def flow(arguments: list[str]) -> int:
    """`vitruvian train flow`."""
    from vitruvian.training.flow_data import TrainFlow, run_flow

    return _train("flow", TrainFlow, run_flow, arguments)


def lifter(arguments: list[str]) -> int:
    """`vitruvian train lifter`."""
    from vitruvian.training.flow_data import TrainLifter, run_lifter

    return _train("lifter", TrainLifter, run_lifter, arguments)


def baselines(arguments: list[str]) -> int:
    """`vitruvian train baselines`."""
    from vitruvian.training.flow_data import TrainBaselines, run_baselines

    return _train("baselines", TrainBaselines, run_baselines, arguments)


def vposer(arguments: list[str]) -> int:
    """`vitruvian train vposer`."""
    from vitruvian.training.vposer import VPoserConfig, train_vposer

    config = tyro.cli(VPoserConfig, prog="vitruvian train vposer", args=arguments)
    with Bars() as bars:

        def report(step: int, seconds: float, losses: Mapping[str, float]) -> None:
            bars("train", step, config.loop.steps)

        errors = train_vposer(config, report=report)
    console.print(f"held-out poses: joints {errors.joint_mm:.1f} mm, angles {errors.angle_deg:.1f}°", highlight=False)
    return 0


def image(arguments: list[str]) -> int:
    """`vitruvian train image`."""
    from vitruvian.training.image_data import TrainImage, run_image

    config = tyro.cli(TrainImage, prog="vitruvian train image", args=arguments)
    with Bars() as bars:

        def report(step: int, progress: float, values: Mapping[str, float]) -> None:
            bars("train", step, config.training.steps)

        result = run_image(config, report=report)
    if result.scores is not None:
        values = result.scores.values()
        console.print(
            f"validation: mode {values['mode_mm']:.1f} mm, best of nine {values['best_mm']:.1f} mm", highlight=False
        )
    console.print(f"{result.steps} steps, weights in {config.output}", highlight=False)
    return 0


def _train(name: str, configuration: Any, run: Training, arguments: list[str]) -> int:
    """Run a training command with its bar; the weights are in the folder that its configuration names."""
    config = tyro.cli(configuration, prog=f"vitruvian train {name}", args=arguments)
    with Bars() as bars:
        result = run(config, report=lambda step, progress, values: bars("train", round(1000 * progress), 1000))
    console.print(f"{result.steps} steps, weights in {config.output}", highlight=False)
    return 0
