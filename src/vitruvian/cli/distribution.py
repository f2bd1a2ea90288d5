"""The commands `sample`, `lift`, `evaluate synthetic` and `train flow|lifter|baselines`."""

from collections.abc import Mapping, Sequence
from typing import Any

import tyro

from vitruvian.apps.inputs import Failure
from vitruvian.cli.console import Bars, console, print_error


def sample(arguments: list[str]) -> int:
    """`vitruvian sample`."""
    from vitruvian.apps.distribution_config import SamplePhotographs
    from vitruvian.apps.sample import sample_photographs

    config = tyro.cli(SamplePhotographs, prog="vitruvian sample", args=arguments)
    with Bars() as bars:
        outcome = sample_photographs(config, progress=bars)
    return _told(outcome.failures, 0 if outcome.people is None else len(outcome.people), str(outcome.folder))


def lift(arguments: list[str]) -> int:
    """`vitruvian lift`."""
    from vitruvian.apps.distribution_config import LiftKeypoints
    from vitruvian.apps.lift import lift_keypoints

    config = tyro.cli(LiftKeypoints, prog="vitruvian lift", args=arguments)
    with Bars() as bars:
        outcome = lift_keypoints(config, progress=bars)
    people = 0 if outcome.people is None else outcome.people.skeletons.shape[0]
    return _told(outcome.failures, people, str(outcome.folder))


def _told(failures: Sequence[Failure], people: int, folder: str) -> int:
    """Say what came out; the exit code."""
    for failure in failures:
        print_error(failure.error)
    console.print(f"{people} people, written to {folder}", highlight=False)
    if not failures:
        return 0
    return 1 if people else 2


def evaluate_synthetic(arguments: list[str]) -> int:
    """`vitruvian evaluate synthetic`."""
    from rich.table import Table

    from vitruvian.evaluation import evaluate
    from vitruvian.evaluation.config import EvaluateSynthetic

    config = tyro.cli(EvaluateSynthetic, prog="vitruvian evaluate synthetic", args=arguments)
    with Bars() as bars:
        scores = evaluate.evaluate_synthetic(config, progress=bars).to_json()
    table = Table(title=f"{scores['people']} synthetic people in held-out poses, millimetres")
    for column in ("", "MPJPE", "PA-MPJPE"):
        table.add_column(column, justify="left" if not column else "right")
    for name, values in _error_rows(scores):
        table.add_row(name, f"{values['mpjpe_mm']:.1f}", f"{values['pa_mpjpe_mm']:.1f}")
    console.print(table)
    spread = scores["spread_mm"]
    console.print(f"spread: visible joints {spread['visible']:.0f} mm, hidden joints {spread['hidden']:.0f} mm")
    console.print(f"        hidden joints whose neighbour is hidden too {spread['hidden_limbs']:.0f} mm")
    console.print(f"correlation of entropy with the share of hidden joints: {scores['entropy_correlation']:.2f}")
    return 0


def _error_rows(scores: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Mapping[str, float]]]:
    """Everything in nested scores that holds errors, by its path."""
    rows = []
    for name, value in scores.items():
        if isinstance(value, Mapping):
            path = f"{prefix}{name}"
            if "mpjpe_mm" in value:
                rows.append((path, value))
            else:
                rows += _error_rows(value, f"{path} ")
    return rows


def train_flow(arguments: list[str]) -> int:
    """`vitruvian train flow`."""
    from vitruvian.training.flow_data import TrainFlow, run_flow

    config = tyro.cli(TrainFlow, prog="vitruvian train flow", args=arguments)
    with Bars() as bars:
        result = run_flow(config, report=lambda step, progress, values: bars("train", round(1000 * progress), 1000))
    console.print(f"{result.steps} steps, weights in {config.output}", highlight=False)
    return 0


def train_lifter(arguments: list[str]) -> int:
    """`vitruvian train lifter`."""
    from vitruvian.training.flow_data import TrainLifter, run_lifter

    config = tyro.cli(TrainLifter, prog="vitruvian train lifter", args=arguments)
    with Bars() as bars:
        result = run_lifter(config, report=lambda step, progress, values: bars("train", round(1000 * progress), 1000))
    console.print(f"{result.steps} steps, weights in {config.output}", highlight=False)
    return 0


def train_baselines(arguments: list[str]) -> int:
    """`vitruvian train baselines`."""
    from vitruvian.training.flow_data import TrainBaselines, run_baselines

    config = tyro.cli(TrainBaselines, prog="vitruvian train baselines", args=arguments)
    with Bars() as bars:
        result = run_baselines(
            config, report=lambda step, progress, values: bars("train", round(1000 * progress), 1000)
        )
    console.print(f"{result.steps} steps, weights in {config.output}", highlight=False)
    return 0
