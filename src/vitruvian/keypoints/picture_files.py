"""Which files of a folder are pictures, and what the others are that people take for pictures."""

import importlib
from dataclasses import dataclass
from pathlib import Path

from vitruvian.errors import InputError, MissingPackageError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".jp2", ".mpo")
AVIF_SUFFIXES = (".avif",)
HEIF_SUFFIXES = (".heic", ".heif", ".hif")
"""Pictures of phones; read where the package pillow-heif is installed."""
HEIF_HINT = 'pip install "vitruvian[heif]", or convert the pictures to JPEG'
NOT_READ = {
    **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"), "a video; cut it into pictures first"),
    **dict.fromkeys(
        (".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf"), "a raw file; convert it to JPEG first"
    ),
    **dict.fromkeys(
        (".tga", ".psd", ".svg", ".ico", ".exr", ".hdr", ".jxl", ".eps", ".pdf", ".ai"),
        "a format that is not read; convert it to JPEG or PNG first",
    ),
}
"""What other pictures are, by suffix."""


@dataclass(frozen=True)
class SkippedFile:
    """A file that looks like a picture but is left out, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class FolderPictures:
    """The pictures of a folder in the order of their names, and the files left out; other files are not mentioned."""

    files: tuple[Path, ...]
    skipped: tuple[SkippedFile, ...]


def folder_pictures(folder: str | Path) -> FolderPictures:
    """The pictures in a folder, by the suffix of their names.

    Raises:
        InputError: there is no such folder, or it cannot be listed.
    """
    folder = Path(folder)
    try:
        entries = sorted(folder.iterdir()) if folder.is_dir() else None
    except OSError as error:
        raise InputError("the folder cannot be listed", seen=f"{folder}: {error.strerror}") from error
    if entries is None:
        raise InputError("not a folder of pictures", seen=folder, expected="a folder")
    files: list[Path] = []
    skipped: list[SkippedFile] = []
    for file in entries:
        reason = _reason(file)
        if reason is None:
            files.append(file)
        elif reason:
            skipped.append(SkippedFile(file, reason))
    return FolderPictures(tuple(files), tuple(skipped))


def image_files(folder: str | Path) -> tuple[Path, ...]:
    """The pictures of `folder_pictures`, without what was left out."""
    return folder_pictures(folder).files


def _reason(file: Path) -> str | None:
    """Why a file is left out: None for a picture, empty for what nobody takes for one."""
    suffix = file.suffix.lower()
    is_picture = suffix in (*IMAGE_SUFFIXES, *AVIF_SUFFIXES, *HEIF_SUFFIXES)
    if not is_picture and suffix not in NOT_READ:
        return ""
    if file.is_symlink() and not file.exists():
        return "a link to a file that does not exist"
    if not file.is_file():
        return "" if file.is_dir() else "no regular file"
    if suffix in HEIF_SUFFIXES and not heif_is_read():
        return f"a HEIF picture: {HEIF_HINT}"
    return None if is_picture else NOT_READ[suffix]


def heif_is_read() -> bool:
    """Whether HEIF pictures can be read; registers the reader the first time."""
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return False
    return True


def prepare_for(path: Path) -> None:
    """Make the reader of a picture's format known to Pillow.

    Raises:
        MissingPackageError: the picture is a HEIF one and the extra is not installed.
    """
    if path.suffix.lower() in HEIF_SUFFIXES and not heif_is_read():
        raise MissingPackageError("HEIF pictures need another package", seen=path.name, hint=HEIF_HINT)
