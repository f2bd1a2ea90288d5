"""Speed of the full five-stage expressive fit, Levenberg-Marquardt and L-BFGS side by side, and of the body alone.

python benchmarks/fit_speed.py [--quick] [--json FILE]
"""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table
from synthetic_people import PeopleConfig, draw_people

import vitruvian as vt
from vitruvian.bodies.model import BodyModel
from vitruvian.fits import package_version
from vitruvian.fitting.fit import FitConfig, FittedPeople, fit_keypoints
from vitruvian.fitting.lbfgs import LBFGS
from vitruvian.fitting.parts import body_prior
from vitruvian.geometry.rotations import exp_so3


@dataclass(frozen=True)
class SpeedConfig:
    """Speed of fitting.

    Attributes:
        batches: numbers of people fitted together.
        repeats: runs per batch size; the median counts.
        lbfgs_people: people fitted one at a time by L-BFGS.
        prior: pose prior.
        threads: CPU threads.
        quick: fewer repeats, two people for L-BFGS.
        json: file for the figures.
    """

    batches: tuple[int, ...] = (1, 16, 64, 256)
    repeats: int = 5
    lbfgs_people: int = 8
    prior: str = "hand-set"
    threads: int = 2
    quick: bool = False
    json: Path | None = None


def timed(run: object) -> float:
    """Seconds of one call."""
    begin = time.perf_counter()
    run()  # type: ignore[operator]
    return time.perf_counter() - begin


def main(config: SpeedConfig) -> None:
    if config.quick:
        config = replace(config, repeats=2, lbfgs_people=2)
    torch.set_num_threads(config.threads)
    body = vt.open_body()
    people = draw_people(body, PeopleConfig(count=max(config.batches)))
    prior = body_prior(config.prior, body.skeleton)

    def fit(first: int, count: int, settings: FitConfig) -> FittedPeople:
        rows = slice(first, first + count)
        return fit_keypoints(body, people.keypoints[rows], people.camera[rows], config=settings, prior=prior)

    lm, lbfgs = FitConfig(), FitConfig(solver=LBFGS())
    fit(0, 2, lm)
    lm_ms: dict[str, float] = {}
    for batch in config.batches:
        repeats = max(config.repeats, 8 if batch == 1 else 0)
        times = [timed(lambda b=batch, k=k: fit(k if b == 1 else 0, b, lm)) for k in range(repeats)]
        lm_ms[str(batch)] = float(torch.tensor(times).median()) * 1000 / batch

    ours = [fit(k, 1, lm) for k in range(config.lbfgs_people)]
    times, theirs = [], []
    for k in range(config.lbfgs_people):
        times.append(timed(lambda k=k: theirs.append(fit(k, 1, lbfgs))))
    lbfgs_ms = {"1": float(torch.tensor(times).median()) * 1000}
    objective = {
        "lm": [float(f.cost) for f in ours],
        "lbfgs": [float(f.cost) for f in theirs],
        "iterations_lm": [int(f.iterations) for f in ours],
        "iterations_lbfgs": [int(f.iterations) for f in theirs],
    }
    mesh_ms = {str(batch): time_mesh(body, batch) for batch in (1, 32, 256)}

    table = Table(title=f"full expressive fit, {config.threads} threads, prior {config.prior}")
    table.add_column("batch")
    table.add_column("LM, ms a person", justify="right")
    table.add_column("L-BFGS, ms a person", justify="right")
    for batch, value in lm_ms.items():
        table.add_row(batch, f"{value:.1f}", f"{lbfgs_ms[batch]:.0f}" if batch in lbfgs_ms else "")
    console = Console()
    console.print(table)
    medians = {name: float(torch.tensor(values, dtype=torch.float64).median()) for name, values in objective.items()}
    console.print("median objective and iterations, one at a time:", {k: round(v, 2) for k, v in medians.items()})
    console.print(f"L-BFGS / LM, one at a time: {lbfgs_ms['1'] / lm_ms['1']:.1f} times")
    console.print("mesh, ms a batch:", {k: round(v, 1) for k, v in mesh_ms.items()})
    if config.json is not None:
        figures = {
            "lm_ms_per_person": lm_ms,
            "lbfgs_ms_per_person": lbfgs_ms,
            "objective": objective,
            "mesh_ms": mesh_ms,
            "threads": config.threads,
            "vitruvian": package_version(),
        }
        config.json.write_text(json.dumps(figures, indent=1))


def time_mesh(body: BodyModel, batch: int) -> float:
    """Milliseconds of one forward pass of `batch` bodies to the mesh."""
    generator = torch.Generator().manual_seed(0)
    betas = torch.randn(batch, 10, generator=generator)
    expression = torch.randn(batch, 10, generator=generator)
    rotations = exp_so3(0.3 * torch.randn(batch, body.num_joints, 3, generator=generator))
    with torch.no_grad():
        times = [timed(lambda: body.with_shape(betas, expression).with_pose(rotations).mesh()) for _ in range(7)]
    return float(torch.tensor(times).median()) * 1000


if __name__ == "__main__":
    main(tyro.cli(SpeedConfig))
