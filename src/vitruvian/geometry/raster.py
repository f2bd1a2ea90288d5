"""Which triangle of a mesh each pixel of a picture shows: a z-buffer on CPU and GPU, by Warp."""

from dataclasses import dataclass
from functools import lru_cache

import torch
import warp as wp
from jaxtyping import Float, Int
from torch import Tensor

from vitruvian.errors import ShapeError
from vitruvian.tensors import BatchRecord

MIN_DEPTH_M = 1e-3
_FAR = 0x7FFFFFFFFFFFFFFF
_INSIDE = -1e-9


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
    nearest = torch.full((count, height, width), _FAR, dtype=torch.int64, device=pixels.device)
    face = torch.empty(count, height, width, dtype=torch.int32, device=pixels.device)
    shares = torch.empty(count, height, width, 3, dtype=torch.float64, device=pixels.device)
    near = torch.empty(count, height, width, dtype=torch.float64, device=pixels.device)
    if count:
        keys = wp.from_torch(nearest)
        wp.launch(_draw, dim=(count, len(faces)), inputs=[corners, depths, triangles, keys], device=device)
        outputs = [wp.from_torch(tensor) for tensor in (face, shares, near)]
        wp.launch(
            _read, dim=(count, height, width), inputs=[corners, depths, triangles, keys], outputs=outputs, device=device
        )
    return Fragments(face.long(), shares.to(pixels.dtype), near.to(pixels.dtype))


@lru_cache(maxsize=1)
def _start() -> None:
    """Warp tells of its start and of every kernel that it compiles; a library keeps quiet."""
    wp.config.log_level = max(wp.config.log_level, wp.LOG_ERROR)
    wp.init()


@wp.func
def _edge(
    p: wp.vec2d,
    q: wp.vec2d,
    x: wp.float64,
    y: wp.float64,
) -> wp.float64:
    return (q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0])


@wp.func
def _corner(pixels: wp.array3d(dtype=wp.float64), picture: int, vertex: int) -> wp.vec2d:  # type: ignore[valid-type]
    return wp.vec2d(pixels[picture, vertex, 0], pixels[picture, vertex, 1])


@wp.kernel(enable_backward=False)
def _draw(
    pixels: wp.array3d(dtype=wp.float64),  # type: ignore[valid-type]
    depth: wp.array2d(dtype=wp.float64),  # type: ignore[valid-type]
    faces: wp.array2d(dtype=wp.int32),  # type: ignore[valid-type]
    nearest: wp.array3d(dtype=wp.int64),  # type: ignore[valid-type]
) -> None:
    """One thread a triangle: lower the key (bits of the depth, then the row of the triangle) of the pixels inside."""
    picture, face = wp.tid()
    i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
    a, b, c = _corner(pixels, picture, i), _corner(pixels, picture, j), _corner(pixels, picture, k)
    za, zb, zc = depth[picture, i], depth[picture, j], depth[picture, k]
    area = _edge(a, b, c[0], c[1])
    if wp.abs(area) <= wp.float64(1e-9) or wp.min(za, wp.min(zb, zc)) <= wp.float64(MIN_DEPTH_M):
        return
    half = wp.float64(0.5)
    low_x = wp.max(wp.int32(wp.floor(wp.min(a[0], wp.min(b[0], c[0])) - half)), 0)
    low_y = wp.max(wp.int32(wp.floor(wp.min(a[1], wp.min(b[1], c[1])) - half)), 0)
    high_x = wp.min(wp.int32(wp.ceil(wp.max(a[0], wp.max(b[0], c[0])) - half)), nearest.shape[2] - 1)
    high_y = wp.min(wp.int32(wp.ceil(wp.max(a[1], wp.max(b[1], c[1])) - half)), nearest.shape[1] - 1)
    for row in range(low_y, high_y + 1):
        for column in range(low_x, high_x + 1):
            x, y = wp.float64(column) + half, wp.float64(row) + half
            u, v, w = _edge(b, c, x, y) / area, _edge(c, a, x, y) / area, _edge(a, b, x, y) / area
            if wp.min(u, wp.min(v, w)) >= wp.float64(_INSIDE):
                z = wp.float32(wp.float64(1.0) / (u / za + v / zb + w / zc))
                key = (wp.int64(wp.cast(z, wp.int32)) << wp.int64(32)) | wp.int64(face)
                wp.atomic_min(nearest, picture, row, column, key)


@wp.kernel(enable_backward=False)
def _read(
    pixels: wp.array3d(dtype=wp.float64),  # type: ignore[valid-type]
    depth: wp.array2d(dtype=wp.float64),  # type: ignore[valid-type]
    faces: wp.array2d(dtype=wp.int32),  # type: ignore[valid-type]
    nearest: wp.array3d(dtype=wp.int64),  # type: ignore[valid-type]
    face_of: wp.array3d(dtype=wp.int32),  # type: ignore[valid-type]
    shares: wp.array4d(dtype=wp.float64),  # type: ignore[valid-type]
    near: wp.array3d(dtype=wp.float64),  # type: ignore[valid-type]
) -> None:
    """One thread a pixel: the triangle of its key, and the shares of that one's corners."""
    picture, row, column = wp.tid()
    key = nearest[picture, row, column]
    if key == wp.int64(_FAR):
        face_of[picture, row, column] = -1
        for corner in range(3):
            shares[picture, row, column, corner] = wp.float64(0.0)
        near[picture, row, column] = wp.float64(wp.inf)
        return
    face = wp.int32(key & wp.int64(0x7FFFFFFF))
    face_of[picture, row, column] = face
    i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
    a, b, c = _corner(pixels, picture, i), _corner(pixels, picture, j), _corner(pixels, picture, k)
    x, y = wp.float64(column) + wp.float64(0.5), wp.float64(row) + wp.float64(0.5)
    area = _edge(a, b, c[0], c[1])
    u = _edge(b, c, x, y) / area / depth[picture, i]
    v = _edge(c, a, x, y) / area / depth[picture, j]
    w = _edge(a, b, x, y) / area / depth[picture, k]
    z = wp.float64(1.0) / (u + v + w)
    near[picture, row, column] = z
    shares[picture, row, column, 0] = u * z
    shares[picture, row, column, 1] = v * z
    shares[picture, row, column, 2] = w * z
