"""Writing files so that no half-written one is ever left behind."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vitruvian.errors import OutputError


def prepare_folder(folder: Path | str) -> Path:
    """Make a folder, with its parents, and make sure that files can be written there, before any work is done.

    Raises:
        OutputError: the folder cannot be made, is a file, or cannot be written to.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        raise OutputError(
            "the output folder cannot be written",
            seen=f"{folder} ({_reason(error)})",
            expected="a folder where you may create files",
            hint="choose another folder with -o OUT",
        ) from None
    return folder


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` when the block ends, and vanishes when it fails.

    The temporary file lies beside the target and keeps its suffix, because writers look at it. Raises OutputError
    where the system refuses.
    """
    path = Path(path)
    prepare_folder(path.parent)
    if path.is_dir():
        raise OutputError("the output file is a folder", seen=path, expected="a file name")
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:32]}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError("a result cannot be written", seen=f"{path} ({_reason(error)})") from error
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
