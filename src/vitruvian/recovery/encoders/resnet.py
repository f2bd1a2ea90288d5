"""Residual networks (He et al. 2016) with the tensor names of torchvision, so that its state dicts load strictly.

The stride of a bottleneck lies in its 3 × 3 convolution, as in torchvision ("ResNet v1.5").
"""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vitruvian.assets.torch_files import differences, listed
from vitruvian.errors import WeightsError
from vitruvian.recovery.encoders.protocol import needed_pixels
from vitruvian.recovery.views import View

_CLASSIFIER = ("fc.weight", "fc.bias")


def _convolution(inputs: int, outputs: int, *, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """What the skipping connection does where shapes change."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_convolution(inputs, outputs, kernel=1, stride=stride), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions (ResNet-18 and -34)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, width, kernel=3, stride=stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(width, width, kernel=3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1 × 1, 3 × 3 and 1 × 1 convolutions (ResNet-50 and deeper)."""

    expansion = 4

    def __init__(self, inputs: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, width, kernel=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(width, width, kernel=3, stride=stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _convolution(width, width * self.expansion, kernel=1)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.downsample = _shortcut(inputs, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """A residual network up to its pooled features, with a classifier on top where one is asked for.

    Args:
        block: `BasicBlock` or `Bottleneck`.
        depths: blocks of each of the four stages.
        width: channels of the first stage; each further one has twice as many.
        num_classes: outputs of the classifier; None: no classifier, the features are the result.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        *,
        width: int = 64,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs, stages = width, []
        for stage, depth in enumerate(depths):
            channels = width << stage
            blocks = []
            for number in range(depth):
                blocks.append(block(inputs, channels, stride=2 if stage and number == 0 else 1))
                inputs = channels * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.num_context = inputs
        self.fc = None if num_classes is None else nn.Linear(inputs, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch context"]:
        """Features of the last stage, averaged over the picture."""
        x = F.relu(self.bn1(self.conv1(pixels)))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((-2, -1))

    def forward(self, view: View | None, pixels: Tensor | None) -> Float[Tensor, "batch output"]:
        """Features, or the classifier's outputs; the view is not looked at."""
        features = self.features(needed_pixels(pixels))
        return features if self.fc is None else self.fc(features)


def resnet50(*, width: int = 64, num_classes: int | None = None) -> ResNet:
    """ResNet-50: 2048 features, 23.5 M parameters without a classifier."""
    return ResNet(Bottleneck, (3, 4, 6, 3), width=width, num_classes=num_classes)


def resnet18(*, width: int = 64, num_classes: int | None = None) -> ResNet:
    """ResNet-18: 512 features, 11.2 M parameters without a classifier."""
    return ResNet(BasicBlock, (2, 2, 2, 2), width=width, num_classes=num_classes)


def load_torchvision(network: ResNet, tensors: Mapping[str, Tensor]) -> None:
    """Fill a network from a state dict of torchvision's layout; the classifier is left out where there is none.

    Raises:
        WeightsError: anything else is missing, left over, or of another shape; all differences are listed.
    """
    given = {n: t for n, t in tensors.items() if network.fc is not None or n not in _CLASSIFIER}
    problems = differences(network.state_dict(), given)
    if problems:
        raise WeightsError(
            "the tensors are not those of this residual network",
            seen=listed(problems),
            expected="a state dict of torchvision's layout",
        )
    network.load_state_dict(given)
