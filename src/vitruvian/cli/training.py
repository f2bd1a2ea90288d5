"""The commands `train ...`."""

from collections.abc import Mapping

import tyro

from vitruvian.cli.console import Bars, console


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
