"""The user's registry of licensed files: copies under one folder, each found by family and gender or side."""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from vitruvian.assets import limits
from vitruvian.errors import ModelFileError, OutputError

_INDEX = "bodies.json"


@dataclass(frozen=True)
class AddedFile:
    """A file in the registry; `variant` is the gender, or the side of a hand."""

    family: str
    variant: str
    path: Path
    digest: str


def home() -> Path:
    """Folder of the user's files: `$VITRUVIAN_HOME`, else the platform's place for application data."""
    chosen = os.environ.get("VITRUVIAN_HOME")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "vitruvian"


def added_files() -> tuple[AddedFile, ...]:
    """All files in the registry.

    Raises:
        ModelFileError: the registry cannot be read.
    """
    index = home() / "bodies" / _INDEX
    if not index.is_file():
        return ()
    try:
        content = limits.read_bytes(index, ModelFileError, limit=limits.MEGABYTE, what="a list of files")
        return tuple(
            AddedFile(
                str(entry["family"]), str(entry["variant"]), index.parent / str(entry["path"]), str(entry["digest"])
            )
            for entry in json.loads(content)
        )
    except (ModelFileError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelFileError(
            f"the registry of body models {index} is damaged",
            seen=error,
            hint="delete it and run `vitruvian body add FILE` for each model again",
        ) from None


def find_added(family: str, variant: str) -> AddedFile | None:
    """The registered file of a family and gender (or side), or None."""
    for entry in added_files():
        if (entry.family, entry.variant) == (family, variant):
            return entry
    return None


def register(path: Path | str, *, family: str, variant: str, companions: Sequence[Path] = ()) -> AddedFile:
    """Copy a model file into the registry, in place of an earlier one of the same family and variant.

    `companions` are copied beside it under their own names.

    Raises:
        ModelFileError: the file cannot be read.
        OutputError: the registry cannot be written.
    """
    path = Path(path)
    folder = home() / "bodies"
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelFileError(f"cannot read {path}", seen=error.strerror or error) from None
    entry = AddedFile(family, variant, folder / f"{family}_{variant}{path.suffix.lower()}", digest)
    others = [e for e in added_files() if (e.family, e.variant) != (family, variant)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source, destination in ((path, entry.path), *((file, folder / file.name) for file in companions)):
            if source.resolve() != destination.resolve():
                _replace(destination, partial(shutil.copyfile, source))
        rows = [{**asdict(e), "path": e.path.name} for e in (*others, entry)]
        _replace(folder / _INDEX, lambda target: target.write_text(json.dumps(rows, indent=1), encoding="utf-8"))
    except OSError as error:
        raise OutputError(
            f"cannot write the registry of body models in {folder}",
            seen=error.strerror or error,
            hint="set VITRUVIAN_HOME to a folder that can be written",
        ) from None
    return entry


def _replace(target: Path, write: Callable[[Path], object]) -> None:
    """Write a file completely before it takes the place of the old one."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    os.close(handle)
    try:
        write(Path(name))
        os.replace(name, target)
    finally:
        Path(name).unlink(missing_ok=True)
