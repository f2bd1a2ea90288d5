"""Folders in the layout of the published VPoser checkpoints, filled with random weights."""

from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor


def linear(generator: torch.Generator, rows: int, columns: int) -> dict[str, Tensor]:
    return {
        "weight": 0.05 * torch.randn(rows, columns, generator=generator),
        "bias": 0.1 * torch.randn(rows, generator=generator),
    }


def batch_norm(generator: torch.Generator, size: int) -> dict[str, Tensor]:
    return {
        "weight": 1 + 0.1 * torch.randn(size, generator=generator),
        "bias": 0.1 * torch.randn(size, generator=generator),
        "running_mean": 0.1 * torch.randn(size, generator=generator),
        "running_var": 1 + torch.rand(size, generator=generator),
        "num_batches_tracked": torch.tensor(7),
    }


def named(layers: dict[str, dict[str, Tensor]], prefix: str = "") -> "OrderedDict[str, Tensor]":
    return OrderedDict((f"{prefix}{a}.{b}", tensor) for a, layer in layers.items() for b, tensor in layer.items())


def second_version(g: torch.Generator) -> dict[str, dict[str, Tensor]]:
    return {
        "encoder_net.1": batch_norm(g, 63), "encoder_net.2": linear(g, 512, 63), "encoder_net.4": batch_norm(g, 512),
        "encoder_net.6": linear(g, 512, 512), "encoder_net.7": linear(g, 512, 512),
        "encoder_net.8.mu": linear(g, 32, 512), "encoder_net.8.logvar": linear(g, 32, 512),
        "decoder_net.0": linear(g, 512, 32), "decoder_net.3": linear(g, 512, 512), "decoder_net.5": linear(g, 126, 512),
    }  # fmt: skip


def first_version(g: torch.Generator, inputs: int = 63) -> dict[str, dict[str, Tensor]]:
    return {
        "bodyprior_enc_bn1": batch_norm(g, inputs), "bodyprior_enc_fc1": linear(g, 512, inputs),
        "bodyprior_enc_bn2": batch_norm(g, 512), "bodyprior_enc_fc2": linear(g, 512, 512),
        "bodyprior_enc_mu": linear(g, 32, 512), "bodyprior_enc_logvar": linear(g, 32, 512),
        "bodyprior_dec_fc1": linear(g, 512, 32), "bodyprior_dec_fc2": linear(g, 512, 512),
        "bodyprior_dec_out": linear(g, 126, 512),
    }  # fmt: skip


def second_folder(path: Path, tensors: dict[str, Tensor]) -> Path:
    (path / "snapshots").mkdir(parents=True)
    (path / "V02_05.yaml").write_text("model_params:\n  num_neurons: 512\n  latentD: 32\n")
    body_model = {"bm_train.v_template": torch.zeros(10, 3)}
    content = {"epoch": 13, "global_step": 100, "state_dict": OrderedDict(tensors | body_model)}
    torch.save(content, path / "snapshots" / "V02_05_epoch=13_val_loss=0.03.ckpt")
    return path
