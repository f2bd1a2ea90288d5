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
