"""Inert records of what a pickle asks for, and how arrays are rebuilt from them within a budget."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np

from vitruvian.assets import limits
from vitruvian.errors import UnsafeFileError

_MAX_DEPTH = 32
_MAX_VALUES = 2_000_000
"""Values that one entry may hold when every reference to a shared value is written out."""
_ELEMENTS_A_VALUE = 16
"""Numbers of an array that count as one value."""
_MAX_AXES = 32
_MAX_DTYPE_TEXT = 16


class Record:
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


class _Array(Record):
    kind = "array"


class _Dtype(Record):
    kind = "dtype"


class _Scalar(Record):
    kind = "scalar"


class _Buffer(Record):
    kind = "buffer"


class _Sequence(Record):
    kind = "sequence"


class _Text(Record):
    kind = "text"


class Dictionary(Record):
    """Of the pairs it is made of, or of those that are set later."""

    kind = "dictionary"
    __slots__ = ("pairs",)
    pairs: list[tuple[Any, Any]]

    def __new__(cls, *args: Any) -> Self:
        self = super().__new__(cls, *args)
        self.pairs = []
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        self.pairs.append((key, value))


class _PlainObject(Record):
    kind = "object"


class Chumpy(Record):
    kind = "chumpy"


class _Compressed(Record):
    """A csr or csc matrix; `by_column` tells which."""

    kind = "compressed"
    by_column: ClassVar[bool] = False


class _CompressedByColumn(_Compressed):
    by_column = True


class _Coordinates(Record):
    kind = "coordinates"


class _Reconstructor(Record):
    """`copy_reg._reconstructor(cls, base, state)`: makes a stand-in of a stand-in class."""

    def __new__(cls, *args: Any) -> "Record":  # type: ignore[misc]
        if not args or not isinstance(args[0], type) or not issubclass(args[0], Record):
            raise UnsafeFileError("refused", seen="copy_reg._reconstructor of something else than an array")
        return args[0]()


def _numpy_names() -> dict[tuple[str, str], type[Record]]:
    table: dict[tuple[str, str], type[Record]] = {("numpy", "ndarray"): _Array, ("numpy", "dtype"): _Dtype}
    for core in ("numpy.core", "numpy._core"):
        table[f"{core}.multiarray", "_reconstruct"] = _Array
        table[f"{core}.multiarray", "scalar"] = _Scalar
        table[f"{core}.numeric", "_frombuffer"] = _Buffer
    return table


def _scipy_names() -> dict[tuple[str, str], type[Record]]:
    kinds = {"csc": _CompressedByColumn, "csr": _Compressed, "coo": _Coordinates}
    return {
        (module, f"{form}_{noun}"): record
        for form, record in kinds.items()
        for module in ("scipy.sparse", f"scipy.sparse.{form}", f"scipy.sparse._{form}")
        for noun in ("matrix", "array")
    }


def _python_names() -> dict[tuple[str, str], type[Record]]:
    table: dict[tuple[str, str], type[Record]] = {
        ("_codecs", "encode"): _Text,
        ("copy_reg", "_reconstructor"): _Reconstructor,
        ("copyreg", "_reconstructor"): _Reconstructor,
        ("collections", "OrderedDict"): Dictionary,
    }
    for module in ("__builtin__", "builtins"):
        table[module, "object"] = _PlainObject
        for noun in ("set", "frozenset", "bytes", "bytearray"):
            table[module, noun] = _Sequence
    return table


ALLOWED: Mapping[tuple[str, str], type[Record]] = {**_numpy_names(), **_scipy_names(), **_python_names()}


class Keys:
    """Which keys a dictionary or set may have: of types that compare at once, and few whose hashes can be chosen."""

    def __init__(self) -> None:
        self._numbers = 0

    def check(self, key: Any) -> Any:
        """The key itself; raises TypeError or ValueError for one that is refused."""
        if isinstance(key, str) and len(key) <= limits.MAX_PICKLE_TEXT:
            return key
        if isinstance(key, (bytes, int, float)) or key is None:
            self._numbers += 1
            short = not isinstance(key, bytes) or len(key) <= limits.MAX_PICKLE_TEXT
            if short and self._numbers <= limits.MAX_KEYS_THAT_ARE_NO_TEXT:
                return key
            raise ValueError("too many keys that are no text" if short else "a key that is too long")
        raise TypeError(f"a key of type {type(key).__name__}")


class Rebuilder:
    """Turns the records of one entry, and the containers that hold them, into arrays and plain Python values.

    A value that the pickle refers to twice is rebuilt once. Nested references can still describe any number of values
    in a few bytes, so they are counted as if they were written out, before any array is made of them.
    """

    def __init__(self) -> None:
        self._made: dict[int, tuple[Any, Any]] = {}
        """By identity of the source: the source, kept alive so that no other gets its identity, and its result."""
        self._counts: dict[int, int] = {}
        """By identity of the result: the values it holds."""
        self._open: set[int] = set()
        self._bytes = 0
        self._keys = Keys()

    def rebuild(self, value: Any) -> Any:
        """The plain value. Raises ValueError, TypeError or IndexError where a record does not fit together."""
        if isinstance(value, type):
            raise TypeError("the name of a class instead of a value")
        if not isinstance(value, (Record, dict, list, tuple, set, frozenset)):
            return value
        identity = id(value)
        if identity in self._made:
            return self._made[identity][1]
        if identity in self._open or len(self._open) > _MAX_DEPTH:
            raise ValueError("nested too deeply")
        self._open.add(identity)
        result = _REBUILDERS[value.kind](value, self) if isinstance(value, Record) else self._container(value)
        self._open.remove(identity)
        self._made[identity] = (value, result)
        self._counts[id(result)] = self._count(result)
        return result

    def data(self, raw: Any) -> bytes:
        """The bytes of an array, which Python 2 kept as text."""
        if isinstance(raw, Record):
            raw = _REBUILDERS[raw.kind](raw, self)
        if isinstance(raw, str):
            return raw.encode("latin1")
        if isinstance(raw, (bytes, bytearray)):
            return bytes(raw)
        raise TypeError(f"array data of type {type(raw).__name__}")

    def key(self, key: Any) -> Any:
        """A key of a dictionary, as plain value."""
        return self._keys.check(self.data(key) if isinstance(key, _Text) else key)

    def spend(self, size: int) -> None:
        """Count bytes of an array before it is made."""
        self._bytes += size
        if size < 0 or self._bytes > limits.MAX_ENTRY_BYTES:
            raise ValueError(f"arrays of more than {limits.MAX_ENTRY_BYTES / limits.MEGABYTE:.0f} MB")

    def _container(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self.key(key): self.rebuild(entry) for key, entry in value.items()}
        if isinstance(value, (set, frozenset)):
            return type(value)(self.key(entry) for entry in value)
        return type(value)(self.rebuild(entry) for entry in value)

    def _count(self, result: Any) -> int:
        if isinstance(result, np.ndarray):
            return 1 + result.size // _ELEMENTS_A_VALUE
        if not isinstance(result, (dict, list, tuple, set, frozenset)):
            return 1
        parts = result.values() if isinstance(result, dict) else result
        total = 1 + sum(self._counts.get(id(part), 1) for part in parts)
        if total > _MAX_VALUES:
            raise ValueError(f"more than {_MAX_VALUES:,} values")
        return total


def numeric_array(value: Any) -> np.ndarray:
    """Numbers, arrays, and nested lists of these as one array; arrays come back as they are.

    Raises:
        TypeError: anything else is among them: NumPy would pad texts to the longest one.
        ValueError: the lists are ragged.
    """
    if isinstance(value, np.ndarray):
        return value
    waiting = [value]
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, (list, tuple)):
            waiting.extend(entry)
        elif not isinstance(entry, (np.ndarray, np.number, np.bool_, int, float)):
            raise TypeError(f"{type(entry).__name__} instead of a number")
    return np.asarray(value)


def _array(record: Record, r: Rebuilder) -> Any:
    if not isinstance(record.state, tuple) or len(record.state) != 5:
        raise ValueError("an array without its data")
    _, shape, dtype_record, by_column, raw = record.state
    return _filled(shape, dtype_record, raw, bool(by_column), r)


def _buffer(record: Record, r: Rebuilder) -> Any:
    raw, dtype_record, shape, order = record.args
    return _filled(shape, dtype_record, raw, order == "F", r)


def _filled(shape: Any, dtype_record: Any, raw: Any, by_column: bool, r: Rebuilder) -> Any:
    if not isinstance(shape, (tuple, list)) or len(shape) > _MAX_AXES:
        raise ValueError("an array without a shape")
    shape = tuple(int(size) for size in shape)
    code = _dtype_code(dtype_record)
    order: Literal["C", "F"] = "F" if by_column else "C"
    if any(size < 0 for size in shape):
        raise ValueError(f"an array of shape {shape}")
    if code == "O":
        if not isinstance(raw, list) or len(raw) != math.prod(shape):
            raise ValueError(f"the wrong number of objects for an array of shape {shape}")
        objects = np.empty(len(raw), dtype=object)
        for row, entry in enumerate(raw):
            objects[row] = r.rebuild(entry)
        return _numbers_if_possible(objects.reshape(shape, order=order), r)
    dtype = np.dtype(code)
    raw = r.data(raw)
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(raw)} bytes for an array of shape {shape} and type {dtype}")
    r.spend(len(raw))
    return np.frombuffer(raw, dtype=dtype).reshape(shape, order=order).copy()


def _numbers_if_possible(objects: np.ndarray, r: Rebuilder) -> Any:
    """An object array of equal numeric arrays or of numbers as one numeric array; others unchanged."""
    if objects.ndim == 0 or not objects.size:
        return objects
    r.spend(8 * sum(entry.size if isinstance(entry, np.ndarray) else 1 for entry in objects.flat))
    try:
        joined = numeric_array(objects.tolist())
    except (TypeError, ValueError):
        return objects
    return joined if joined.dtype.kind in "fiub" else objects


def _dtype_code(record: Any) -> str:
    if not isinstance(record, _Dtype) or not record.args or not isinstance(record.args[0], str):
        raise ValueError("an array whose type is not a dtype")
    code, byte_order = record.args[0], "="
    if len(code) > _MAX_DTYPE_TEXT:
        raise ValueError("an array whose type is not a dtype")
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


def _scalar(record: Record, r: Rebuilder) -> Any:
    dtype_record, *raw = record.args
    code = _dtype_code(dtype_record)
    if code == "O":
        return r.rebuild(raw[0]) if raw else None
    return np.frombuffer(r.data(raw[0]), dtype=np.dtype(code), count=1)[0] if raw else np.dtype(code).type()


def _text(record: Record, r: Rebuilder) -> bytes:
    text, *encoding = record.args
    if not isinstance(text, str) or encoding not in ([], ["latin1"], ["latin-1"]):
        raise ValueError("text in an unknown encoding")
    return text.encode("latin1")


def _sequence(record: Record, r: Rebuilder) -> Any:
    return r.rebuild(record.args[0]) if record.args else b""


def _dictionary(record: Record, r: Rebuilder) -> dict[Any, Any]:
    assert isinstance(record, Dictionary)
    given = record.args[0] if record.args else ()
    return {r.key(key): r.rebuild(entry) for key, entry in (*given, *record.pairs)}


def _object(record: Record, r: Rebuilder) -> None:
    return None


def _chumpy(record: Record, r: Rebuilder) -> Any:
    """A chumpy variable holds its array in `x`; a selection `a.ravel()[idxs]` of another one keeps both."""
    state = record.state
    if not isinstance(state, dict):
        raise ValueError("a chumpy object without its data")
    if "x" in state:
        return numeric_array(r.rebuild(state["x"]))
    if "a" in state and "idxs" in state:
        source, rows = (numeric_array(r.rebuild(state[name])) for name in ("a", "idxs"))
        r.spend(rows.size * source.itemsize)
        chosen = source.ravel()[rows.astype(np.int64)]
        shape = state.get("preferred_shape")
        return chosen if shape is None else chosen.reshape(tuple(int(size) for size in r.rebuild(shape)))
    raise ValueError(f"a chumpy expression with {sorted(map(str, state))}")


@dataclass(frozen=True)
class _SparseState:
    shape: tuple[int, int]
    data: np.ndarray
    entries: dict[str, Any]

    @staticmethod
    def of(record: Record, r: Rebuilder, names: tuple[str, ...]) -> "_SparseState":
        state = record.state
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[0], dict):
            state = state[0]
        if not isinstance(state, dict):
            raise ValueError("a sparse matrix without its data")
        entries = {name: r.rebuild(state[name]) for name in ("data", *names) if name in state}
        missing = [name for name in ("data", *names) if name not in entries]
        if missing:
            raise ValueError(f"a sparse matrix without {', '.join(missing)}")
        rows, columns = (int(size) for size in r.rebuild(state.get("_shape", state.get("shape"))))
        data = numeric_array(entries["data"])
        if rows < 0 or columns < 0 or data.ndim != 1 or data.dtype.kind not in "biuf":
            raise ValueError(f"a sparse matrix of shape {(rows, columns)}")
        r.spend(rows * columns * data.itemsize)
        return _SparseState((rows, columns), data, entries)

    def indices(self, name: str) -> np.ndarray:
        values = numeric_array(self.entries[name])
        if values.ndim != 1 or values.dtype.kind not in "iu":
            raise ValueError(f"a sparse matrix whose {name} are no list of whole numbers")
        return values.astype(np.int64)

    def dense(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        if not len(self.data) == len(rows) == len(columns):
            raise ValueError("a sparse matrix whose indices and data differ in length")
        for index, size in ((rows, self.shape[0]), (columns, self.shape[1])):
            if len(index) and (index.min() < 0 or index.max() >= size):
                raise ValueError("a sparse matrix with an index outside its shape")
        out = np.zeros(self.shape, dtype=self.data.dtype)
        np.add.at(out, (rows, columns), self.data)
        return out


def _compressed(record: Record, r: Rebuilder) -> np.ndarray:
    assert isinstance(record, _Compressed)
    sparse = _SparseState.of(record, r, ("indices", "indptr"))
    indices, pointers = sparse.indices("indices"), sparse.indices("indptr")
    lines = sparse.shape[1 if record.by_column else 0]
    counts = np.diff(pointers)
    if len(pointers) != lines + 1 or pointers[0] != 0 or (counts < 0).any() or pointers[-1] != len(indices):
        raise ValueError("a sparse matrix whose pointers do not fit its shape")
    major = np.repeat(np.arange(lines), counts)
    return sparse.dense(indices, major) if record.by_column else sparse.dense(major, indices)


def _coordinates(record: Record, r: Rebuilder) -> np.ndarray:
    state = record.state
    if isinstance(state, dict) and "coords" in state:
        sparse = _SparseState.of(record, r, ("coords",))
        rows, columns = (numeric_array(axis).astype(np.int64) for axis in sparse.entries["coords"])
    else:
        sparse = _SparseState.of(record, r, ("row", "col"))
        rows, columns = sparse.indices("row"), sparse.indices("col")
    return sparse.dense(rows, columns)


_REBUILDERS: Mapping[str, Callable[[Any, Rebuilder], Any]] = {
    "array": _array,
    "buffer": _buffer,
    "scalar": _scalar,
    "dtype": lambda record, r: _dtype_code(record),
    "text": _text,
    "sequence": _sequence,
    "dictionary": _dictionary,
    "object": _object,
    "chumpy": _chumpy,
    "compressed": _compressed,
    "coordinates": _coordinates,
}
