"""The one reader of trained weights: safetensors files, checked before and after they are read, and loaded strictly."""

import json
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from torch import Tensor, nn

from vitruvian.assets import limits
from vitruvian.assets.borders import border
from vitruvian.errors import VitruvianError, WeightsError

Config = TypeVar("Config")
Network = TypeVar("Network", bound=nn.Module)

_MAX_LISTED = 8
"""Differences that a message names; the rest is counted."""


@dataclass(frozen=True)
class Weights:
    """Tensors, floating point as float32, and what the file says of itself."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    name: str

    def described(self, key: str) -> Any:
        """An entry of the metadata, which are JSON.

        Raises:
            WeightsError: the file has no such entry, or it is no JSON.
        """
        if key not in self.metadata:
            raise WeightsError(
                f"{self.name} does not say what its tensors are",
                seen=", ".join(sorted(self.metadata)) or "no description",
                expected=f"an entry '{key}' in its description",
            )
        try:
            return json.loads(self.metadata[key])
        except (ValueError, RecursionError) as error:
            raise WeightsError(f"the description '{key}' of {self.name} is no JSON", seen=error) from None


def read_weights(path: Path | str, *, hint: str | None = None) -> Weights:
    """Read a safetensors file.

    Args:
        path: the file.
        hint: what to do where it is missing.

    Raises:
        WeightsError: the file is missing, no safetensors file, too large, or holds values that are not finite.
    """
    path = Path(path)
    if not path.exists():
        raise WeightsError("the file of weights is missing", seen=path, hint=hint)
    what = "a safetensors file"
    with border(WeightsError, path, what=what, hint=hint):
        with limits.open_file(path, WeightsError, limit=limits.MAX_WEIGHTS_BYTES, what=what) as stream:
            header = int.from_bytes(stream.read(8), "little")
        if header > limits.MAX_WEIGHTS_HEADER_BYTES:
            raise WeightsError(f"{path.name} is no file of weights", seen=f"a header of {header:,} bytes")
        with safe_open(path, framework="pt") as opened:
            metadata = dict(opened.metadata() or {})
            tensors = {name: _plain(opened.get_tensor(name)) for name in opened.keys()}  # noqa: SIM118
    odd = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if odd:
        raise WeightsError(f"{path.name} holds values that are not finite", seen=_listed(odd))
    return Weights(tensors, metadata, path.name)


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Fill a module.

    Raises:
        WeightsError: names are missing or left over, or shapes differ; all differences are listed.
    """
    _check_same(module.state_dict(), tensors)
    module.load_state_dict(dict(tensors))


def build_strictly(build: Callable[[], Network], weights: Weights) -> Network:
    """Make a network and fill it, in evaluation mode and without gradients.

    The network is made without memory first: a description may ask for any size, and only one that fits the tensors,
    which are there, is made in earnest.

    Raises:
        WeightsError: the description asks for what cannot be built, or the tensors do not fit it.
    """
    with border(WeightsError, weights.name, what="the description of a network"):
        with torch.device("meta"):
            _check_same(build().state_dict(), weights.tensors)
        network = build()
        load_strictly(network, weights.tensors)
        return network.eval().requires_grad_(False)


def _check_same(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    problems = [f"missing {name}" for name in own if name not in tensors]
    problems += [f"unexpected {name}" for name in tensors if name not in own]
    problems += [
        f"{name} has shape {tuple(tensors[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    if problems:
        raise WeightsError("the weights do not fit the network", seen=_listed(problems))


def config_from(kind: type[Config], values: Any, *, name: str) -> Config:
    """A configuration record from plain values, nested records too.

    Numbers have the limits of `assets/limits.py`, so that no description can ask for a network without end.

    Raises:
        WeightsError: an unknown or missing name, a value of another type, or out of range.
    """
    if not isinstance(values, Mapping):
        raise _no_config(name, type(values).__name__)
    hints = typing.get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    required = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    problems = [f"unknown {key}" for key in values if key not in known]
    problems += [f"missing {key}" for key in required if key not in values]
    if problems:
        raise _no_config(name, _listed(problems))
    try:
        return kind(**{key: _value(hints[key], key, value, name=name) for key, value in values.items()})
    except VitruvianError as error:
        raise _no_config(name, error.message if error.seen is None else f"{error.message}: {error.seen}") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise _no_config(name, error) from error


def _value(hint: Any, key: str, value: Any, *, name: str) -> Any:
    if is_dataclass(hint) and isinstance(hint, type):
        return config_from(hint, value, name=name)
    kind = typing.get_origin(hint)
    if kind is typing.Literal:
        return _known(value in typing.get_args(hint), key, value)
    if kind is tuple:
        parts = typing.get_args(hint)
        _known(isinstance(value, (list, tuple)) and len(value) <= limits.MAX_LAYERS, key, value)
        each = [parts[0]] * len(value) if parts[1:] == (...,) else parts
        return tuple(_value(part, key, entry, name=name) for part, entry in zip(each, value, strict=True))
    if hint is int:
        most = limits.MAX_LAYERS if key.endswith(("layers", "blocks", "refinements")) else limits.MAX_LAYER_SIZE
        return _known(isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most, key, value)
    if hint is float:
        return float(_known(isinstance(value, (int, float)) and abs(value) < 1e9, key, value))  # false for NaN
    return _known(isinstance(value, hint) if isinstance(hint, type) else True, key, value)


def _known(holds: bool, key: str, value: Any) -> Any:
    if not holds:
        raise WeightsError(f"{key} cannot be", seen=repr(value))
    return value


def _no_config(name: str, seen: object) -> WeightsError:
    return WeightsError(f"the description of the network in {name} is not one of this version", seen=seen)


def _plain(tensor: Tensor) -> Tensor:
    if tensor.is_complex() or tensor.dtype.itemsize > 8:
        raise WeightsError("weights are real numbers", seen=tensor.dtype)
    return tensor.float() if tensor.is_floating_point() else tensor


def _listed(problems: list[str]) -> str:
    more = len(problems) - _MAX_LISTED
    return "; ".join(problems[:_MAX_LISTED]) + (f"; and {more} more" if more > 0 else "")
