"""Checked access to a file that holds a table: arrays with one row per person, and words for all of them."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from vitruvian.errors import ModelFileError

MAX_WORD = 100_000
"""Characters of a text for the whole file; the longest is a configuration."""
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


class Columns:
    """The entries of one file; every mismatch names the key, and the shape seen and expected.

    Args:
        arrays: the entries by key.
        name: of the file.
        rows_of: key of the column whose length all columns must have.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], name: str, *, rows_of: str) -> None:
        self._arrays, self._name = arrays, name
        first = self._entry(rows_of)
        if first.ndim == 0:
            raise self._wrong(rows_of, first, "one row per person")
        self.count = len(first)

    def has(self, key: str) -> bool:
        """Whether the file has this entry."""
        return key in self._arrays

    def numbers(self, key: str, shape: tuple[int | None, ...], *, finite: np.ndarray) -> np.ndarray:
        """A float32 column with values of this shape (None: any size); rows where `finite` holds must be so."""
        array = self._entry(key)
        wanted = f"({', '.join(['person', *('any' if size is None else str(size) for size in shape)])})"
        fits = array.ndim == 1 + len(shape) and all(
            want in (None, have) for want, have in zip(shape, array.shape[1:], strict=True)
        )
        if not fits or array.dtype.kind not in "fiu":
            raise self._wrong(key, array, f"numbers of shape {wanted}")
        self._check_length(key, array)
        # Values beyond float32 would become infinite.
        good = np.isfinite(array) & (np.abs(array) <= _LARGEST_FLOAT32)
        bad = finite & ~good.all(axis=tuple(range(1, array.ndim)))
        if bad.any():
            row = int(bad.nonzero()[0][0])
            raise ModelFileError(
                f"{self._name}: '{key}' holds values that are not finite",
                seen=f"row {row} of {self.count}",
                expected="numbers for everybody whose fit is usable",
            )
        return np.where(good, array, np.nan).astype(np.float32)

    def whole(self, key: str) -> np.ndarray:
        """A column of whole numbers."""
        array = self._entry(key)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise self._wrong(key, array, "whole numbers of shape (person)")
        self._check_length(key, array)
        return array

    def texts(self, key: str) -> np.ndarray:
        """A column of texts."""
        array = self._entry(key)
        if array.ndim != 1 or array.dtype.kind != "U":
            raise self._wrong(key, array, "texts of shape (person)")
        self._check_length(key, array)
        return array

    def word(self, key: str) -> str:
        """One text for the whole file."""
        array = self._entry(key)
        if array.ndim != 0 or array.dtype.kind != "U" or array.itemsize > 4 * MAX_WORD:
            raise self._wrong(key, array, "one text")
        return str(array)

    def check_known(self, key: str, known: Collection[str]) -> None:
        """Refuse a column of texts with a value that nobody writes."""
        odd = [text for text in self.texts(key).tolist() if text not in known]
        if odd:
            raise ModelFileError(f"{self._name}: '{key}' holds an unknown word", seen=odd[0], expected=", ".join(known))

    def _entry(self, key: str) -> np.ndarray:
        if key not in self._arrays:
            raise ModelFileError(
                f"{self._name} lacks the entry '{key}'", seen=", ".join(sorted(self._arrays)[:30]) or "no entries"
            )
        return np.asarray(self._arrays[key])

    def _check_length(self, key: str, array: np.ndarray) -> None:
        if len(array) != self.count:
            raise ModelFileError(
                f"{self._name} holds entries of different lengths",
                seen=f"'{key}' of shape {array.shape}",
                expected=f"{self.count} rows",
            )

    def _wrong(self, key: str, array: np.ndarray, expected: Any) -> ModelFileError:
        return ModelFileError(
            f"{self._name}: '{key}' is no column of fitted people",
            seen=f"{array.dtype} of shape {array.shape}",
            expected=expected,
        )
