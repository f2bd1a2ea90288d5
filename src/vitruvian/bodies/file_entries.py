"""Checked access to the entries of a body model file; every mismatch names the key, the shape seen and expected."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from vitruvian.assets import numeric_array
from vitruvian.bodies.families import FAMILIES, Family
from vitruvian.bodies.skeletons import Skeleton
from vitruvian.errors import ModelFileError

Shape = tuple[int | str, ...]

MAX_VALUE = 1e6
"""Largest magnitude in a body: everything is in metres, metres per coefficient, or a share."""
MAX_TEXT = 4000


class FileEntries(Mapping[str, Any]):
    """The entries of one file that should be of one family."""

    def __init__(self, entries: Mapping[str, Any], name: str, family: Family) -> None:
        self._entries = entries
        self.name = name
        self.family = family

    def __getitem__(self, key: str) -> Any:
        if key not in self._entries:
            raise ModelFileError(
                f"{self.name} lacks the entry '{key}'",
                seen=", ".join(sorted(self._entries)[:30]) or "no entries",
                expected=f"a {self.family.title} file",
            )
        return self._entries[key]

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def get(self, key: str, default: Any = None) -> Any:
        return self._entries.get(key, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def array(self, key: str, shape: Shape) -> np.ndarray:
        """A float64 array of this shape; a letter stands for any size above zero."""
        array = self._numbers(key)
        if not _fits(array.shape, shape):
            raise self._wrong_shape(key, array.shape, shape)
        return self._checked(key, array)

    def shares(self, key: str, shape: Shape) -> np.ndarray:
        """An array whose rows sum to one but for rounding; the rounding is taken away, so that a shift moves all."""
        array = self.array(key, shape)
        total = array.sum(axis=1, keepdims=True)
        if (np.abs(total - 1) > 1e-3).any():
            raise ModelFileError(
                f"{self.name}: '{key}' holds rows that do not sum to one",
                seen=f"{total.min():.4g} to {total.max():.4g}",
            )
        return array / total

    def indices(self, key: str, shape: Shape, stop: int) -> np.ndarray:
        """An int64 array of this shape with values from 0 to `stop` − 1."""
        array = self._numbers(key)
        if not _fits(array.shape, shape):
            raise self._wrong_shape(key, array.shape, shape)
        whole = self._checked(key, array, limit=float(2**52)).astype(np.int64)
        if (whole != array).any() or whole.min(initial=0) < 0 or whole.max(initial=0) >= stop:
            raise ModelFileError(
                f"{self.name}: '{key}' holds indices out of range",
                seen=f"{array.min()} to {array.max()}",
                expected=f"whole numbers from 0 to {stop - 1}",
            )
        return whole

    def directions(self, key: str, num_vertices: int, count: int | None) -> np.ndarray:
        """Blend shapes `(V, 3, K)`; files that store them flat are unfolded."""
        array = self._numbers(key)
        flat = array.ndim == 1 or (array.ndim == 2 and array.shape[0] == 3 * num_vertices)
        if flat and array.size % (3 * num_vertices) == 0:
            array = array.reshape(num_vertices, 3, -1)
        shape: Shape = (num_vertices, 3, "K" if count is None else count)
        if not _fits(array.shape, shape):
            raise self._wrong_shape(key, array.shape, shape)
        return self._checked(key, array)

    def count(self, key: str, default: int) -> int:
        """A single whole number, or the default where the file does not have it."""
        return int(self.indices(key, (), 2**31)) if key in self else default

    def text(self, key: str) -> str:
        """A short text, empty where the file does not have it."""
        value = np.asarray(self[key]) if key in self else np.array("")
        if value.dtype.kind != "U" or value.ndim or value.nbytes > 4 * MAX_TEXT:
            raise ModelFileError(f"{self.name}: '{key}' is no text", seen=f"{value.dtype} of shape {value.shape}")
        return str(value)

    def check_tree(self, skeleton: Skeleton) -> None:
        """Compare `kintree_table` (root stored as −1 or 2³² − 1) with the family's tree."""
        table = self._numbers("kintree_table")
        if not _fits(table.shape, (2, len(skeleton))):
            raise self._wrong_shape("kintree_table", table.shape, (2, len(skeleton)))
        parents = self._checked("kintree_table", table[0], limit=float(2**52)).astype(np.int64)
        parents[parents >= 2**31] = -1
        if tuple(parents.tolist()) != skeleton.parents:
            raise ModelFileError(
                f"{self.name}: 'kintree_table' is not the tree of {self.family.title}",
                seen=parents.tolist(),
                expected=list(skeleton.parents),
            )

    def _numbers(self, key: str) -> np.ndarray:
        value = self[key]
        try:
            array = numeric_array(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise ModelFileError(f"{self.name}: '{key}' is no array of numbers", seen=error) from None
        if array.dtype.kind not in "biuf":
            raise ModelFileError(
                f"{self.name}: '{key}' is no array of numbers", seen=f"{array.dtype} of shape {array.shape}"
            )
        return array

    def _checked(self, key: str, array: np.ndarray, *, limit: float = MAX_VALUE) -> np.ndarray:
        """As float64; refuses values that are not finite, or larger than any in a body."""
        values = array.astype(np.float64, copy=False)
        odd = ~np.isfinite(values)
        if odd.any():
            raise ModelFileError(
                f"{self.name}: '{key}' holds {np.sum(odd)} values that are not finite",
                hint="copy or download the file again",
            )
        largest = max(float(values.max(initial=0)), -float(values.min(initial=0)))
        if largest > limit:
            raise ModelFileError(
                f"{self.name}: '{key}' holds values that no body has", seen=largest, expected=f"at most {limit:g}"
            )
        return values

    def _wrong_shape(self, key: str, seen: tuple[int, ...], expected: Shape) -> ModelFileError:
        return ModelFileError(
            f"{self.name}: '{key}' does not fit a {self.family.title} model",
            seen=f"shape {seen}",
            expected=f"shape ({', '.join(map(str, expected))}{',' if len(expected) == 1 else ''})",
            hint=self._other_family(),
        )

    def _other_family(self) -> str:
        """The family whose number of joints the file has, if it is another one."""
        family = family_of(self._entries)
        if family is not None and family.name != self.family.name:
            return f'the file looks like {family.title}: load it as "{family.name}"'
        return "copy or download the file again"


def family_of(entries: Mapping[str, Any]) -> Family | None:
    """The family that the number of joints in `weights` tells; None where it is none of them."""
    if "weights" not in entries:
        return None
    try:
        shape = numeric_array(entries["weights"]).shape
    except (TypeError, ValueError, OverflowError):
        return None
    for family in FAMILIES.values():
        if len(shape) == 2 and shape[1] == len(family.skeleton):
            return family
    return None


def _fits(seen: tuple[int, ...], expected: Shape) -> bool:
    return len(seen) == len(expected) and all(
        have > 0 if isinstance(want, str) else have == want for have, want in zip(seen, expected, strict=True)
    )
