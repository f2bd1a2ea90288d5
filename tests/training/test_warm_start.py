"""Weights of a network with other inputs: what both read stays as it was, what is new says nothing yet."""

import pytest
import torch

from vitruvian.errors import WeightsError
from vitruvian.recovery.network import PoseNetwork
from vitruvian.recovery.views import feature_blocks
from vitruvian.training.warm_start import BLOCKS_BEFORE_NAMES, started_from

ENTER = "regressor.encoder.enter.weight"


def test_named_columns_move_and_new_ones_are_zero() -> None:
    weight = torch.arange(12.0).reshape(2, 6)
    tensors = {ENTER: weight, "other": torch.ones(3)}
    started = started_from(tensors, {"features": {"a": 2, "gone": 3, "b": 1}}, {"b": 1, "new": 2, "a": 2})
    assert started[ENTER].tolist() == [[5.0, 0.0, 0.0, 0.0, 1.0], [11.0, 0.0, 0.0, 6.0, 7.0]]
    assert torch.equal(started["other"], tensors["other"])


def test_files_without_names_have_the_inputs_of_their_time() -> None:
    width = sum(BLOCKS_BEFORE_NAMES.values())
    started = started_from({ENTER: torch.randn(4, width)}, {}, feature_blocks())
    assert started[ENTER].shape == PoseNetwork().state_dict()[ENTER][:4].shape
    assert not started[ENTER][:, -4:].any()


@pytest.mark.parametrize(
    ("tensors", "metadata"),
    [
        ({}, {}),
        ({ENTER: torch.zeros(2, 7)}, {"features": {"a": 6}}),
        ({ENTER: torch.zeros(2, 6)}, {"features": {"a": 6}}),
    ],
)
def test_what_does_not_fit_is_named(tensors: dict[str, torch.Tensor], metadata: dict[str, dict[str, int]]) -> None:
    with pytest.raises(WeightsError):
        started_from(tensors, metadata, {"a": 5})
