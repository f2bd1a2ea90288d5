"""What a fit sees of people: their keypoints in the order of the targets, and what follows from them."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitruvian.geometry.cameras import Camera
from vitruvian.tensors import BatchRecord


@dataclass(frozen=True, eq=False)
class Observations(BatchRecord):
    """Keypoints brought to the order of the targets, one row per person or per start of a person.

    Attributes:
        rows: which of the people given to the fit each row is, for terms and priors that differ between people.
        positions: pixels; anything where the weight is zero.
        weights: confidence times the trust in the place, zero where unseen.
        sigma_px: expected error of a keypoint.
        camera: intrinsics.
        upright: weight of standing upright.
        usable: enough keypoints are seen.
        shape: centre of the shape prior; zero if None.
    """

    rows: Int[Tensor, "batch"]
    positions: Float[Tensor, "batch point 2"]
    weights: Float[Tensor, "batch point"]
    sigma_px: Float[Tensor, "batch"]
    camera: Camera
    upright: Float[Tensor, "batch"]
    usable: Bool[Tensor, "batch"]
    shape: Float[Tensor, "batch shape"] | None = None
