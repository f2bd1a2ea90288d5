"""Plots of the pose distribution's benchmark: best of n, calibration, and the training log.

vitruvian evaluate synthetic --json scores.json
python benchmarks/distribution_plots.py --scores scores.json --log RUN/log.jsonl --out docs/images
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import tyro

mpl.use("Agg")
import matplotlib.pyplot as plt

from vitruvian.training.plots import plot_log

LOGGED = ("keypoints_3d", "keypoints_2d", "likelihood", "hand_likelihood")
NAMES = {
    "constant_flow": "flow, constant scales (ProHMR)",
    "mixture": "mixture density network",
    "cvae": "conditional VAE",
}


@dataclass(frozen=True)
class PlotConfig:
    """What is plotted.

    Attributes:
        scores: file that `vitruvian evaluate synthetic --json` wrote.
        log: log of the training run; no plot of it if not given.
        out: folder for the pictures.
    """

    scores: Path
    log: Path | None = None
    out: Path = Path("docs/images")


def plot_best_of(scores: dict[str, Any], path: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
    models = {"flow, scales from the context": scores} | {NAMES[k]: v for k, v in scores["baselines"].items()}
    for axis, measure, title in zip(axes, ("mpjpe_mm", "pa_mpjpe_mm"), ("MPJPE", "PA-MPJPE"), strict=True):
        for name, values in models.items():
            counts = [int(n) for n in values["best_of"]]
            axis.plot(counts, [values["best_of"][str(n)][measure] for n in counts], marker="o", label=name)
        if "deterministic" in scores:
            axis.axhline(scores["deterministic"][measure], color="0.5", ls="--", label="deterministic")
        axis.set(xscale="log", xlabel="best of n", ylabel=f"{title}, mm", ylim=(0, None))
    axes[0].legend(fontsize=7)
    _save(figure, path)


def plot_calibration(scores: dict[str, Any], path: Path) -> None:
    figure, axis = plt.subplots(figsize=(4, 3.8))
    axis.plot([0, 1], [0, 1], color="0.7", lw=1)
    for part, values in scores["coverage"].items():
        levels = [float(level) for level in values]
        axis.plot(levels, list(values.values()), marker="o", label=part)
    axis.set(
        xlabel="nominal level of the interval",
        ylabel="share of true joint coordinates inside",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    axis.legend(fontsize=8)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(config: PlotConfig) -> None:
    config.out.mkdir(parents=True, exist_ok=True)
    scores = json.loads(config.scores.read_text())
    plot_best_of(scores, config.out / "distribution_best_of.png")
    plot_calibration(scores, config.out / "distribution_calibration.png")
    if config.log is not None:
        plot_log(config.log, config.out / "distribution_training.png", names=LOGGED)


if __name__ == "__main__":
    main(tyro.cli(PlotConfig))
