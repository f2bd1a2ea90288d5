"""How long-running work tells its caller how far it is; the library itself never prints."""

from typing import Protocol


class Progress(Protocol):
    """Called with the step that is running, how much of it is done, and how much there is."""

    def __call__(self, step: str, done: int, total: int) -> None: ...


def silent(step: str, done: int, total: int) -> None:
    """Tell nobody."""
