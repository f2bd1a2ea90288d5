"""What is printed: errors with their hints, progress bars, tables of people."""

import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from vitruvian.errors import VitruvianError

if TYPE_CHECKING:
    from vitruvian.apps.failures import Failure

console = Console()
error_console = Console(stderr=True)


def print_error(error: VitruvianError) -> None:
    """Message, what was seen, what was expected, and the hint, one line each."""
    error_console.print(f"[bold red]error[/] {escape(error.message)}", highlight=False, soft_wrap=True)
    for name, value in (("seen", error.seen), ("expected", error.expected), ("hint", error.hint)):
        if value is not None:
            style = "cyan" if name == "hint" else "dim"
            error_console.print(f"  [{style}]{name}[/] {escape(str(value))}", highlight=False, soft_wrap=True)


def print_failures(failures: Sequence["Failure"], what: str) -> None:
    """Each input that could not be used, with its reason and hint; with --debug, where it came from."""
    for failure in failures:
        hint = f" [cyan]({escape(failure.error.hint)})[/]" if failure.error.hint else ""
        line = f"[red]{what}[/] {escape(failure.name)}: {escape(failure.reason)}{hint}"
        console.print(line, highlight=False, soft_wrap=True)
        print_traceback(failure.error)


def print_traceback(error: BaseException) -> None:
    """Where an error came from, if --debug was given."""
    if debug.wanted:
        text = "".join(traceback.format_exception(error))
        error_console.print(escape(text), style="dim", highlight=False, soft_wrap=True)


class _Debug:
    """Whether tracebacks are shown."""

    wanted = False


debug = _Debug()


class Bars:
    """Progress bars, one per step, as a context; call it with step, done and total."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, step: str, done: int, total: int) -> None:
        if total <= 0:
            return
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(step, total=total)
        self._progress.update(self._tasks[step], completed=done, total=total)
