"""The commands `fit` and `demo`."""

from typing import TYPE_CHECKING

import tyro
from rich.markup import escape
from rich.table import Table

from vitruvian.apps.fit_config import Demo, FitPhotographs
from vitruvian.cli.console import Bars, console, print_failures

if TYPE_CHECKING:
    from vitruvian.apps.fit import FitOutcome


def fit(arguments: list[str]) -> int:
    """`vitruvian fit`."""
    config = tyro.cli(FitPhotographs, prog="vitruvian fit", args=arguments)
    from vitruvian.apps.fit import fit_photographs

    with Bars() as bars:
        outcome = fit_photographs(config, progress=bars)
    _summarise(outcome)
    return outcome.exit_code


def demo(arguments: list[str]) -> int:
    """`vitruvian demo`."""
    config = tyro.cli(Demo, prog="vitruvian demo", args=arguments)
    from vitruvian.apps.demo import run_demo

    with Bars() as bars:
        outcome = run_demo(config, progress=bars)
    _summarise(outcome)
    for name, error in outcome.truth_error_mm.items():
        console.print(
            f"{escape(name)} was rendered, so the truth is known: its vertices are {error:.0f} mm off on average "
            "(after alignment).",
            highlight=False,
        )
    console.print(f"Open [bold]{escape(str(outcome.report))}[/] in a browser.", highlight=False, soft_wrap=True)
    return outcome.exit_code


_COLOURS = {"good": "green", "doubtful": "yellow", "bad": "red"}
_LONGEST_TABLE = 40


def _summarise(outcome: "FitOutcome") -> None:
    if len(outcome.fits):
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name, justify in (
            ("picture", "left"),
            ("person", "right"),
            ("verdict", "left"),
            ("body px", "right"),
            ("hands", "right"),
            ("face", "right"),
            ("why", "left"),
        ):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        for one in outcome.fits[:_LONGEST_TABLE]:
            colour = _COLOURS.get(one.verdict, "yellow")
            errors = [
                f"{value:.1f}" if one.usable and value == value else "–" for value in one.reprojection_parts_px.tolist()
            ]
            ended = "" if one.status in ("converged", "no_evidence") else f"{one.status.replace('_', ' ')}; "
            why = escape(f"{ended}{one.reason}".removesuffix("; "))
            table.add_row(escape(one.image), str(one.person), f"[{colour}]{one.verdict}[/]", *errors, why)
        console.print(table)
        if len(outcome.fits) > _LONGEST_TABLE:
            console.print(f"… and {len(outcome.fits) - _LONGEST_TABLE} more in the report")
    for note in outcome.notes:
        console.print(f"[yellow]note[/] {escape(note)}", highlight=False, soft_wrap=True)
    print_failures(outcome.failures, "not fitted")
    good = int(outcome.fits.usable.sum())
    seconds = ", ".join(f"{step} {value:.1f} s" for step, value in outcome.seconds.items())
    console.print(
        f"[bold]{good} of {len(outcome.fits)} people fitted[/] ({seconds}) → {escape(str(outcome.folder))}",
        highlight=False,
        soft_wrap=True,
    )
