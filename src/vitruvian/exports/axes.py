"""From the camera frame (OpenCV: y down, z forward) to the upright worlds of other programs."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.params import BodyParams

Y_UP_FROM_CAMERA = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))
"""x right, y up, z towards the viewer: glTF, BVH, OBJ."""
Z_UP_FROM_CAMERA = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))
"""x right, y away from the viewer, z up: AMASS."""


def turn_params(
    params: BodyParams,
    root: Float[Tensor, "person 3"],
    rotation: tuple[tuple[float, float, float], ...],
    shift: Float[Tensor, "3"] | None = None,
) -> BodyParams:
    """Parameters of the same people after the world is turned by `rotation` and moved by `shift`.

    `root` is the rest position J_0 of the root of each shaped body, about which the root rotation turns: the body moves
    to R·(J_0 + transl) + shift, so the new translation is that minus J_0.
    """
    R = torch.tensor(rotation, dtype=params.rotations.dtype, device=params.rotations.device)
    rotations = torch.cat((R @ params.rotations[..., :1, :, :], params.rotations[..., 1:, :, :]), dim=-3)
    place = (root + params.transl) @ R.T
    if shift is not None:
        place = place + shift
    return replace(params, rotations=rotations, transl=place - root)
