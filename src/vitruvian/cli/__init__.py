"""The command line: finds the command, runs it, and turns errors into text and exit codes."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vitruvian.cli.console import console, debug, print_error, print_traceback
from vitruvian.errors import VitruvianError


@dataclass(frozen=True)
class Command:
    """One command: what it does in a line, and where its code is; that is imported only when it runs."""

    summary: str
    module: str
    function: str

    def load(self) -> Callable[[list[str]], int]:
        function: Callable[[list[str]], int] = getattr(importlib.import_module(self.module), self.function)
        return function


COMMANDS = {
    "demo": Command("see it work: a photograph and a rendered person", "vitruvian.cli.fit", "demo"),
    "fit": Command("fit 3D people to photographs or OpenPose files", "vitruvian.cli.fit", "fit"),
    "sample": Command("draw 3D poses that explain a picture", "vitruvian.cli.distribution", "sample"),
    "lift": Command("lift 2D skeletons to 3D", "vitruvian.cli.distribution", "lift"),
    "view": Command("look at fitted people in the browser", "vitruvian.cli.files", "view"),
    "export": Command("write fits as .glb .obj .ply .npz or .bvh", "vitruvian.cli.files", "export"),
    "body info": Command("describe a body model", "vitruvian.cli.bodies", "info"),
    "body add": Command("register a licensed body model file", "vitruvian.cli.bodies", "add"),
    "body convert": Command("write a body model as an SMPL-X .npz", "vitruvian.cli.bodies", "convert"),
    "body learn": Command("learn the open body from registrations", "vitruvian.cli.bodies", "learn"),
    "evaluate synthetic": Command(
        "measure distribution, fits and views on synthetic people", "vitruvian.cli.distribution", "evaluate_synthetic"
    ),
    "train flow": Command("train the pose distribution", "vitruvian.cli.training", "flow"),
    "train image": Command("train the image network of ProHMR", "vitruvian.cli.training", "image"),
    "train lifter": Command("train the lifting of 2D skeletons", "vitruvian.cli.training", "lifter"),
    "train baselines": Command("train what the distribution is compared with", "vitruvian.cli.training", "baselines"),
    "train vposer": Command("train the pose prior on motion capture", "vitruvian.cli.training", "vposer"),
}
USAGE_ERROR = 2
INTERNAL_ERROR = 70
"""As in sysexits.h."""
DEBUG = "--debug"
"""Accepted by every command: show where errors come from."""
QUIET_THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Environment of a command, unless the user chose otherwise, set before PyTorch is loaded.

Threads that wait for each other sleep. By default they spin, and where another program uses the same cores, a fit
of many small operations then takes forty times as long.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns 0 for success, 1 where some inputs failed, 2 for usage errors and unreadable input."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        _print_help()
        return 0 if words else USAGE_ERROR
    if words[0] in ("-V", "--version"):
        from importlib.metadata import version

        console.print(f"vitruvian {version('vitruvian')}", highlight=False)
        return 0
    name = next((name for name in COMMANDS if words[: len(name.split())] == name.split()), None)
    if name is None:
        return _unknown(words)
    for variable, value in QUIET_THREADS.items():
        os.environ.setdefault(variable, value)
    debug.wanted = DEBUG in words
    words = [word for word in words if word != DEBUG]
    try:
        return COMMANDS[name].load()(words[len(name.split()) :])
    except VitruvianError as error:
        print_error(error)
        print_traceback(error)
        return USAGE_ERROR
    except Exception as error:
        if debug.wanted:
            raise
        print_error(_unforeseen(error))
        return INTERNAL_ERROR
    except KeyboardInterrupt:
        console.print("\nstopped")
        return 130


def _unforeseen(error: Exception) -> VitruvianError:
    kind = type(error).__name__
    return VitruvianError(
        "an unexpected error, which is a fault of vitruvian",
        seen=f"{kind}: {error}" if str(error) else kind,
        hint="please report it with what the same command shows with --debug",
    )


def _unknown(words: list[str]) -> int:
    group = [name for name in COMMANDS if name.split()[0] == words[0]]
    if group and (len(words) == 1 or words[1] in ("-h", "--help")):
        _print_help(group)
        return 0 if len(words) > 1 else USAGE_ERROR
    known = ", ".join(group or COMMANDS)
    given = " ".join(words[: 2 if group else 1])
    print_error(VitruvianError("there is no such command", seen=given, expected=known, hint="vitruvian --help"))
    return USAGE_ERROR


def _print_help(names: Sequence[str] = ()) -> None:
    from rich.table import Table

    console.print("[bold]vitruvian[/]: expressive 3D people (body, hands, face) from photographs and 2D keypoints\n")
    table = Table(box=None, show_header=False, padding=(0, 3, 0, 2))
    table.add_column(style="bold cyan", no_wrap=True)
    table.add_column()
    for name in names or COMMANDS:
        table.add_row(name, COMMANDS[name].summary)
    console.print(table)
    console.print("\nExamples", style="bold")
    for example in (
        "vitruvian demo",
        "vitruvian fit photo.jpg -o out",
        "vitruvian fit holiday/ --keypoints holiday_openpose/ -o out",
    ):
        console.print(f"  {example}", highlight=False)
    console.print(
        "\nvitruvian COMMAND --help lists the options of a command; --debug shows where errors come from.",
        highlight=False,
    )


if __name__ == "__main__":
    sys.exit(main())
