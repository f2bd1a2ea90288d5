"""The log of a training run as a picture."""

import json
import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path


def plot_log(log: Path, picture: Path, *, names: Sequence[str] = ()) -> None:
    """Draw logged quantities over the steps, all unless some are named; without matplotlib or a log, do nothing."""
    if find_spec("matplotlib") is None or not log.is_file():
        return
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in log.read_text().splitlines()]
    if rows and not names:
        names = [name for name in rows[-1] if name not in ("step", "seconds")]
    if not rows:
        return
    columns = min(4, len(names))
    lines = math.ceil(len(names) / columns)
    figure = Figure(figsize=(3.2 * columns, 2.3 * lines), layout="tight")
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    for panel, name in zip(panels, names, strict=False):
        known = [row for row in rows if name in row]
        values = [float(row[name]) for row in known]
        panel.plot([row["step"] for row in known], values, lw=1)
        panel.set_ylim(*_range(values))
        panel.set_title(name, fontsize=8)
        panel.tick_params(labelsize=7)
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    figure.savefig(picture, dpi=110)


def _range(values: list[float]) -> tuple[float, float]:
    """Limits that hold all but single outliers, which would flatten the rest of the curve."""
    ordered = sorted(value for value in values if math.isfinite(value)) or [0.0]
    cut = len(ordered) // 50
    low, high = ordered[cut], ordered[len(ordered) - 1 - cut]
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin
