"""Reader of pickles that executes nothing: arrays are rebuilt from inert records, and anything else is refused.

A pickle is a program: it names callables and calls them. Here every name is looked up in a fixed table of stand-ins
that only record what they are given; no module is imported and no callable of NumPy, SciPy, chumpy or Python is ever
reached. When the stream has ended, `rebuild` turns the records into arrays and checks every length.
"""

import math
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, ClassVar, Literal, Self

import numpy as np

from vitruvian.errors import ModelFileError, UnsafeFileError

MAX_ELEMENTS = 2**30
"""Most elements that a sparse matrix of a file may have when written out densely."""

_REBUILD_ERRORS = (TypeError, ValueError, IndexError, OverflowError, RecursionError, MemoryError)


def read_pickle(data: bytes, *, name: str = "the file") -> Any:
    """Read a pickle of dictionaries, lists, numbers, strings, NumPy arrays, chumpy arrays and SciPy sparse matrices.

    Strings of Python 2 are read as Latin-1. A dictionary at the top is returned as a mapping that rebuilds each value
    when it is asked for, so one odd entry does not spoil the others. Sparse matrices become dense arrays.

    Raises:
        UnsafeFileError: the pickle names anything outside the allow-list; nothing has been executed.
        ModelFileError: the pickle is truncated or damaged.
    """
    try:
        value = _InertUnpickler(BytesIO(data), encoding="latin1").load()
    except UnsafeFileError as error:
        raise _refused(name, error.seen) from None
    except Exception as error:
        raise ModelFileError(f"{name} is no readable pickle", seen=f"{type(error).__name__}: {error}") from None
    if isinstance(value, dict):
        return LazyEntries(value, name)
    try:
        return rebuild(value)
    except _REBUILD_ERRORS as error:
        raise ModelFileError(f"{name} cannot be rebuilt", seen=error) from None


class LazyEntries(Mapping[str, Any]):
    """The entries of a pickled dictionary, each rebuilt when it is asked for."""

    def __init__(self, entries: dict[Any, Any], name: str) -> None:
        self._entries = {key: value for key, value in entries.items() if isinstance(key, str)}
        self._name = name

    def __getitem__(self, key: str) -> Any:
        value = self._entries[key]
        try:
            return rebuild(value)
        except _REBUILD_ERRORS as error:
            raise ModelFileError(f"{self._name}: the entry '{key}' cannot be rebuilt", seen=error) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class _Record:
    """A stand-in for an object: keeps what it is given, does nothing."""

    __slots__ = ("args", "state")
    kind: ClassVar[str] = "object"
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any) -> Self:
        self = object.__new__(cls)
        self.args, self.state = args, None
        return self

    def __init__(self, *args: Any) -> None:
        """Takes what `__new__` has kept."""

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Record):
    kind = "array"


class _Dtype(_Record):
    kind = "dtype"


class _Scalar(_Record):
    kind = "scalar"


class _Buffer(_Record):
    kind = "buffer"


class _Sequence(_Record):
    kind = "sequence"


class _Text(_Record):
    kind = "text"


class _Dictionary(_Record):
    """Of the pairs it is made of, or of those that are set later."""

    kind = "dictionary"

    def __setitem__(self, key: Any, value: Any) -> None:
        self.args = ([*(self.args[0] if self.args else ()), (key, value)],)


class _PlainObject(_Record):
    kind = "object"


class _Chumpy(_Record):
    kind = "chumpy"


class _Compressed(_Record):
    """A csr or csc matrix; `by_column` tells which."""

    kind = "compressed"
    by_column: ClassVar[bool] = False


class _CompressedByColumn(_Compressed):
    by_column = True


class _Coordinates(_Record):
    kind = "coordinates"


class _Reconstructor(_Record):
    """`copy_reg._reconstructor(cls, base, state)`: makes a stand-in of a stand-in class."""

    def __new__(cls, *args: Any) -> "_Record":  # type: ignore[misc]
        if not args or not isinstance(args[0], type) or not issubclass(args[0], _Record):
            raise UnsafeFileError("refused", seen="copy_reg._reconstructor of something else than an array")
        return args[0]()


def _numpy_names() -> dict[tuple[str, str], type[_Record]]:
    table: dict[tuple[str, str], type[_Record]] = {("numpy", "ndarray"): _Array, ("numpy", "dtype"): _Dtype}
    for core in ("numpy.core", "numpy._core"):
        table[f"{core}.multiarray", "_reconstruct"] = _Array
        table[f"{core}.multiarray", "scalar"] = _Scalar
        table[f"{core}.numeric", "_frombuffer"] = _Buffer
    return table


def _scipy_names() -> dict[tuple[str, str], type[_Record]]:
    kinds = {"csc": _CompressedByColumn, "csr": _Compressed, "coo": _Coordinates}
    return {
        (module, f"{form}_{noun}"): record
        for form, record in kinds.items()
        for module in ("scipy.sparse", f"scipy.sparse.{form}", f"scipy.sparse._{form}")
        for noun in ("matrix", "array")
    }


def _python_names() -> dict[tuple[str, str], type[_Record]]:
    table: dict[tuple[str, str], type[_Record]] = {
        ("_codecs", "encode"): _Text,
        ("copy_reg", "_reconstructor"): _Reconstructor,
        ("copyreg", "_reconstructor"): _Reconstructor,
        ("collections", "OrderedDict"): _Dictionary,
    }
    for module in ("__builtin__", "builtins"):
        table[module, "object"] = _PlainObject
        for noun in ("set", "frozenset", "bytes", "bytearray"):
            table[module, noun] = _Sequence
    return table


_ALLOWED: Mapping[tuple[str, str], type[_Record]] = {**_numpy_names(), **_scipy_names(), **_python_names()}
_CHUMPY_MODULES = ("chumpy", "chumpy.ch", "chumpy.ch_ops", "chumpy.reordering")


class _InertUnpickler(pickle._Unpickler):
    """The unpickler written in Python: unlike the one in C, all its ways to an object can be closed."""

    def find_class(self, module: str, name: str) -> type[_Record]:
        if module in _CHUMPY_MODULES and name.isidentifier() and name[0].isupper():
            return _Chumpy
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise UnsafeFileError("refused", seen=f"{module}.{name}") from None

    def get_extension(self, code: int) -> None:
        raise UnsafeFileError("refused", seen=f"extension code {code}")

    def persistent_load(self, pid: Any) -> Any:
        raise UnsafeFileError("refused", seen="a reference to an object outside the file")


def _refused(name: str, seen: object) -> UnsafeFileError:
    return UnsafeFileError(
        f"{name} asks for something that is no array, and was not executed",
        seen=seen,
        expected="NumPy arrays, chumpy arrays and SciPy sparse matrices only",
        hint="do not trust this file; get the model again from its official page",
    )


def rebuild(value: Any, depth: int = 0) -> Any:
    """Turn inert records, and the containers that hold them, into arrays and plain Python values.

    Raises ValueError, TypeError or IndexError where a record does not fit together.
    """
    if depth > 32:
        raise ValueError("nested too deeply")
    if isinstance(value, _Record):
        return _REBUILDERS[value.kind](value, depth)
    if isinstance(value, dict):
        return {rebuild(key, depth + 1): rebuild(entry, depth + 1) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(rebuild(entry, depth + 1) for entry in value)
    return value


def _array(record: _Record, depth: int) -> Any:
    if not isinstance(record.state, tuple) or len(record.state) != 5:
        raise ValueError("an array without its data")
    _, shape, dtype_record, by_column, raw = record.state
    return _filled(shape, dtype_record, raw, bool(by_column), depth)


def _buffer(record: _Record, depth: int) -> Any:
    raw, dtype_record, shape, order = record.args
    return _filled(shape, dtype_record, raw, order == "F", depth)


def _filled(shape: Any, dtype_record: Any, raw: Any, by_column: bool, depth: int) -> Any:
    shape = tuple(int(size) for size in shape)
    code = _dtype_code(dtype_record)
    order: Literal["C", "F"] = "F" if by_column else "C"
    if code == "O":
        if not isinstance(raw, list) or len(raw) != math.prod(shape):
            raise ValueError(f"{len(raw)} objects for an array of shape {shape}")
        objects = np.empty(len(raw), dtype=object)
        for row, entry in enumerate(raw):
            objects[row] = rebuild(entry, depth + 1)
        return _numbers_if_possible(objects.reshape(shape, order=order))
    dtype = np.dtype(code)
    raw = _bytes(raw, depth)
    if any(size < 0 for size in shape) or len(raw) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(raw)} bytes for an array of shape {shape} and type {dtype}")
    return np.frombuffer(raw, dtype=dtype).reshape(shape, order=order).copy()


def _numbers_if_possible(objects: np.ndarray) -> Any:
    """An object array of equal numeric arrays or of numbers as one numeric array; others unchanged."""
    if objects.ndim == 0 or not objects.size:
        return objects
    if not all(isinstance(entry, (np.ndarray, np.number, int, float, list)) for entry in objects.flat):
        return objects
    try:
        joined = np.array(objects.tolist())
    except ValueError:
        return objects
    return joined if joined.dtype.kind in "fiub" else objects


def _dtype_code(record: Any) -> str:
    if not isinstance(record, _Dtype) or not record.args or not isinstance(record.args[0], str):
        raise ValueError("an array whose type is not a dtype")
    code, byte_order = record.args[0], "="
    state = record.state
    if state is not None:
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise ValueError(f"array of records, type {code}")
        byte_order = state[1]
    if code in ("O", "O4", "O8", "|O"):
        return "O"
    dtype = np.dtype(code)
    if dtype.kind not in "biufcSU":
        raise ValueError(f"array of type {code}")
    return dtype.newbyteorder(">").str if byte_order == ">" else dtype.str


def _bytes(raw: Any, depth: int) -> bytes:
    raw = rebuild(raw, depth + 1)
    if isinstance(raw, str):
        return raw.encode("latin1")
    if isinstance(raw, (bytes, bytearray, pickle.PickleBuffer)):
        return bytes(raw)
    raise TypeError(f"array data of type {type(raw).__name__}")


def _scalar(record: _Record, depth: int) -> Any:
    dtype_record, *raw = record.args
    code = _dtype_code(dtype_record)
    if code == "O":
        return rebuild(raw[0], depth + 1) if raw else None
    return np.frombuffer(_bytes(raw[0], depth), dtype=np.dtype(code), count=1)[0] if raw else np.dtype(code).type()


def _text(record: _Record, depth: int) -> bytes:
    text, *encoding = record.args
    if not isinstance(text, str) or encoding not in ([], ["latin1"], ["latin-1"]):
        raise ValueError(f"text in the encoding {encoding}")
    return text.encode("latin1")


def _sequence(record: _Record, depth: int) -> Any:
    if not record.args:
        return b""
    return rebuild(record.args[0], depth + 1)


def _dictionary(record: _Record, depth: int) -> dict[Any, Any]:
    return dict(rebuild(list(record.args[0]), depth + 1)) if record.args else {}


def _object(record: _Record, depth: int) -> None:
    return None


def _chumpy(record: _Record, depth: int) -> Any:
    """A chumpy variable holds its array in `x`; a selection `a.ravel()[idxs]` of another one keeps both."""
    state = record.state
    if not isinstance(state, dict):
        raise ValueError("a chumpy object without its data")
    if "x" in state:
        return np.asarray(rebuild(state["x"], depth + 1))
    if "a" in state and "idxs" in state:
        source = np.asarray(rebuild(state["a"], depth + 1)).ravel()
        chosen = source[np.asarray(rebuild(state["idxs"], depth + 1)).astype(np.int64)]
        shape = state.get("preferred_shape")
        return chosen if shape is None else chosen.reshape(tuple(int(size) for size in rebuild(shape, depth + 1)))
    raise ValueError(f"a chumpy expression with {sorted(map(str, state))}")


@dataclass(frozen=True)
class _SparseState:
    shape: tuple[int, int]
    data: np.ndarray
    entries: dict[str, Any]

    @staticmethod
    def of(record: _Record, depth: int, names: tuple[str, ...]) -> "_SparseState":
        state = record.state
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[0], dict):
            state = state[0]
        if not isinstance(state, dict):
            raise ValueError("a sparse matrix without its data")
        entries = {name: rebuild(state[name], depth + 1) for name in ("data", *names) if name in state}
        rows, columns = (int(size) for size in rebuild(state.get("_shape", state.get("shape")), depth + 1))
        if rows < 0 or columns < 0 or rows * columns > MAX_ELEMENTS:
            raise ValueError(f"a sparse matrix of shape {(rows, columns)}")
        missing = [name for name in ("data", *names) if name not in entries]
        if missing:
            raise ValueError(f"a sparse matrix without {', '.join(missing)}")
        return _SparseState((rows, columns), np.asarray(entries["data"]), entries)

    def dense(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        if not len(self.data) == len(rows) == len(columns):
            raise ValueError("a sparse matrix whose indices and data differ in length")
        for index, size in ((rows, self.shape[0]), (columns, self.shape[1])):
            if len(index) and (index.min() < 0 or index.max() >= size):
                raise ValueError("a sparse matrix with an index outside its shape")
        out = np.zeros(self.shape, dtype=self.data.dtype)
        np.add.at(out, (rows, columns), self.data)
        return out


def _compressed(record: _Record, depth: int) -> np.ndarray:
    assert isinstance(record, _Compressed)
    sparse = _SparseState.of(record, depth, ("indices", "indptr"))
    indices, pointers = (np.asarray(sparse.entries[name]).astype(np.int64) for name in ("indices", "indptr"))
    lines = sparse.shape[1 if record.by_column else 0]
    counts = np.diff(pointers)
    if len(pointers) != lines + 1 or pointers[0] != 0 or (counts < 0).any() or pointers[-1] != len(indices):
        raise ValueError("a sparse matrix whose pointers do not fit its shape")
    major = np.repeat(np.arange(lines), counts)
    return sparse.dense(indices, major) if record.by_column else sparse.dense(major, indices)


def _coordinates(record: _Record, depth: int) -> np.ndarray:
    state = record.state
    if isinstance(state, dict) and "coords" in state:
        sparse = _SparseState.of(record, depth, ("coords",))
        rows, columns = sparse.entries["coords"]
    else:
        sparse = _SparseState.of(record, depth, ("row", "col"))
        rows, columns = sparse.entries["row"], sparse.entries["col"]
    return sparse.dense(np.asarray(rows).astype(np.int64), np.asarray(columns).astype(np.int64))


_REBUILDERS = {
    "array": _array,
    "buffer": _buffer,
    "scalar": _scalar,
    "dtype": lambda record, depth: _dtype_code(record),
    "text": _text,
    "sequence": _sequence,
    "dictionary": _dictionary,
    "object": _object,
    "chumpy": _chumpy,
    "compressed": _compressed,
    "coordinates": _coordinates,
}
