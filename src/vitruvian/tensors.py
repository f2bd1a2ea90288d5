"""Frozen records of tensors that move between devices, change dtype and are indexed as one value."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from functools import wraps
from typing import Any, ParamSpec, Self, TypeVar

import torch
from torch import Tensor

Record = TypeVar("Record", bound="TensorRecord")
Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")


@dataclass(frozen=True, eq=False)
class TensorRecord:
    """Base of frozen dataclasses whose fields are tensors, other records, or plain metadata.

    Tensors, records and tuples of tensors inside the fields are transformed together; every other field is carried
    along unchanged.
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

    def __getitem__(self, index: Any) -> Self:
        """Index the leading batch axes of every tensor at once."""
        return self.map(lambda x: x[index])


def stack_records(records: Sequence[Record]) -> Record:
    """Stack equal records along a new leading axis; metadata is taken from the first."""
    return _merge(records, torch.stack)


def concatenate_records(records: Sequence[Record]) -> Record:
    """Concatenate equal records along their leading axis; metadata is taken from the first."""
    return _merge(records, torch.cat)


def put_rows(target: Record, rows: Tensor, source: Record) -> Record:
    """Copy of `target` in which the items `rows` of the batch are those of `source`, in that order."""
    leaves = iter(tensors_of(source))
    return target.map(lambda x: x.index_copy(0, rows, next(leaves)))


def where_rows(mask: Tensor, a: Record, b: Record) -> Record:
    """Items of `a` where the mask (one per item of the batch) holds, else of `b`."""
    leaves = iter(tensors_of(b))
    return a.map(lambda x: torch.where(mask.view(-1, *[1] * (x.dim() - 1)), x, next(leaves)))


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


def _map_value(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, TensorRecord):
        return value.map(function)
    if isinstance(value, tuple) and value and isinstance(value[0], Tensor):
        return tuple(function(item) for item in value)
    return value


def _merge(records: Sequence[Record], join: Callable[[list[Tensor]], Tensor]) -> Record:
    first = records[0]
    changes: dict[str, Any] = {}
    for field in fields(first):
        values = [getattr(record, field.name) for record in records]
        if isinstance(values[0], Tensor):
            changes[field.name] = join(values)
        elif isinstance(values[0], TensorRecord):
            changes[field.name] = _merge(values, join)
        elif isinstance(values[0], tuple) and values[0] and isinstance(values[0][0], Tensor):
            changes[field.name] = tuple(join(list(items)) for items in zip(*values, strict=True))
    return replace(first, **changes)


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
