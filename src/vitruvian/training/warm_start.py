"""Starting a network from the weights of one that read other inputs: columns by name, nothing guessed."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vitruvian.errors import WeightsError

_ENTER = "regressor.encoder.enter.weight"
"""The only tensor whose columns are the inputs of the network."""
BLOCKS_BEFORE_NAMES = {
    "points": 164, "confidence": 82, "seen": 82, "left_hand_points": 43, "right_hand_points": 43, "face_points": 27,
    "borders": 4, "half_size": 1,
}  # fmt: skip
"""Inputs of files that do not name them: networks that read the borders of the picture, and no gravity."""


def started_from(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], features: Mapping[str, int]
) -> dict[str, Tensor]:
    """Weights for a network with the inputs `features`: columns of new inputs are zero, those of gone ones are cut.

    Args:
        tensors, metadata: of a file that `vitruvian train flow` wrote.
        features: names and lengths of the inputs (`recovery.views.feature_blocks`).

    Raises:
        WeightsError: where the file is no pose network, or an input of one name has another length.
    """
    old = metadata.get("features", BLOCKS_BEFORE_NAMES)
    weight = tensors.get(_ENTER)
    if weight is None or weight.shape[1] != sum(old.values()):
        seen = "no encoder" if weight is None else f"{weight.shape[1]} columns"
        raise WeightsError("not the weights of a pose network with these inputs", seen=seen, expected=str(dict(old)))
    other = [name for name in features if name in old and old[name] != features[name]]
    if other:
        raise WeightsError("inputs of the same name have another length", seen=", ".join(other))
    columns = dict(zip(old, weight.split(list(old.values()), dim=1), strict=True))
    parts = [
        columns[name] if name in columns else weight.new_zeros(len(weight), length) for name, length in features.items()
    ]
    return {**tensors, _ENTER: torch.cat(parts, dim=1)}
