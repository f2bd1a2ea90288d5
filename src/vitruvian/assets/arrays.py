"""Reader of array files: npz, npy and pickle files as mappings of arrays, without executing anything."""

import hashlib
import math
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np

from vitruvian.assets.pickles import read_pickle
from vitruvian.errors import ModelFileError, VitruvianError

_NPY_MAGIC = b"\x93NUMPY"
_ZIP_MAGIC = b"PK\x03\x04"


def read_arrays(path: Path | str) -> Mapping[str, Any]:
    """The named arrays of a `.npz`, `.pkl` or `.npy` file; the kind is read from the content, not from the name.

    Object arrays (in official SMPL-X files) and pickles go through `read_pickle`. An `.npy` file must hold a
    dictionary. Values are read when they are asked for.

    Raises:
        ModelFileError: the file is missing, empty, truncated, or no array file.
        UnsafeFileError: the file holds a pickle that names anything but arrays.
    """
    path = Path(path)
    data = _read_bytes(path)
    name = path.name
    if data.startswith(_ZIP_MAGIC):
        return NpzEntries(data, name)
    is_npy = data.startswith(_NPY_MAGIC)
    value = _read_npy(BytesIO(data), len(data), name) if is_npy else read_pickle(data, name=name)
    if isinstance(value, np.ndarray) and value.dtype == object and value.ndim == 0:
        value = value.item()
    if not isinstance(value, Mapping):
        raise ModelFileError(
            f"{name} holds no named arrays", seen=type(value).__name__, expected="a dictionary of arrays"
        )
    return value


def file_digest(path: Path | str) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(_read_bytes(Path(path))).hexdigest()


class NpzEntries(Mapping[str, Any]):
    """The arrays of an npz file, each read when it is asked for."""

    def __init__(self, data: bytes, name: str) -> None:
        self._name = name
        try:
            self._archive = zipfile.ZipFile(BytesIO(data))
        except Exception as error:  # damaged headers raise errors of many kinds
            raise ModelFileError(
                f"{name} is a truncated or damaged npz file", seen=error, hint="copy or download the file again"
            ) from None
        self._members = {member.removesuffix(".npy"): member for member in self._archive.namelist()}

    def __getitem__(self, key: str) -> Any:
        member = self._members[key]
        try:
            with self._archive.open(member) as stream:
                return _read_npy(stream, self._archive.getinfo(member).file_size, f"{self._name}: '{key}'")
        except VitruvianError:
            raise
        except Exception as error:  # those of zipfile, zlib and lzma have no common base
            raise ModelFileError(
                f"{self._name}: '{key}' is damaged", seen=error, hint="copy or download the file again"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"cannot read {path}", seen=error.strerror or error, expected="a readable file") from None
    if not data:
        raise ModelFileError(f"{path} is empty", expected="a model file", hint="copy or download the file again")
    return data


def _read_npy(stream: IO[bytes], size: int, name: str) -> Any:
    """One array in NumPy's own format; `size` bytes are there, header included."""
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, by_column, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, by_column, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"npy format {version}")
    except ValueError as error:
        raise ModelFileError(f"{name} is no array", seen=error) from None
    raw = stream.read()
    if dtype.hasobject:
        return read_pickle(raw, name=name)
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise ModelFileError(
            f"{name} is truncated",
            seen=f"{len(raw)} bytes of {size}",
            expected=f"{math.prod(shape) * dtype.itemsize} bytes for {dtype} of shape {shape}",
            hint="copy or download the file again",
        )
    return np.frombuffer(raw, dtype=dtype).reshape(shape, order="F" if by_column else "C").copy()
