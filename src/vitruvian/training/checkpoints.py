"""Checkpoints of a training run: written whole or not at all, read strictly, resumable."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vitruvian.errors import WeightsError


def save_weights(tensors: Mapping[str, Tensor], path: Path, *, metadata: Mapping[str, Any], half: bool = False) -> None:
    """Write tensors and metadata (as JSON) to a safetensors file; `half` stores floating point in 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = {
        name: (t.half() if half and t.is_floating_point() else t).detach().cpu().contiguous()
        for name, t in tensors.items()
    }
    partial = path.with_suffix(path.suffix + ".part")
    save_file(stored, partial, metadata={key: json.dumps(value) for key, value in metadata.items()})
    partial.replace(path)


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (floating point as 32 bits) and metadata of a file that `save_weights` wrote."""
    if not path.is_file():
        raise WeightsError("the file of weights does not exist", seen=path)
    tensors = {name: t.float() if t.is_floating_point() else t for name, t in load_file(path).items()}
    with safe_open(path, framework="pt") as opened:
        metadata = {key: json.loads(value) for key, value in (opened.metadata() or {}).items()}
    return tensors, metadata


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Fill a module; raises WeightsError that lists what is missing, unexpected, or of another shape."""
    own = module.state_dict()
    problems = [f"missing {name}" for name in own if name not in tensors]
    problems += [f"unexpected {name}" for name in tensors if name not in own]
    problems += [
        f"{name}: {tuple(tensors[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    if problems:
        raise WeightsError("the weights do not fit the network", seen="; ".join(problems[:8]))
    module.load_state_dict(dict(tensors))


def save_run(path: Path, state: Mapping[str, Any]) -> None:
    """Write the whole state of a run (modules, optimisers, counters)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(path.suffix + ".part")
    torch.save(dict(state), partial)
    partial.replace(path)


def read_run(path: Path) -> dict[str, Any] | None:
    """The state that `save_run` wrote, or None where there is none yet; only tensors and plain values are read."""
    if not path.is_file():
        return None
    return torch.load(path, map_location="cpu", weights_only=True)
