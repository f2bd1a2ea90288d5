"""The budget of a reader: how much a file may hold, checked before anything is allocated for it.

A file of a few bytes can declare, or unpack to, any amount of memory. Every reader asks here first. With these limits a
hostile file takes at most 1 GB above the start, and 10 seconds; honest files are well inside (the largest official body
model, SMPL-X as a pickle, is 544 MB on disk and has 29 million numbers). docs/reliability.md has the measured figures.
"""

import io
import stat
from pathlib import Path

from vitruvian.errors import VitruvianError

MEGABYTE = 1_000_000

MAX_MODEL_FILE_BYTES = 700 * MEGABYTE
"""A body model file on disk."""
MAX_ENTRY_BYTES = 280 * MEGABYTE
"""One entry of a model file, unpacked; the largest official one (pose directions of SMPL-X) has 122 MB."""
MAX_ARRAYS_BYTES = 600 * MEGABYTE
"""All entries of one model file together, unpacked."""
MAX_PLAIN_BYTES = 256 * MEGABYTE
"""All arrays of a file that is read whole, unpacked: `fits.npz`, statistics, motion."""
MAX_ELEMENTS = 2**25
"""Numbers of one entry: readers turn whatever they find into 8-byte numbers."""
MAX_MEMBERS = 4096
"""Entries of an archive."""

MAX_PICKLE_STEPS = 1_500_000
"""Instructions of a pickle; official model files have some thousands."""
MAX_PICKLE_TEXT = 4096
"""Characters of a key, or of a text that stands beside others; longer ones can only be the data of an array."""
MAX_INTEGER_BYTES = 64
"""Size of an integer in a pickle."""
MAX_KEYS_THAT_ARE_NO_TEXT = 4096
"""Numbers as keys can be chosen so that all collide, which makes a dictionary as slow as its square."""

MAX_JSON_BYTES = 16 * MEGABYTE
"""A JSON file; Python's objects take up to 35 times as much memory."""
MAX_PEOPLE = 1000
"""People in one keypoint file."""

MAX_WEIGHTS_BYTES = 400 * MEGABYTE
"""A file of trained weights; the largest published one that is read has 104 MB."""
MAX_WEIGHTS_HEADER_BYTES = 2 * MEGABYTE
"""The description at the start of a safetensors file."""
MAX_LAYER_SIZE = 8192
"""Width of a layer, or any other number in the description of a network."""
MAX_LAYERS = 64
"""Layers or blocks in the description of a network."""

MAX_DECODED_BYTES = 800 * MEGABYTE
"""Memory of a picture while it is decoded; `keypoints/images.py` knows what a pixel takes in each format."""


def open_file(path: Path, error: type[VitruvianError], *, limit: int, what: str) -> io.BufferedReader:
    """Open a regular file of at most `limit` bytes for reading.

    Raises:
        error: it is missing, a folder, a device or a pipe, not readable, empty, or larger than `limit`.
    """
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            kind = "a folder" if stat.S_ISDIR(state.st_mode) else "a device or a pipe"
            raise error(f"cannot read {path}", seen=kind, expected=f"{what} in a file")
        if state.st_size > limit:
            raise error(
                f"{path.name} is too large for {what}",
                seen=f"{state.st_size / MEGABYTE:.0f} MB",
                expected=f"at most {limit / MEGABYTE:.0f} MB",
            )
        if state.st_size == 0:
            raise error(f"{path} is empty", expected=what, hint="copy or download the file again")
        return path.open("rb")
    except (OSError, ValueError) as reason:  # ValueError: a name with a zero byte
        seen = getattr(reason, "strerror", None) or reason
        raise error(f"cannot read {path}", seen=seen, expected="a readable file") from None


def read_bytes(path: Path, error: type[VitruvianError], *, limit: int, what: str) -> bytes:
    """The content of a file that `open_file` accepts."""
    with open_file(path, error, limit=limit, what=what) as stream:
        try:
            return stream.read(limit + 1)
        except OSError as reason:
            raise error(f"cannot read {path}", seen=reason.strerror or reason) from None


def check_array_bytes(size: int, error: type[VitruvianError], *, limit: int, name: str) -> None:
    """Refuse an array, or a file of arrays, that would take more than `limit` bytes."""
    if size > limit:
        raise error(
            f"{name} would take too much memory",
            seen=f"{size / MEGABYTE:,.0f} MB",
            expected=f"at most {limit / MEGABYTE:.0f} MB",
        )
