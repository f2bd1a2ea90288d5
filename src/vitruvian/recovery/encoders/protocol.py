"""What an image network asks of an encoder, and the encoder of keypoints as one."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from vitruvian.errors import InputError
from vitruvian.recovery.heads import KeypointEncoder
from vitruvian.recovery.views import View, num_view_features, view_features

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""By which the pixels (red, green, blue, from 0 to 1) that encoders read are normalised."""


@runtime_checkable
class Encoder(Protocol):
    """A module from what is seen of people to their context; it may read keypoints, pixels, or both."""

    @property
    def num_context(self) -> int:
        """Length of the context."""
        ...

    def __call__(
        self, view: View | None, pixels: Float[Tensor, "batch 3 height width"] | None
    ) -> Float[Tensor, "batch context"]:
        """Contexts; raises InputError where the encoder needs what is None."""
        ...


def needed_pixels(pixels: Tensor | None) -> Float[Tensor, "batch 3 height width"]:
    """The pixels of an encoder that cannot do without; raises InputError where there are none."""
    if pixels is None:
        raise InputError("this network reads pixels", seen="keypoints alone", hint="give the photographs")
    return pixels


class ViewEncoder(KeypointEncoder):
    """The encoder of keypoints; it looks at no pixels.

    Args:
        hidden: width.
        num_blocks: residual blocks.
        num_context: length of the context.
    """

    def __init__(self, *, hidden: int = 768, num_blocks: int = 2, num_context: int = 384) -> None:
        super().__init__(num_view_features(), hidden=hidden, num_blocks=num_blocks, num_context=num_context)
        self.num_context = num_context

    def forward(self, view: View | None, pixels: Tensor | None = None) -> Float[Tensor, "batch context"]:  # type: ignore[override]
        if view is None:
            raise InputError("this network reads keypoints", seen="pixels alone")
        return super().forward(view_features(view))
