"""Checkpoints of a training run: written whole or not at all, read strictly, resumable."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from vitruvian.assets import border
from vitruvian.assets import weights as weight_files
from vitruvian.assets.weights import load_strictly
from vitruvian.errors import WeightsError

__all__ = ["load_strictly", "read_run", "read_weights", "save_run", "save_weights"]


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
    """Tensors (floating point as 32 bits) and metadata of a file that `save_weights` wrote.

    Raises:
        WeightsError: the file is missing, no safetensors file, or holds values that are not finite.
    """
    weights = weight_files.read_weights(path)
    return weights.tensors, {key: weights.described(key) for key in weights.metadata}


def save_run(path: Path, state: Mapping[str, Any]) -> None:
    """Write the whole state of a run (modules, optimisers, counters)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(path.suffix + ".part")
    torch.save(dict(state), partial)
    partial.replace(path)


def read_run(path: Path) -> dict[str, Any] | None:
    """The state that `save_run` wrote, or None where there is none yet; only tensors and plain values are read.

    Raises:
        WeightsError: the file is damaged.
    """
    if not path.is_file():
        return None
    with border(WeightsError, path, what="the state of a training run", hint="delete it to start the run anew"):
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise WeightsError(f"{path.name} is no state of a training run", seen=type(state).__name__)
        return state
