"""A z-buffer in NumPy, triangle by triangle in groups of one size: the slow twin of geometry/raster.py."""

import numpy as np
from jaxtyping import Float, Int

MAX_TRIANGLE_PX = 128


def rasterize(
    pixels: Float[np.ndarray, "vertex 2"],
    depth: Float[np.ndarray, "vertex"],
    faces: Int[np.ndarray, "face 3"],
    colors: Float[np.ndarray, "vertex 3"],
    *,
    width: int,
    height: int,
) -> tuple[Float[np.ndarray, "height width 3"], Float[np.ndarray, "height width"]]:
    """Colours interpolated over the nearest triangles, and coverage (0 or 1) of each pixel.

    Faces are drawn from both sides; those with a corner behind the camera, or larger than 128 pixels, are left out.
    """
    corners = pixels[faces]  # (face, 3, 2)
    low = np.floor(corners.min(1) - 0.5).astype(int).clip(0)
    high = np.minimum(np.ceil(corners.max(1) - 0.5).astype(int), (width - 1, height - 1))
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    size = (high - low).max(1) + 1
    usable = (np.abs(area) > 1e-9) & ((high - low).min(1) >= 0) & (depth[faces].min(1) > 1e-3)
    index, near, owner, shares = [], [], [], []
    scene = {"low": low, "high": high, "corners": corners, "area": area, "depth": depth, "faces": faces}
    start = 1
    while start <= MAX_TRIANGLE_PX:
        rows = np.flatnonzero(usable & (size >= start) & (size < 2 * start))
        for chunk in np.array_split(rows, max(1, len(rows) * 4 * start * start // 4_000_000)):
            if len(chunk):
                for values, found in zip(
                    (index, near, owner, shares), _samples(chunk, 2 * start, width, scene), strict=True
                ):
                    values.append(found)
        start *= 2
    image, coverage = np.zeros((height * width, 3)), np.zeros(height * width)
    if index:
        flat, z, face, share = (np.concatenate(v) for v in (index, near, owner, shares))
        order = np.lexsort((z, flat))
        flat, first = np.unique(flat[order], return_index=True)
        pick = order[first]
        image[flat] = (colors[faces[face[pick]]] * share[pick][..., None]).sum(1)
        coverage[flat] = 1.0
    return image.reshape(height, width, 3), coverage.reshape(height, width)


def _samples(
    rows: Int[np.ndarray, "chunk"], reach: int, width: int, scene: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of some triangles: flat index, depth, face, and perspective-correct shares of the corners."""
    grid = np.stack(np.meshgrid(np.arange(reach), np.arange(reach)), axis=-1).reshape(1, -1, 2)
    cell = scene["low"][rows][:, None] + grid
    inside = (cell <= scene["high"][rows][:, None]).all(-1)
    point = cell + 0.5
    corners = scene["corners"][rows][:, None]

    def edge(k: int, m: int) -> np.ndarray:
        p, q = corners[:, :, k], corners[:, :, m]
        return (q[..., 0] - p[..., 0]) * (point[..., 1] - p[..., 1]) - (q[..., 1] - p[..., 1]) * (
            point[..., 0] - p[..., 0]
        )

    flat_shares = np.stack((edge(1, 2), edge(2, 0), edge(0, 1)), axis=-1) / scene["area"][rows][:, None, None]
    inside &= (flat_shares >= -1e-9).all(-1)
    by_depth = flat_shares / scene["depth"][scene["faces"][rows]][:, None]
    inverse = by_depth.sum(-1)
    row, column = np.nonzero(inside)
    chosen = cell[row, column]
    z = 1 / inverse[row, column]
    return chosen[:, 1] * width + chosen[:, 0], z, rows[row], by_depth[row, column] * z[:, None]
