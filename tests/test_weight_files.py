"""Weights: what is damaged, too large, not finite, or described in another way is refused with an error of ours."""

import io
import json
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vitruvian.assets.torch_trial import check_torch_file
from vitruvian.assets.weights import build_strictly, config_from, load_strictly, read_weights
from vitruvian.errors import InputError, WeightsError
from vitruvian.recovery.lifter import read_lifter
from vitruvian.recovery.weights import read_network


@dataclass(frozen=True)
class Inner:
    num_layers: int = 2


@dataclass(frozen=True)
class Sizes:
    name: str
    width: int = 3
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"
    inner: Inner = Inner()
    flag: bool = True

    def __post_init__(self) -> None:
        if self.width == 1:
            raise InputError("one is too few", seen=self.width)


def test_a_configuration_comes_back_from_plain_values() -> None:
    sizes = Sizes("x", 7, 0.25, "b", Inner(3), False)
    assert config_from(Sizes, json.loads(json.dumps(asdict(sizes))), name="file") == sizes
    assert config_from(Sizes, {"name": "y", "rate": 1}, name="file") == Sizes("y", rate=1.0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "missing name"),
        ([1], "list"),
        ({"name": "x", "colour": 1}, "unknown colour"),
        ({"name": 3}, "name cannot be: 3"),
        ({"name": "x", "width": "3"}, "width cannot be"),
        ({"name": "x", "width": True}, "width cannot be"),
        ({"name": "x", "width": -1}, "width cannot be"),
        ({"name": "x", "width": 10**9}, "width cannot be"),
        ({"name": "x", "width": 1}, "one is too few: 1"),
        ({"name": "x", "rate": float("nan")}, "rate cannot be"),
        ({"name": "x", "kind": "c"}, "kind cannot be"),
        ({"name": "x", "inner": {"num_layers": 1000}}, "num_layers cannot be"),
        ({"name": "x", "inner": None}, "NoneType"),
        ({"name": "x", "flag": 1}, "flag cannot be"),
    ],
)
def test_a_description_of_another_kind_is_refused(values: Any, words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        config_from(Sizes, values, name="file")


def write(path: Path, tensors: dict[str, torch.Tensor], **metadata: str) -> Path:
    save_file(tensors, path, metadata=metadata)
    return path


def test_tensors_come_back_as_single_precision(tmp_path: Path) -> None:
    path = write(tmp_path / "w.safetensors", {"a": torch.ones(2, dtype=torch.float16), "n": torch.tensor(3)}, k="[1]")
    weights = read_weights(path)
    assert weights.tensors["a"].dtype == torch.float32
    assert weights.tensors["n"].dtype == torch.int64
    assert weights.described("k") == [1]
    with pytest.raises(WeightsError, match=r"does not say.*an entry 'other'"):
        weights.described("other")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_by_name(tmp_path: Path, value: float) -> None:
    path = write(tmp_path / "w.safetensors", {"good": torch.ones(2), "bad": torch.tensor([1.0, value])})
    with pytest.raises(WeightsError, match=r"w.safetensors holds values that are not finite; seen: bad$"):
        read_weights(path)
    large = write(tmp_path / "l.safetensors", {"large": torch.tensor([1e300], dtype=torch.float64)})
    with pytest.raises(WeightsError, match="large"):
        read_weights(large)


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\xff" * 40, b"\x02" + bytes(7) + b"{}", b"\x08" + bytes(7) + b'{"a": 1}']
)
def test_other_files_and_missing_ones_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    for read in (read_network, read_lifter):
        with pytest.raises(WeightsError, match=r"w\.safetensors"):
            read(path)
        with pytest.raises(WeightsError, match="missing"):
            read(tmp_path / "none")
        with pytest.raises(WeightsError, match="folder"):
            read(tmp_path)


def test_a_network_is_made_only_if_the_tensors_fit_it(tmp_path: Path) -> None:
    module = nn.Linear(2, 3)
    weights = read_weights(write(tmp_path / "w.safetensors", module.state_dict()))
    again = build_strictly(lambda: nn.Linear(2, 3), weights)
    assert torch.equal(again.weight, module.weight)
    assert not again.training
    assert not again.weight.requires_grad
    # 400 GB, were it made.
    with pytest.raises(WeightsError, match=r"weight has shape \(3, 2\) instead of \(100000, 1000000\)"):
        build_strictly(lambda: nn.Linear(10**6, 10**5), weights)
    with pytest.raises(WeightsError, match=r"missing 0.weight.*unexpected weight"):
        load_strictly(nn.Sequential(nn.Linear(2, 3)), weights.tensors)


def test_honest_checkpoints_pass_the_trial(tmp_path: Path) -> None:
    state = {"state_dict": OrderedDict(a=torch.zeros(2, 3), b=torch.ones(1)), "epoch": 3}
    for legacy in (False, True):
        path = tmp_path / f"{legacy}.pt"
        torch.save(state, path, _use_new_zipfile_serialization=not legacy)
        check_torch_file(path)


def test_checkpoints_that_ask_for_too_much_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"a": torch.zeros(2)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    tuples = b"".join(b"h" + bytes([k]) * 1 + b"h" + bytes([k]) + b"\x86q" + bytes([k + 1]) + b"0" for k in range(40))
    nested = io.BytesIO()
    with zipfile.ZipFile(nested, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02K\x01q\x000" + tuples + b"}h\x28K\x01s.")
    for content, words in (
        (packed.getvalue(), "packed"),
        (nested.getvalue(), "tuple"),
        (pickle.dumps(3), "no PyTorch checkpoint"),
        (b"hello", "no readable pickle"),
    ):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=words):
            check_torch_file(path)


def test_legacy_checkpoints_may_not_declare_more_than_they_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"a": torch.zeros(70_000)}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    declared = b"J" + (70_000).to_bytes(4, "little")
    assert declared in data
    path.write_bytes(data.replace(declared, b"J" + (2**31 - 1).to_bytes(4, "little")))
    with pytest.raises(WeightsError, match="more numbers than it holds"):
        check_torch_file(path)
