"""Which triangle of a mesh each pixel of a picture shows: a z-buffer on CPU and GPU, by Warp."""

from dataclasses import dataclass
from functools import lru_cache

import torch
import warp as wp
from jaxtyping import Float, Int
from torch import Tensor

from vitruvian.errors import ShapeError
from vitruvian.geometry.raster_kernels import NOTHING, draw_triangles, read_pixels
from vitruvian.tensors import BatchRecord


@dataclass(frozen=True, eq=False)
class Fragments(BatchRecord):
    """What the pixels of pictures show.

    Attributes:
        face: row of the nearest triangle, −1 where there is none.
        shares: of its three corners at the middle of the pixel, with perspective; zero where there is no triangle.
        depth: of the surface, metres; infinite where there is none.
    """

    face: Int[Tensor, "picture height width"]
    shares: Float[Tensor, "picture height width 3"]
    depth: Float[Tensor, "picture height width"]

    def interpolate(
        self, values: Float[Tensor, "picture vertex channel"], faces: Int[Tensor, "face 3"]
    ) -> Float[Tensor, "picture height width channel"]:
        """Values of the corners at every pixel; zero where there is no triangle."""
        count, channels = values.shape[1:]
        picture, row, column = (self.face >= 0).nonzero(as_tuple=True)
        corners = faces[self.face[picture, row, column]] + (picture * count)[:, None]
        shares = self.shares[picture, row, column].to(values.dtype)
        flat = values.reshape(-1, channels)
        seen = sum(shares[:, k, None] * flat[corners[:, k]] for k in range(3))
        out = values.new_zeros(*self.face.shape, channels)
        out[picture, row, column] = seen
        return out


def rasterize(
    pixels: Float[Tensor, "picture vertex 2"],
    depth: Float[Tensor, "picture vertex"],
    faces: Int[Tensor, "face 3"],
    *,
    width: int,
    height: int,
) -> Fragments:
    """Draw one mesh per picture; triangles are seen from both sides.

    Triangles with a corner nearer than a millimetre, or without area, are left out. Where two triangles of a mesh lie
    equally near, to the precision of single floats, the one of the lower row is seen.

    Args:
        pixels: projected vertices, pixel centres at integers + 0.5.
        depth: their distances along the optical axis, metres.
        faces: triangles of all meshes.
        width, height: size of the pictures.

    Raises:
        ShapeError: pixels and depths do not match.
    """
    if pixels.dim() != 3 or pixels.shape[:2] != depth.shape or pixels.shape[-1] != 2:
        raise ShapeError(
            "projected vertices and depths do not match",
            seen=f"{tuple(pixels.shape)} and {tuple(depth.shape)}",
            expected="(picture, vertex, 2) and (picture, vertex)",
        )
    _start()
    count, device = len(pixels), wp.device_from_torch(pixels.device)
    # Single precision would lose pixels along the edges that triangles share.
    corners = wp.from_torch(pixels.detach().double().contiguous())
    depths = wp.from_torch(depth.detach().double().contiguous())
    triangles = wp.from_torch(faces.to(device=pixels.device, dtype=torch.int32).contiguous())
    nearest = torch.full((count, height, width), NOTHING, dtype=torch.int64, device=pixels.device)
    face = torch.empty(count, height, width, dtype=torch.int32, device=pixels.device)
    shares = torch.empty(count, height, width, 3, dtype=torch.float64, device=pixels.device)
    near = torch.empty(count, height, width, dtype=torch.float64, device=pixels.device)
    if count:
        keys = wp.from_torch(nearest)
        wp.launch(draw_triangles, dim=(count, len(faces)), inputs=[corners, depths, triangles, keys], device=device)
        outputs = [wp.from_torch(tensor) for tensor in (face, shares, near)]
        wp.launch(
            read_pixels,
            dim=(count, height, width),
            inputs=[corners, depths, triangles, keys],
            outputs=outputs,
            device=device,
        )
    return Fragments(face.long(), shares.to(pixels.dtype), near.to(pixels.dtype))


@lru_cache(maxsize=1)
def _start() -> None:
    """Warp tells of its start and of every kernel that it compiles; a library keeps quiet."""
    wp.config.log_level = max(wp.config.log_level, wp.LOG_ERROR)
    wp.init()
