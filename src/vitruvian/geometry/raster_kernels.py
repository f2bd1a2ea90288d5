"""The kernels of the z-buffer, in Warp's subset of Python."""
# mypy: ignore-errors

import warp as wp

MIN_DEPTH_M = 1e-3
"""Triangles with a corner nearer than this are not drawn."""
NOTHING = 0x7FFFFFFFFFFFFFFF
"""Key of a pixel without a triangle."""
INSIDE = -1e-9
"""Smallest share of a corner inside a triangle: rounding must not open gaps along shared edges."""


@wp.func
def _edge(
    p: wp.vec2d,
    q: wp.vec2d,
    x: wp.float64,
    y: wp.float64,
) -> wp.float64:
    return (q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0])


@wp.func
def _corner(pixels: wp.array3d(dtype=wp.float64), picture: int, vertex: int) -> wp.vec2d:
    return wp.vec2d(pixels[picture, vertex, 0], pixels[picture, vertex, 1])


@wp.kernel(enable_backward=False)
def draw_triangles(
    pixels: wp.array3d(dtype=wp.float64),
    depth: wp.array2d(dtype=wp.float64),
    faces: wp.array2d(dtype=wp.int32),
    nearest: wp.array3d(dtype=wp.int64),
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
            if wp.min(u, wp.min(v, w)) >= wp.float64(INSIDE):
                z = wp.float32(wp.float64(1.0) / (u / za + v / zb + w / zc))
                key = (wp.int64(wp.cast(z, wp.int32)) << wp.int64(32)) | wp.int64(face)
                wp.atomic_min(nearest, picture, row, column, key)


@wp.kernel(enable_backward=False)
def read_pixels(
    pixels: wp.array3d(dtype=wp.float64),
    depth: wp.array2d(dtype=wp.float64),
    faces: wp.array2d(dtype=wp.int32),
    nearest: wp.array3d(dtype=wp.int64),
    face_of: wp.array3d(dtype=wp.int32),
    shares: wp.array4d(dtype=wp.float64),
    near: wp.array3d(dtype=wp.float64),
) -> None:
    """One thread a pixel: the triangle of its key, and the shares of that one's corners."""
    picture, row, column = wp.tid()
    key = nearest[picture, row, column]
    if key == wp.int64(NOTHING):
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
