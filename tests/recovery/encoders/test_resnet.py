"""Residual networks: names and sizes of torchvision's layout, a slow twin, strict loading."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vitruvian.errors import InputError, WeightsError
from vitruvian.recovery.encoders.protocol import Encoder
from vitruvian.recovery.encoders.resnet import ResNet, load_torchvision, resnet18, resnet50


def randomized(network: ResNet, *, seed: int = 0) -> ResNet:
    """Random statistics too, so that no normalisation is near the identity."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(1 + torch.rand(tensor.shape, generator=generator))
        elif tensor.is_floating_point() and tensor.dim() == 1:
            tensor.copy_(0.5 * torch.randn(tensor.shape, generator=generator) + name.endswith("weight"))
    return network.double().eval()


def by_names(state: dict[str, Tensor], x: Tensor, depths: tuple[int, ...], convolutions: int) -> Tensor:
    """The network written from its tensor names alone."""

    def norm(name: str, y: Tensor) -> Tensor:
        scale = state[f"{name}.weight"] / (state[f"{name}.running_var"] + 1e-5).sqrt()
        shift = state[f"{name}.bias"] - state[f"{name}.running_mean"] * scale
        return y * scale[:, None, None] + shift[:, None, None]

    def convolve(name: str, y: Tensor, stride: int) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(y, weight, stride=stride, padding=weight.shape[-1] // 2)

    x = F.relu(norm("bn1", convolve("conv1", x, 2)))
    x = F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-torch.inf), 3, 2)
    for stage, depth in enumerate(depths, start=1):
        for block in range(depth):
            prefix, y = f"layer{stage}.{block}.", x
            for k in range(1, convolutions + 1):
                # The 3 × 3 convolution of a bottleneck strides, the first one of a basic block.
                strides = stage > 1 and block == 0 and k == (2 if convolutions == 3 else 1)
                y = norm(f"{prefix}bn{k}", convolve(f"{prefix}conv{k}", y, 2 if strides else 1))
                y = F.relu(y) if k < convolutions else y
            if f"{prefix}downsample.0.weight" in state:
                x = norm(f"{prefix}downsample.1", convolve(f"{prefix}downsample.0", x, 2 if stage > 1 else 1))
            x = F.relu(x + y)
    return x.mean((-2, -1)) @ state["fc.weight"].T + state["fc.bias"]


@pytest.mark.parametrize(("make", "depths", "convolutions"), [(resnet50, (3, 4, 6, 3), 3), (resnet18, (2, 2, 2, 2), 2)])
def test_the_network_is_that_of_its_names(make: type[ResNet], depths: tuple[int, ...], convolutions: int) -> None:
    network = randomized(make(width=4, num_classes=5))
    pixels = torch.randn(2, 3, 64, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    slow = by_names(network.state_dict(), pixels, depths, convolutions)
    torch.testing.assert_close(network(None, pixels), slow, rtol=1e-9, atol=1e-9)


def test_sizes_are_the_published_ones() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in resnet50(num_classes=1000).parameters()) == 25_557_032
        assert sum(p.numel() for p in resnet18(num_classes=1000).parameters()) == 11_689_512
        assert (resnet50().num_context, resnet18().num_context) == (2048, 512)
        names = set(resnet50(num_classes=1000).state_dict())
    assert {
        "conv1.weight",
        "bn1.running_mean",
        "layer1.0.downsample.1.weight",
        "layer4.2.conv3.weight",
        "fc.bias",
    } < names
    assert len(names) == 320


def test_state_dicts_load_strictly(generator: torch.Generator) -> None:
    full, encoder = randomized(resnet18(width=2, num_classes=3)), resnet18(width=2).double().eval()
    load_torchvision(encoder, full.state_dict())
    pixels = torch.randn(1, 3, 32, 32, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(encoder(None, pixels), full.features(pixels))
    broken = dict(full.state_dict())
    del broken["layer2.0.bn1.bias"]
    broken["surprise"] = torch.zeros(1)
    broken["conv1.weight"] = torch.zeros(2, 3, 3, 3)
    with pytest.raises(WeightsError) as caught:
        load_torchvision(encoder, broken)
    for problem in (
        "missing layer2.0.bn1.bias",
        "unexpected surprise",
        "conv1.weight: (2, 3, 3, 3) instead of (2, 3, 7, 7)",
    ):
        assert problem in str(caught.value)


def test_it_is_an_encoder_and_needs_pixels() -> None:
    network = resnet18(width=2)
    assert isinstance(network, Encoder)
    with pytest.raises(InputError, match="reads pixels"):
        network(None, None)
