"""The folder of a run: held by one run at a time, and never a mixture of two."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vitruvian.errors import OutputError
from vitruvian.output import prepare_folder

PRODUCTS = (
    "fits.npz", "samples.npz", "skeletons.npz", "report.html", "meshes", "overlays", "samples",
)  # fmt: skip
"""What the commands write; nothing else in the folder is ever touched."""
LOCK = ".vitruvian-run.lock"


@contextmanager
def run_folder(folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Make the output folder of a run and hold it while the run lasts.

    Args:
        folder: made with its parents if it is not there.
        overwrite: take away what an earlier run left in it; otherwise such a folder is refused.

    Raises:
        OutputError: the folder cannot be written, another run holds it, or an earlier run left results in it.
    """
    folder = prepare_folder(folder)
    with _held(folder):
        left = [name for name in PRODUCTS if (folder / name).exists()]
        if left and not overwrite:
            raise OutputError(
                "the output folder holds the results of an earlier run",
                seen=f"{folder}: {', '.join(left)}",
                hint="choose another folder with -o OUT, or add --overwrite",
            )
        for name in left:
            _remove(folder / name)
        yield folder


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system gives back even where the process is killed."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    path = folder / LOCK
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OutputError(
                "another run is writing to the output folder",
                seen=folder,
                hint="wait for it, or choose another folder with -o OUT",
            ) from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        raise OutputError(
            "the results of an earlier run cannot be removed", seen=f"{path} ({error.strerror})"
        ) from None
