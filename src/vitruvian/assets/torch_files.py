"""PyTorch files of other projects as state dicts, read without executing anything, and what differs from a network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from vitruvian.assets.torch_trial import check_torch_file
from vitruvian.errors import UnsafeFileError, WeightsError

_INERT_MODULES = ("pytorch_lightning.", "lightning.", "lightning_fabric.", "omegaconf.", "dotmap", "argparse.", "yacs.")
"""Where the classes live that training frameworks leave in a checkpoint beside the tensors."""


class _Inert(dict[Any, Any]):
    """Stand-in for an object of a training framework; takes whatever it is given and does nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        """Forget the state."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch file by name: a state dict, or the entry `state_dict` of a training checkpoint.

    Files are opened with `torch.load(weights_only=True)`; classes of training frameworks are replaced by an inert
    dictionary.

    Raises:
        WeightsError: the file is no checkpoint that can be read, or holds no state dict.
        UnsafeFileError: the file names code of any other kind.
    """
    check_torch_file(path)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as first:
        content = _load_with_stand_ins(path, first)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError("the file holds no state dict of tensors", seen=path)
    return dict(content)


def differences(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> tuple[str, ...]:
    """What of a network's state is missing, left over, or of another shape in given tensors; empty where they fit."""
    missing = [f"missing {name}" for name in own if name not in given]
    unexpected = [f"unexpected {name}" for name in given if name not in own]
    shapes = [
        f"{name}: {tuple(given[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in given and given[name].shape != own[name].shape
    ]
    return (*missing, *unexpected, *shapes)


def listed(problems: tuple[str, ...], *, limit: int = 8) -> str:
    """The first problems in a line, and how many more there are."""
    more = f"; and {len(problems) - limit} more" if len(problems) > limit else ""
    return "; ".join(problems[:limit]) + more


def _load_with_stand_ins(path: Path, first: Exception) -> Any:
    try:
        foreign = get_unsafe_globals_in_checkpoint(path)
    except Exception:
        raise WeightsError("the file is no readable PyTorch checkpoint", seen=path) from first
    refused = [name for name in foreign if not name.startswith(_INERT_MODULES)]
    if refused:
        raise UnsafeFileError("the checkpoint names code and was not opened", seen=", ".join(refused), hint=str(path))
    if not foreign:
        raise WeightsError("the file is no readable PyTorch checkpoint", seen=path) from first
    try:
        with safe_globals([(_Inert, name) for name in foreign]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError("the checkpoint cannot be read without running code", seen=str(error)[:200]) from error
