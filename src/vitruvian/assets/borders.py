"""The border of a reader: whatever goes wrong inside, what comes out is an error of ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vitruvian.errors import VitruvianError


@contextmanager
def border(error: type[VitruvianError], name: Path | str, *, what: str, hint: str | None = None) -> Iterator[None]:
    """Run a reader so that it ends in a result or in a `VitruvianError`.

    Libraries that decode files raise errors without a common base, and which of them depends on the damaged byte. Our
    own errors, which know more, pass unchanged; every other one becomes `error`, with the first as its cause.

    Args:
        error: what the family of readers raises.
        name: the file, for the message.
        what: what the file should have been, "a body model".
        hint: what to do about it.
    """
    try:
        yield
    except VitruvianError:
        raise
    except MemoryError as reason:
        raise error(f"{Path(name).name} needs more memory than there is", expected=what, hint=hint) from reason
    except Exception as reason:
        raise error(
            f"{Path(name).name} cannot be read",
            seen=f"{type(reason).__name__}: {reason}" if str(reason) else type(reason).__name__,
            expected=what,
            hint=hint,
        ) from reason
