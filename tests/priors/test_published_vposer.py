"""Reading folders in the layout of the published VPoser checkpoints."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.priors.published_folders import first_version, named, second_folder, second_version
from vitruvian.errors import UnsafeFileError, WeightsError
from vitruvian.geometry.rotations import exp_so3, matrix_to_axis_angle, six_d_to_matrix
from vitruvian.priors.published_vposer import read_published_vposer


def apply(layer: dict[str, Tensor], x: Tensor) -> Tensor:
    return x @ layer["weight"].T + layer["bias"]


def normalise(layer: dict[str, Tensor], x: Tensor) -> Tensor:
    return (x - layer["running_mean"]) / (layer["running_var"] + 1e-5).sqrt() * layer["weight"] + layer["bias"]


def test_second_version_computes_what_its_layers_say(tmp_path: Path, generator: torch.Generator) -> None:
    layers = second_version(generator)
    found = read_published_vposer(second_folder(tmp_path / "V02_05", named(layers, "vp_model.")))
    assert found.report.version == "second"
    assert found.report.fits
    assert found.report.ignored == ("bm_train.v_template",)
    assert sum(p.numel() for p in found.vposer.parameters()) == 936_252  # 0.94 million, as published
    rotations = exp_so3(torch.randn(5, 21, 3, generator=generator))
    x = normalise(layers["encoder_net.1"], matrix_to_axis_angle(rotations).flatten(1))
    x = normalise(layers["encoder_net.4"], nn.functional.leaky_relu(apply(layers["encoder_net.2"], x), 0.01))
    x = apply(layers["encoder_net.7"], apply(layers["encoder_net.6"], x))
    mean, std = found.vposer.encode(rotations)
    torch.testing.assert_close(mean, apply(layers["encoder_net.8.mu"], x), rtol=1e-4, atol=1e-5)
    expected = nn.functional.softplus(apply(layers["encoder_net.8.logvar"], x))
    torch.testing.assert_close(std, expected, rtol=1e-4, atol=1e-5)
    z = torch.randn(5, 32, generator=generator)
    y = nn.functional.leaky_relu(apply(layers["decoder_net.0"], z), 0.01)
    y = nn.functional.leaky_relu(apply(layers["decoder_net.3"], y), 0.01)
    y = six_d_to_matrix(apply(layers["decoder_net.5"], y).unflatten(-1, (21, 6)))
    torch.testing.assert_close(found.vposer.decode(z), y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("inputs", [63, 189])
@pytest.mark.parametrize("legacy_file", [False, True])
def test_first_version_is_read(tmp_path: Path, generator: torch.Generator, inputs: int, legacy_file: bool) -> None:
    layers = first_version(generator, inputs)
    folder = tmp_path / "vposer_v1_0"
    (folder / "snapshots").mkdir(parents=True)
    (folder / "TR00_004_00_WO_accad.ini").write_text("[All]\nlatentD : 32\nnum_neurons : 512\n")
    weights = folder / "snapshots" / "TR00_E096.pt"
    torch.save(named(layers), weights, _use_new_zipfile_serialization=not legacy_file)
    found = read_published_vposer(folder)
    assert found.report.version == "first"
    assert found.report.weights == weights
    assert found.vposer.settings.negative_slope == 0.2
    z = torch.randn(3, 32, generator=generator)
    y = nn.functional.leaky_relu(apply(layers["bodyprior_dec_fc1"], z), 0.2)
    y = nn.functional.leaky_relu(apply(layers["bodyprior_dec_fc2"], y), 0.2)
    y = six_d_to_matrix(apply(layers["bodyprior_dec_out"], y).unflatten(-1, (21, 6)))
    torch.testing.assert_close(found.vposer.decode(z), y, rtol=1e-4, atol=1e-5)
    assert found.vposer.encode(exp_so3(torch.zeros(1, 21, 3)))[0].shape == (1, 32)


def test_every_difference_is_reported(tmp_path: Path, generator: torch.Generator) -> None:
    tensors = named(second_version(generator), "vp_model.")
    del tensors["vp_model.decoder_net.3.bias"]
    tensors["vp_model.encoder_net.8.mu.bias"] = torch.zeros(31)
    tensors["vp_model.surprise"] = torch.zeros(1)
    with pytest.raises(WeightsError) as caught:
        read_published_vposer(second_folder(tmp_path / "V02_05", tensors))
    text = str(caught.value)
    assert "missing decoder_net.3.bias" in text
    assert "unexpected surprise" in text
    assert "encoder_net.8.mu.bias: (31,) instead of (32,)" in text


def test_settings_that_contradict_the_tensors_are_reported(tmp_path: Path, generator: torch.Generator) -> None:
    folder = second_folder(tmp_path / "V02_05", named(second_version(generator), "vp_model."))
    (folder / "V02_05.yaml").write_text("model_params:\n  latentD: 64\n")
    with pytest.raises(WeightsError, match="instead of"):
        read_published_vposer(folder)


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


def test_code_in_a_checkpoint_is_refused_and_never_run(tmp_path: Path, generator: torch.Generator) -> None:
    folder = second_folder(tmp_path / "V02_05", named(second_version(generator), "vp_model."))
    marker = tmp_path / "ran"
    torch.save({"state_dict": {}, "hook": Evil(marker)}, folder / "snapshots" / "V02_05_epoch=13_val_loss=0.03.ckpt")
    with pytest.raises(UnsafeFileError, match="names code"):
        read_published_vposer(folder)
    assert not marker.exists()


def test_objects_of_training_frameworks_are_replaced(tmp_path: Path, generator: torch.Generator) -> None:
    argparse = pytest.importorskip("argparse")
    layers = second_version(generator)
    folder = second_folder(tmp_path / "V02_05", named(layers, "vp_model."))
    content = {"state_dict": named(layers, "vp_model."), "hyper_parameters": argparse.Namespace(latent=32)}
    torch.save(content, folder / "snapshots" / "V02_05_epoch=13_val_loss=0.03.ckpt")
    assert read_published_vposer(folder).report.fits


def test_folders_without_the_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not found"):
        read_published_vposer(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="without a snapshot"):
        read_published_vposer(tmp_path / "empty")
    (tmp_path / "bad.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match="no readable"):
        read_published_vposer(tmp_path / "bad.pt")
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="neither"):
        read_published_vposer(tmp_path / "other.pt")
    torch.save({"a": 3}, tmp_path / "plain.pt")
    with pytest.raises(WeightsError, match="no state dict"):
        read_published_vposer(tmp_path / "plain.pt")
