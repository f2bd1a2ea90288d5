"""Inputs, and people in them, that could not be used; one of them never costs the others."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vitruvian.errors import MissingPackageError, NoPersonError, VitruvianError

REPORT_IT = "this is a fault of vitruvian; please report it with what --debug shows"


class UnexpectedError(VitruvianError):
    """Something that nobody foresaw went wrong with one input; the cause is attached."""


@dataclass(frozen=True)
class Failure:
    """An input, or a person in it, that could not be used, and why."""

    name: str
    error: VitruvianError

    @property
    def reason(self) -> str:
        """What is wrong, what was seen and what was expected, without the hint."""
        seen = f" ({self.error.seen})" if self.error.seen is not None else ""
        expected = f"; expected: {self.error.expected}" if self.error.expected is not None else ""
        return f"{self.error.message}{seen}{expected}"

    @property
    def unreadable(self) -> bool:
        """Whether the input could not even be read, as against read but holding nobody."""
        return not isinstance(self.error, NoPersonError)


@contextmanager
def setting_aside(name: str, failures: list[Failure], *, while_doing: str) -> Iterator[None]:
    """Work on one input: whatever goes wrong with it becomes a `Failure` in `failures`, and the others go on.

    A missing package concerns all inputs alike, and so does what the user or the system ends: these pass.

    Args:
        name: the input, for people to read.
        failures: grows by one where something goes wrong.
        while_doing: the step, for the message of an error that nobody foresaw.
    """
    try:
        yield
    except MissingPackageError:
        raise
    except VitruvianError as error:
        failures.append(Failure(name, error))
    except Exception as error:
        failures.append(Failure(name, unexpected(error, while_doing=while_doing)))


def unexpected(error: Exception, *, while_doing: str) -> UnexpectedError:
    """An error that nobody foresaw, as one of ours with the first as its cause."""
    kind = type(error).__name__
    found = UnexpectedError(
        f"an unexpected error while {while_doing}", seen=f"{kind}: {error}" if str(error) else kind, hint=REPORT_IT
    )
    found.__cause__ = error
    return found
