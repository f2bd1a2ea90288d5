"""Reader of array files: npz, npy and pickle files as mappings of arrays, without executing anything.

What a file declares is compared with what it holds, and with the budget in `assets/limits.py`, before it is read.
"""

import hashlib
import io
import itertools
import math
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from vitruvian.assets import limits
from vitruvian.assets.borders import border
from vitruvian.assets.pickles import read_pickle
from vitruvian.errors import ModelFileError, VitruvianError, WeightsError

_NPY_MAGIC = b"\x93NUMPY"
_ZIP_MAGIC = b"PK\x03\x04"
_MAX_HEADER_BYTES = 10_000
_AGAIN = "copy or download the file again"


def read_arrays(path: Path | str) -> Mapping[str, Any]:
    """The named arrays of a `.npz`, `.pkl` or `.npy` file; the kind is read from the content, not from the name.

    Object arrays (in official SMPL-X files) and pickles go through `read_pickle`. An `.npy` file must hold a
    dictionary. Values are read when they are asked for.

    Raises:
        ModelFileError: the file is missing, empty, truncated, no array file, or holds more than `assets/limits.py`
            allows.
        UnsafeFileError: the file holds a pickle that names anything but arrays.
    """
    path = Path(path)
    name = path.name

    def opened() -> BinaryIO:
        return limits.open_file(path, ModelFileError, limit=limits.MAX_MODEL_FILE_BYTES, what="a model file")

    with opened() as stream, border(ModelFileError, name, what="a file of arrays", hint=_AGAIN):
        magic = stream.read(len(_NPY_MAGIC))
        if magic.startswith(_ZIP_MAGIC):
            return NpzEntries(opened, name, limit=limits.MAX_ARRAYS_BYTES)
        stream.seek(0)
        is_npy = magic == _NPY_MAGIC
        value = _read_npy(stream, path.stat().st_size, name) if is_npy else read_pickle(stream, name=name)
    if isinstance(value, np.ndarray) and value.dtype == object and value.ndim == 0:
        value = value.item()
    if not isinstance(value, Mapping):
        raise ModelFileError(
            f"{name} holds no named arrays", seen=type(value).__name__, expected="a dictionary of arrays"
        )
    return value


def read_plain_arrays(source: Path | str | Traversable, *, limit: int = limits.MAX_PLAIN_BYTES) -> dict[str, Any]:
    """All arrays of an `.npz` file of numbers and texts; nothing in it is a pickle.

    Raises:
        ModelFileError: the file is missing, no npz file, damaged, unpacks to more than `limit` bytes, or holds objects.
    """
    source = Path(source) if isinstance(source, str) else source

    def opened() -> IO[bytes]:
        if isinstance(source, Path):
            return limits.open_file(source, ModelFileError, limit=limit, what="an npz file")
        return source.open("rb")

    with border(ModelFileError, source.name, what="an npz file", hint=_AGAIN):
        entries = NpzEntries(opened, source.name, limit=limit, objects=False)
        return dict(entries)


def packaged_arrays(*place: str) -> dict[str, Any]:
    """All arrays of an `.npz` file under `resources/` of the package.

    Raises:
        WeightsError: the file is missing from the installation, or damaged.
    """
    source = files("vitruvian").joinpath("resources", *place)
    if not source.is_file():
        raise WeightsError(f"{place[-1]} is missing from the installation", hint="reinstall vitruvian")
    try:
        return read_plain_arrays(source)
    except ModelFileError as error:
        raise WeightsError(error.message, seen=error.seen, hint="reinstall vitruvian") from error


def file_digest(path: Path | str) -> str:
    """SHA-256 of a file, in hexadecimal."""
    path = Path(path)
    with (
        limits.open_file(path, ModelFileError, limit=limits.MAX_MODEL_FILE_BYTES, what="a model file") as stream,
        border(ModelFileError, path, what="a readable file"),
    ):
        return hashlib.file_digest(stream, "sha256").hexdigest()


class NpzEntries(Mapping[str, Any]):
    """The arrays of an npz file, each read when it is asked for.

    Args:
        opened: opens the file anew.
        name: of the file, for messages.
        limit: bytes that all entries together may unpack to.
        objects: whether entries may be pickles.
    """

    def __init__(self, opened: Callable[[], IO[bytes]], name: str, *, limit: int, objects: bool = True) -> None:
        self._opened, self._name, self._objects = opened, name, objects
        with self._archive(check=True) as archive:
            members = archive.infolist()
        if len(members) > limits.MAX_MEMBERS:
            raise ModelFileError(f"{name} has too many entries", seen=len(members), expected=limits.MAX_MEMBERS)
        packed = [m.filename for m in members if m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]
        if packed:
            raise ModelFileError(f"{name} is packed in a way that NumPy does not use", seen=packed[0])
        size = sum(member.file_size for member in members)
        limits.check_array_bytes(size, ModelFileError, limit=limit, name=name)
        self._members = {member.filename.removesuffix(".npy"): member.filename for member in members}

    def __getitem__(self, key: str) -> Any:
        member, name = self._members[key], f"{self._name}: '{key}'"
        with self._archive() as archive:
            try:
                with archive.open(member) as stream:
                    return _read_npy(stream, archive.getinfo(member).file_size, name, objects=self._objects)
            except VitruvianError:
                raise
            except Exception as error:  # those of zipfile, zlib and lzma have no common base
                raise ModelFileError(f"{name} is damaged", seen=error, hint=_AGAIN) from None

    def __contains__(self, key: object) -> bool:
        return key in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def _archive(self, *, check: bool = False) -> "_Archive":
        stream = self._opened()
        try:
            if check:
                _check_directory(stream)
            return _Archive(stream)
        except Exception as error:  # damaged headers raise errors of many kinds
            stream.close()
            raise ModelFileError(f"{self._name} is a truncated or damaged npz file", seen=error, hint=_AGAIN) from None


