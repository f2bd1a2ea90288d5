"""Frozen records of tensors that move between devices, change dtype and are indexed as one value."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

Record = TypeVar("Record", bound="TensorRecord")


@dataclass(frozen=True, eq=False)
class TensorRecord:
    """Base of frozen dataclasses whose fields are tensors, other records, or plain metadata.

    Tensors and records inside the fields are transformed together; every other field is carried along unchanged.
    """

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Return a copy with `function` applied to every tensor, those of nested records included."""
        changes: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changes[field.name] = function(value)
            elif isinstance(value, TensorRecord):
                changes[field.name] = value.map(function)
        return replace(self, **changes)

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


def _merge(records: Sequence[Record], join: Callable[[list[Tensor]], Tensor]) -> Record:
    first = records[0]
    changes: dict[str, Any] = {}
    for field in fields(first):
        values = [getattr(record, field.name) for record in records]
        if isinstance(values[0], Tensor):
            changes[field.name] = join(values)
        elif isinstance(values[0], TensorRecord):
            changes[field.name] = _merge(values, join)
    return replace(first, **changes)
