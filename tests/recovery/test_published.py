"""Published ProHMR checkpoints, filled with random values: every part computes what the published one does."""

import argparse
import math
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.recovery.published_prohmr import (
    CONTEXT,
    SIZE,
    SMALL,
    SlowFlow,
    checkpoint,
    slow_head,
    slow_rotations,
    slow_scores,
)
from vitruvian.errors import UnsafeFileError, WeightsError
from vitruvian.flows import Glow
from vitruvian.recovery.image_network import PUBLISHED_FLOW, ImageNetworkConfig
from vitruvian.recovery.published import PublishedNetwork, read_published

EXACT = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return checkpoint(torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def found(tensors: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> PublishedNetwork:
    path = tmp_path_factory.mktemp("prohmr") / "checkpoint.pt"
    torch.save({"state_dict": tensors, "epoch": 3, "hyper_parameters": argparse.Namespace(a=1)}, path)
    return read_published(path, config=SMALL)


@pytest.fixture
def context(generator: torch.Generator) -> Tensor:
    return torch.randn(3, CONTEXT, generator=generator, dtype=torch.float64)


def test_the_flow_is_the_published_one(
    tensors: dict[str, Tensor], found: PublishedNetwork, context: Tensor, generator: torch.Generator
) -> None:
    slow, distribution = SlowFlow(tensors, 4), found.network.flow(context)
    x = torch.randn(3, SIZE, generator=generator, dtype=torch.float64)
    z, log_det = slow.to_latent(x, context)
    torch.testing.assert_close(distribution.to_latent(x), z, **EXACT)
    torch.testing.assert_close(distribution.from_latent(z), slow.from_latent(z, context), **EXACT)
    expected = -0.5 * z.square().sum(-1) - 0.5 * SIZE * math.log(2 * math.pi) + log_det
    torch.testing.assert_close(distribution.log_prob(x), expected, **EXACT)


def test_mode_and_shape_and_camera_are_the_published_ones(
    tensors: dict[str, Tensor], found: PublishedNetwork, context: Tensor
) -> None:
    prediction = found.network.predict(context)
    zero = torch.zeros(3, SIZE, dtype=torch.float64)
    expected = slow_rotations(SlowFlow(tensors, 4).from_latent(zero, context))
    mode = found.network.coordinates.rotations(prediction.flow.mode, None)
    torch.testing.assert_close(mode, expected, **EXACT)
    torch.testing.assert_close(
        torch.cat((prediction.betas, prediction.camera), -1), slow_head(tensors, context), **EXACT
    )


def test_the_discriminator_is_the_published_one(
    tensors: dict[str, Tensor], found: PublishedNetwork, generator: torch.Generator
) -> None:
    assert found.critic is not None
    rotations = torch.randn(4, 24, 3, 3, generator=generator, dtype=torch.float64)
    betas = torch.randn(4, 10, generator=generator, dtype=torch.float64)
    scores = found.critic(rotations, betas)
    assert scores.shape == (4, 25)
    torch.testing.assert_close(scores, slow_scores(tensors, rotations[:, 1:], betas), **EXACT)


def test_the_backbone_is_filled(tensors: dict[str, Tensor], found: PublishedNetwork) -> None:
    own = found.network.encoder.state_dict()
    assert own.keys() == {n.removeprefix("backbone.") for n in tensors if n.startswith("backbone.")}
    for name, tensor in own.items():
        torch.testing.assert_close(tensor, tensors[f"backbone.{name}"])


def test_the_report_counts_every_tensor(tensors: dict[str, Tensor], found: PublishedNetwork) -> None:
    report = found.report
    assert report.fits
    assert set(report.read) == {"backbone", "flow", "fc_head", "discriminator"}
    assert sum(report.read.values()) + len(report.ignored) == len(tensors)
    assert {"smpl.v_template", "initialized"} < set(report.ignored)
    assert "everything fits" in str(report)


def test_the_published_size() -> None:
    parameters = Glow(PUBLISHED_FLOW).state_dict()
    unused = 4 * SIZE * (SIZE + 1)  # our triangular matrices are stored as squares
    counted = sum(
        t.numel() for n, t in parameters.items() if "running" not in n and "tracked" not in n and "started" not in n
    )
    assert counted - unused == 25_893_856
    assert ImageNetworkConfig().flow == PUBLISHED_FLOW


def test_every_difference_is_reported(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    broken = dict(tensors)
    del broken["flow.flow._transform._transforms.1.bias"]
    del broken["backbone.layer1.0.conv1.weight"]
    broken["flow.fc_head.layers.2.bias"] = torch.zeros(12, dtype=torch.float64)
    broken["discriminator.more"] = torch.zeros(1)
    broken["flow.flow._transform._transforms.5.identity_features"] = torch.arange(0, SIZE, 2)
    broken["surprise"] = torch.zeros(1)
    torch.save(broken, tmp_path / "broken.pt")
    with pytest.raises(WeightsError) as caught:
        read_published(tmp_path / "broken.pt", config=SMALL)
    for problem in (
        "unexpected surprise",
        "flow: missing 1.bias",
        "flow: rows of 5.identity_features",
        "backbone: missing layer1.0.conv1.weight",
        "fc_head: layers.2.bias: (12,) instead of (13,)",
        "discriminator: unexpected more",
    ):
        assert problem in str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        read_published(tmp_path / "none.pt")
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="no ProHMR network"):
        read_published(tmp_path / "other.pt")


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "hook": Evil(tmp_path / "ran")}, tmp_path / "evil.pt")
    with pytest.raises(UnsafeFileError, match="names code"):
        read_published(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()