class _Archive(zipfile.ZipFile):
    """A zip file that closes the stream it was given."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._given = stream
        super().__init__(stream)

    def close(self) -> None:
        super().close()
        self._given.close()


def _check_directory(stream: IO[bytes]) -> None:
    """Refuse a zip file whose list of entries is larger than any honest one: it is read whole.

    Raises:
        ValueError: there is no such list, or it is too large, or the file has the form for more than 4 GB.
    """
    end = stream.seek(0, io.SEEK_END)
    tail_size = min(end, 2**16 + 22)
    stream.seek(end - tail_size)
    tail = stream.read(tail_size)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        raise ValueError("no list of entries at the end")
    if tail[max(0, at - 20) : at].startswith(b"PK\x06\x07"):
        raise ValueError("the form for more than 4 GB")
    count, size = struct.unpack("<HL", tail[at + 10 : at + 16])
    if size > limits.MAX_MEMBERS * 256:
        raise ValueError(f"a list of {count} entries in {size:,} bytes")
    stream.seek(0)


@dataclass(frozen=True)
class _Header:
    """What an array in NumPy's own format declares."""

    shape: tuple[int, ...]
    by_column: bool
    dtype: np.dtype[Any]
    size: int
    """Bytes of the header itself."""

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _read_npy(stream: IO[bytes], size: int, name: str, *, objects: bool = True) -> Any:
    """One array in NumPy's own format; `size` bytes are there, header included."""
    start = stream.read(min(size, _MAX_HEADER_BYTES))
    try:
        header = _header(start)
    except Exception as error:  # the header is a Python literal: ValueError, SyntaxError, TypeError, RecursionError
        raise ModelFileError(f"{name} is no array", seen=error) from None
    held = size - header.size
    if header.dtype.hasobject:
        if not objects:
            raise ModelFileError(f"{name} holds objects", expected="numbers or texts")
        limits.check_array_bytes(held, ModelFileError, limit=limits.MAX_ENTRY_BYTES // 4, name=name)
        return read_pickle(start[header.size :] + stream.read(held), name=name)
    if header.dtype.kind not in "biufcSU" or any(axis < 0 for axis in header.shape):
        raise ModelFileError(f"{name} is no array", seen=f"{header.dtype} of shape {header.shape}")
    if held != header.num_bytes:
        raise ModelFileError(
            f"{name} is truncated",
            seen=f"{held} bytes",
            expected=f"{header.num_bytes} bytes for {header.dtype} of shape {header.shape}",
            hint=_AGAIN,
        )
    limits.check_array_bytes(held, ModelFileError, limit=limits.MAX_ENTRY_BYTES, name=name)
    if math.prod(header.shape) > limits.MAX_ELEMENTS:
        raise ModelFileError(
            f"{name} has too many values", seen=header.shape, expected=f"at most {limits.MAX_ELEMENTS:,}"
        )
    raw = bytearray(held)
    view, filled = memoryview(raw), 0
    for part in itertools.chain((start[header.size :],), iter(lambda: stream.read(limits.MEGABYTE), b"")):
        view[filled : filled + len(part)] = part
        filled += len(part)
    if filled != held:
        raise ModelFileError(f"{name} is truncated", seen=f"{filled} bytes", expected=f"{held} bytes", hint=_AGAIN)
    if not held:
        return np.zeros(header.shape, header.dtype)
    return np.frombuffer(raw, dtype=header.dtype).reshape(header.shape, order="F" if header.by_column else "C")


def _header(start: bytes) -> _Header:
    """The header at the start of an array; raises whatever NumPy raises for one that is damaged."""
    stream = io.BytesIO(start)
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"npy format {version}")
    length_size, code = (2, "<H") if version == (1, 0) else (4, "<I")
    (length,) = struct.unpack(code, start[8 : 8 + length_size])
    if 8 + length_size + length > len(start):
        raise ValueError(f"a header of {length:,} bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # files written by Python 2 have numbers such as 3L, which NumPy remarks upon
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_column, dtype = read(stream)
    return _Header(shape, by_column, dtype, stream.tell())
