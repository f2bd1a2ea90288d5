"""Frozen records of tensors that move between devices, change dtype, and, where they are batches, are indexed."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import Field, dataclass, field, fields, replace
from functools import wraps
from typing import Any, ParamSpec, Self, TypeVar

import torch
from torch import Tensor

from vitruvian.errors import InputError

Record = TypeVar("Record", bound="TensorRecord")
Batch = TypeVar("Batch", bound="BatchRecord")
Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")

_ROLE = "role"


def column(**options: Any) -> Any:
    """A field of a `BatchRecord` that holds a tuple with one plain value per row: names, numbers, words."""
    return field(metadata={_ROLE: "column"}, **options)


def shared(**options: Any) -> Any:
    """A field of a `BatchRecord` that belongs to all rows together, tensors and records included."""
    return field(metadata={_ROLE: "shared"}, **options)


def remarks(**options: Any) -> Any:
    """A field of a `BatchRecord` that holds sentences about all rows; joined records have those of all parts."""
    return field(metadata={_ROLE: "remarks"}, default=(), **options)


@dataclass(frozen=True, eq=False)
class TensorRecord:
    """Base of frozen dataclasses whose fields are tensors, other records, or plain metadata.

    Tensors, records and tuples of tensors inside the fields are transformed together; every other field is carried
    along unchanged. What such a record means as a whole has no rows; records that have are `BatchRecord`s.
    """

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Return a copy with `function` applied to every tensor, those of nested records included."""
        return replace(self, **{f.name: _map_value(getattr(self, f.name), function) for f in fields(self)})

    def to(self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Return a copy on `device`; floating-point tensors also change to `dtype`."""
        return self.map(lambda x: x.to(device=device, dtype=dtype if x.is_floating_point() else None))

    def detach(self) -> Self:
        """Return a copy whose tensors carry no gradient history."""
        return self.map(torch.Tensor.detach)


@dataclass(frozen=True, eq=False)
class BatchRecord(TensorRecord):
    """A record whose tensors share leading batch axes, so that it can be indexed and joined like one of them.

    Fields made with `column` hold a plain value per row of the first axis and follow it; those made with `shared`, and
    records that are no batches, belong to all rows and stay. A record with columns keeps its rows: an integer index
    gives a record of one row.
    """

    def __getitem__(self, index: Any) -> Self:
        """Some of the rows: the index applies to the leading batch axes of every tensor."""
        columns = [f for f in fields(self) if _is_column(f)]
        if columns and isinstance(index, int):
            count = len(getattr(self, columns[0].name))
            if not -count <= index < count:
                raise IndexError(f"row {index} of {count}")
            index = [index % count]
        return self._with_rows(lambda x: x[index], lambda values: _rows_of(values, index))

    def map_rows(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Return a copy with `function` applied to the tensors that have rows, not to those shared by all rows.

        Raises:
            InputError: the record has columns, which no function of tensors can change.
        """
        return self._with_rows(function, None)

    def _with_rows(
        self, of_tensor: Callable[[Tensor], Tensor], of_column: Callable[[tuple[Any, ...]], tuple[Any, ...]] | None
    ) -> Self:
        changes: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if _is_column(f):
                if of_column is None:
                    raise InputError("a record with columns has rows only", seen=f"{type(self).__name__}.{f.name}")
                changes[f.name] = of_column(value)
            elif _has_rows(f, value):
                changes[f.name] = _map_rows_of(value, of_tensor, of_column)
        return replace(self, **changes)


def stack_records(records: Sequence[Batch]) -> Batch:
    """Stack equal records along a new leading axis.

    Raises:
        InputError: nothing to stack, records with columns, or records that share different things.
    """
    return _merge(records, torch.stack, None)


def concatenate_records(records: Sequence[Batch]) -> Batch:
    """Concatenate records along their first axis, columns included.

    Raises:
        InputError: nothing to join, or records that share different things (formats, bodies, skeletons).
    """
    return _merge(records, torch.cat, lambda parts: tuple(value for part in parts for value in part))


def put_rows(target: Batch, rows: Tensor, source: Batch) -> Batch:
    """Copy of `target` in which the items `rows` of the batch are those of `source`, in that order."""
    leaves = iter(row_tensors_of(source))
    return target.map_rows(lambda x: x.index_copy(0, rows, next(leaves)))


def where_rows(mask: Tensor, a: Batch, b: Batch) -> Batch:
    """Items of `a` where the mask (one per item of the batch) holds, else of `b`."""
    leaves = iter(row_tensors_of(b))
    return a.map_rows(lambda x: torch.where(mask.view(-1, *[1] * (x.dim() - 1)), x, next(leaves)))


def resized(values: Tensor, count: int, *, filling: float = 0.0) -> Tensor:
    """The first `count` entries of the last axis, filled up with a constant where there are fewer."""
    missing = count - values.shape[-1]
    return torch.nn.functional.pad(values, (0, missing), value=filling) if missing > 0 else values[..., :count]


LEAST_ROWS = 8
"""Matrix libraries multiply a few rows by other kernels than many; from this many on, all go the same way."""


def row_product(rows: Tensor, matrix: Tensor) -> Tensor:
    """`rows @ matrix` with the same bits in a row whatever rows stand beside it.

    A product of one, two or three rows differs from the same rows among many in the last digit, which a fit can blow up
    to centimetres; a person would then depend on who else is in the batch. Rows of zeros fill up the few.

    Args:
        rows: `(*batch, K)` for a matrix of two axes; `(*batch, R, K)` for one of more.
        matrix: `(K, N)` or `(*batch, K, N)`.
    """
    if matrix.dim() == 2 and rows.dim() != 2:
        return row_product(rows.reshape(-1, rows.shape[-1]), matrix).view(*rows.shape[:-1], matrix.shape[-1])
    count = rows.shape[-2]
    if count >= LEAST_ROWS:
        return rows @ matrix
    return (torch.nn.functional.pad(rows, (0, 0, 0, LEAST_ROWS - count)) @ matrix)[..., :count, :]


def filled_up(rows: Tensor) -> Tensor:
    """At least `LEAST_ROWS` items along the leading axis, the last one repeated; none stay none.

    For networks whose every product has a row per item, which alone would differ in its last digits (`row_product`).
    """
    missing = LEAST_ROWS - len(rows)
    if missing <= 0 or len(rows) == 0:
        return rows
    return torch.cat((rows, rows[-1:].expand(missing, *rows.shape[1:])))


def tensors_of(record: TensorRecord) -> list[Tensor]:
    """All tensors of a record, those of nested records included, in the order in which `map` meets them."""
    leaves: list[Tensor] = []

    def collect(x: Tensor) -> Tensor:
        leaves.append(x)
        return x

    record.map(collect)
    return leaves


def row_tensors_of(record: BatchRecord) -> list[Tensor]:
    """The tensors of a record that have rows, in the order in which `map_rows` meets them."""
    leaves: list[Tensor] = []

    def collect(x: Tensor) -> Tensor:
        leaves.append(x)
        return x

    record.map_rows(collect)
    return leaves


def _is_column(f: "Field[Any]") -> bool:
    return f.metadata.get(_ROLE) == "column"


def _is_tensors(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and isinstance(value[0], Tensor)


def _has_rows(f: "Field[Any]", value: Any) -> bool:
    return f.metadata.get(_ROLE) != "shared" and (isinstance(value, Tensor | BatchRecord) or _is_tensors(value))


def _rows_of(values: tuple[Any, ...], index: Any) -> tuple[Any, ...]:
    return tuple(values[row] for row in torch.arange(len(values))[_plain_index(index)].tolist())


def _plain_index(index: Any) -> Any:
    return index.cpu() if isinstance(index, Tensor) else index


def _map_value(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, TensorRecord):
        return value.map(function)
    return tuple(function(item) for item in value) if _is_tensors(value) else value


def _map_rows_of(
    value: Any,
    of_tensor: Callable[[Tensor], Tensor],
    of_column: Callable[[tuple[Any, ...]], tuple[Any, ...]] | None,
) -> Any:
    if isinstance(value, Tensor):
        return of_tensor(value)
    if isinstance(value, BatchRecord):
        return value._with_rows(of_tensor, of_column)
    return tuple(of_tensor(item) for item in value)


def _merge(
    records: Sequence[Batch],
    join: Callable[[list[Tensor]], Tensor],
    join_columns: Callable[[list[tuple[Any, ...]]], tuple[Any, ...]] | None,
) -> Batch:
    if not records:
        raise InputError("there are no records to join")
    first = records[0]
    if not all(isinstance(record, BatchRecord) and type(record) is type(first) for record in records):
        kinds = ", ".join(sorted({type(record).__name__ for record in records}))
        raise InputError("only batches of one kind can be joined", seen=kinds)
    columns: dict[str, Any] = {}
    with_rows: dict[str, list[Any]] = {}
    for f in fields(first):
        values = [getattr(record, f.name) for record in records]
        if _is_column(f):
            if join_columns is None:
                raise InputError("a record with columns has rows only", seen=f"{type(first).__name__}.{f.name}")
            columns[f.name] = join_columns(values)
        elif f.metadata.get(_ROLE) == "remarks":
            columns[f.name] = tuple(dict.fromkeys(remark for value in values for remark in value))
        elif all(_has_rows(f, value) for value in values):
            with_rows[f.name] = values
        else:
            _require_same(f.name, values)
    joined = {name: _join_values(values, join, join_columns) for name, values in with_rows.items()}
    return replace(first, **joined, **columns)


def _join_values(
    values: list[Any],
    join: Callable[[list[Tensor]], Tensor],
    join_columns: Callable[[list[tuple[Any, ...]]], tuple[Any, ...]] | None,
) -> Any:
    if isinstance(values[0], Tensor):
        return join(values)
    if isinstance(values[0], BatchRecord):
        return _merge(values, join, join_columns)
    return tuple(join(list(items)) for items in zip(*values, strict=True))


def _require_same(name: str, values: list[Any]) -> None:
    different = next((value for value in values[1:] if not _same(values[0], value)), None)
    if different is not None:
        raise InputError(
            f"records of different {name} cannot be joined", seen=f"{values[0]!r:.80} and {different!r:.80}"
        )


def _same(a: Any, b: Any) -> bool:
    """Whether two records share the same thing."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and bool(torch.equal(a, b))
    if isinstance(a, TensorRecord):
        return all(_same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if _is_tensors(a):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


def without_autocast(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Run a function in the precision of its inputs, whatever autocast is on outside."""

    @wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        with ExitStack() as stack:
            for device in ("cpu", "cuda"):
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            return function(*args, **kwargs)

    return call
