"""Reader of pickles that executes nothing: arrays are rebuilt from inert records, and anything else is refused.

A pickle is a program: it names callables and calls them. Here every name is looked up in a fixed table of stand-ins
that only record what they are given; no module is imported and no callable of NumPy, SciPy, chumpy or Python is ever
reached. When the stream has ended, the records are turned into arrays and every length is checked. The program is
metered while it runs: its steps, the lengths that it declares, its numbers and its keys have limits.
"""

import io
import pickle
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from vitruvian.assets import limits
from vitruvian.assets.pickle_records import ALLOWED, Chumpy, Dictionary, Keys, Rebuilder, Record
from vitruvian.errors import ModelFileError, UnsafeFileError, VitruvianError

_REBUILD_ERRORS = (TypeError, ValueError, IndexError, OverflowError, RecursionError, MemoryError)
_SMALL = 4096
"""Bytes that may be asked for beyond the end: asking costs nothing."""
_CHUMPY_MODULES = ("chumpy", "chumpy.ch", "chumpy.ch_ops", "chumpy.reordering")


def read_pickle(source: bytes | BinaryIO, *, name: str = "the file") -> Any:
    """Read a pickle of dictionaries, lists, numbers, strings, NumPy arrays, chumpy arrays and SciPy sparse matrices.

    Strings of Python 2 are read as Latin-1. A dictionary at the top is returned as a mapping that rebuilds each value
    when it is asked for, so one odd entry does not spoil the others. Sparse matrices become dense arrays.

    Raises:
        UnsafeFileError: the pickle names anything outside the allow-list; nothing has been executed.
        ModelFileError: the pickle is truncated or damaged, or asks for more than `assets/limits.py` allows.
    """
    try:
        value = _InertUnpickler(_Stream(io.BytesIO(source) if isinstance(source, bytes) else source)).load()
    except UnsafeFileError as error:
        raise _refused(name, error.seen) from None
    except Exception as error:
        raise ModelFileError(f"{name} is no readable pickle", seen=f"{type(error).__name__}: {error}") from None
    if isinstance(value, dict):
        return LazyEntries(value, name)
    try:
        return Rebuilder().rebuild(value)
    except _REBUILD_ERRORS as error:
        raise ModelFileError(f"{name} cannot be rebuilt", seen=error) from None


@dataclass(frozen=True)
class Trial:
    """What a pickle says when every name in it is a stand-in."""

    value: Any
    references: tuple[Any, ...]
    """To objects outside the pickle."""


def check_pickle(stream: BinaryIO, *, error: type[VitruvianError], name: str) -> Trial:
    """Run the pickle at the stream's position with nothing but stand-ins, as a trial of its size.

    For files that another reader will open, which has no limits of its own: whatever the pickle names is a stand-in
    here, so this says nothing about what the other reader would execute. The stream is left after the pickle.

    Raises:
        error: the pickle is damaged, or asks for more than `assets/limits.py` allows.
    """
    unpickler = _TrialUnpickler(_Stream(stream))
    try:
        return Trial(unpickler.load(), tuple(unpickler.references))
    except Exception as reason:
        raise error(f"{name} holds no readable pickle", seen=f"{type(reason).__name__}: {reason}") from None


def _refused(name: str, seen: object) -> UnsafeFileError:
    return UnsafeFileError(
        f"{name} asks for something that is no array, and was not executed",
        seen=seen,
        expected="NumPy arrays, chumpy arrays and SciPy sparse matrices only",
        hint="do not trust this file; get the model again from its official page",
    )


class LazyEntries(Mapping[str, Any]):
    """The entries of a pickled dictionary, each rebuilt when it is asked for."""

    def __init__(self, entries: dict[Any, Any], name: str) -> None:
        self._entries = {key: value for key, value in entries.items() if isinstance(key, str)}
        self._name = name

    def __getitem__(self, key: str) -> Any:
        value = self._entries[key]
        try:
            return Rebuilder().rebuild(value)
        except _REBUILD_ERRORS as error:
            raise ModelFileError(f"{self._name}: the entry '{key}' cannot be rebuilt", seen=error) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class _Stream:
    """A stream that is asked for no more than it has: to ask is to allocate."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        position = stream.tell()
        self._end = stream.seek(0, io.SEEK_END)
        stream.seek(position)
        self.readline = stream.readline

    def read(self, size: int) -> bytes:
        if size > _SMALL and size > self._end - self._stream.tell():
            raise EOFError(f"{size:,} bytes are declared beyond the end")
        return self._stream.read(size)


class _Steps(dict[int, Callable[..., None]]):
    """The table of a pickle's instructions, which counts how often it is asked."""

    left = limits.MAX_PICKLE_STEPS

    def __getitem__(self, code: int) -> Callable[..., None]:
        self.left -= 1
        if self.left < 0:
            raise ValueError(f"more than {limits.MAX_PICKLE_STEPS:,} steps")
        return super().__getitem__(code)


class _InertUnpickler(pickle._Unpickler):
    """The unpickler written in Python: unlike the one in C, all its ways to an object can be closed."""

    stack: list[Any]
    memo: dict[int, Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]
    readline: Callable[[], bytes]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, stream: _Stream) -> None:
        super().__init__(stream, encoding="latin1")
        self.dispatch = _Steps({**pickle._Unpickler.dispatch, **_METERED})  # type: ignore[misc]
        self.keys = Keys()

    def find_class(self, module: str, name: str) -> type[Record]:
        if module in _CHUMPY_MODULES and name.isidentifier() and name[0].isupper():
            return Chumpy
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise UnsafeFileError("refused", seen=f"{module}.{name}") from None

    def get_extension(self, code: int) -> None:
        raise UnsafeFileError("refused", seen=f"extension code {code}")

    def persistent_load(self, pid: Any) -> Any:
        raise UnsafeFileError("refused", seen="a reference to an object outside the file")


class _TrialUnpickler(_InertUnpickler):
    """Takes every name for a stand-in, and keeps every reference to the outside."""

    def __init__(self, stream: _Stream) -> None:
        super().__init__(stream)
        self.references: list[Any] = []

    def find_class(self, module: str, name: str) -> type[Record]:
        return Dictionary

    def persistent_load(self, pid: Any) -> Any:
        self.references.append(pid)
        return Record(pid)


def _frame(self: _InertUnpickler) -> None:
    """Frames only tell how much to read ahead."""
    self.read(8)


def _text(length_bytes: int) -> Callable[[_InertUnpickler], None]:
    def load(self: _InertUnpickler) -> None:
        raw = self.read(int.from_bytes(self.read(length_bytes), "little"))
        # A long text is the data of an array, one byte a character; one character above 255 would make it four.
        if len(raw) > limits.MEGABYTE and int(np.frombuffer(raw, np.uint8).max()) > 0xC3:
            raise ValueError(f"a text of {len(raw):,} bytes that is no data")
        self.append(str(raw, "utf-8", "surrogatepass"))

    return load


def _escaped_text(self: _InertUnpickler) -> None:
    raw = self.readline()[:-1]
    if len(raw) > limits.MEGABYTE:
        raise ValueError(f"a text of {len(raw):,} bytes that is no data")
    self.append(str(raw, "raw-unicode-escape"))


def _byte_array(self: _InertUnpickler) -> None:
    (length,) = struct.unpack("<Q", self.read(8))
    self.append(bytearray(self.read(length)))


def _integer(code: bytes) -> Callable[[_InertUnpickler], None]:
    load = pickle._Unpickler.dispatch[code[0]]

    def load_checked(self: _InertUnpickler) -> None:
        load(self)  # type: ignore[arg-type]
        if self.stack[-1].bit_length() > 8 * limits.MAX_INTEGER_BYTES:
            raise ValueError(f"a whole number of {self.stack[-1].bit_length()} bits")

    return load_checked


def _memo(self: _InertUnpickler) -> None:
    number = int(self.readline()[:-1])
    if not 0 <= number < limits.MAX_PICKLE_STEPS:  # chosen numbers can all collide
        raise ValueError(f"the memo number {number}")
    self.memo[number] = self.stack[-1]


def _set_item(self: _InertUnpickler) -> None:
    value, key = self.stack.pop(), self.stack.pop()
    _fill(self, [key, value])


def _set_items(self: _InertUnpickler) -> None:
    _fill(self, self.pop_mark())


def _dictionary(self: _InertUnpickler) -> None:
    items = self.pop_mark()
    self.append({})
    _fill(self, items)


def _fill(self: _InertUnpickler, items: list[Any]) -> None:
    target = self.stack[-1]
    if not isinstance(target, (dict, Dictionary)):
        raise TypeError(f"items for a {type(target).__name__}")
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[key if isinstance(key, Record) else self.keys.check(key)] = value


def _add_items(self: _InertUnpickler) -> None:
    items = self.pop_mark()
    target = self.stack[-1]
    if not isinstance(target, set):
        raise TypeError(f"members for a {type(target).__name__}")
    target.update(item if isinstance(item, Record) else self.keys.check(item) for item in items)


def _frozen_set(self: _InertUnpickler) -> None:
    items = self.pop_mark()
    self.append(frozenset(item if isinstance(item, Record) else self.keys.check(item) for item in items))


_METERED: Mapping[int, Callable[[_InertUnpickler], None]] = {
    pickle.FRAME[0]: _frame,
    pickle.UNICODE[0]: _escaped_text,
    pickle.SHORT_BINUNICODE[0]: _text(1),
    pickle.BINUNICODE[0]: _text(4),
    pickle.BINUNICODE8[0]: _text(8),
    pickle.BYTEARRAY8[0]: _byte_array,
    pickle.LONG1[0]: _integer(pickle.LONG1),
    pickle.LONG4[0]: _integer(pickle.LONG4),
    pickle.LONG[0]: _integer(pickle.LONG),
    pickle.INT[0]: _integer(pickle.INT),
    pickle.PUT[0]: _memo,
    pickle.SETITEM[0]: _set_item,
    pickle.SETITEMS[0]: _set_items,
    pickle.DICT[0]: _dictionary,
    pickle.ADDITEMS[0]: _add_items,
    pickle.FROZENSET[0]: _frozen_set,
}
"""Instructions that could allocate or compare without limit, replaced."""
