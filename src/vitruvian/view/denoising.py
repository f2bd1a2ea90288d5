"""Edge-preserving smoothing of noisy ray-traced light, guided by surface normals."""

import numpy as np
from jaxtyping import Float

_KERNEL = np.array([0.25, 0.5, 0.25], dtype=np.float32)
_NORMAL_SHARPNESS = 24.0


def smooth_light(
    light: Float[np.ndarray, "height width channel"],
    normals: Float[np.ndarray, "height width 3"],
    coverage: Float[np.ndarray, "height width"],
    *,
    iterations: int = 3,
) -> Float[np.ndarray, "height width channel"]:
    """À-trous wavelet filter (Dammertz et al. 2010): a 3 × 3 kernel whose taps move apart, 1, 2, 4 … pixels.

    A tap counts as far as its normal agrees with the normal of the pixel and as far as its pixel is covered, so light
    does not run over edges or from the background. Smooth the light without the colour of the surface (divide by the
    albedo first), else colours blur too.
    """
    result = light.astype(np.float32, copy=True)
    normals = normals.astype(np.float32)
    coverage = coverage.astype(np.float32)
    for level in range(iterations):
        total = np.zeros_like(result)
        weight_sum = np.zeros(coverage.shape, dtype=np.float32)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                here, there = _overlap(coverage.shape, dy << level, dx << level)
                agreement = np.einsum("hwc,hwc->hw", normals[here], normals[there]).clip(0.0, 1.0)
                weight = np.exp(_NORMAL_SHARPNESS * (agreement - 1.0)) * coverage[there]
                weight *= _KERNEL[dy + 1] * _KERNEL[dx + 1]
                total[here] += weight[..., None] * result[there]
                weight_sum[here] += weight
        result = np.where(weight_sum[..., None] > 1e-6, total / np.maximum(weight_sum, 1e-6)[..., None], result)
    return result


def halve(
    values: Float[np.ndarray, "height width channel"], offset: tuple[int, int], shape: tuple[int, int]
) -> Float[np.ndarray, "half_height half_width channel"]:
    """Means over 2 × 2 pixels of a picture that starts `offset` pixels inside the first of them, down and right."""
    padded = np.zeros((2 * shape[0], 2 * shape[1], values.shape[2]), dtype=np.float32)
    top, left = offset
    padded[top : top + values.shape[0], left : left + values.shape[1]] = values
    return (padded[0::2, 0::2] + padded[1::2, 0::2] + padded[0::2, 1::2] + padded[1::2, 1::2]) / 4


def double_along_normals(
    light: Float[np.ndarray, "half_height half_width channel"],
    half_normals: Float[np.ndarray, "half_height half_width 3"],
    half_coverage: Float[np.ndarray, "half_height half_width"],
    normals: Float[np.ndarray, "height width 3"],
    offset: tuple[int, int],
) -> Float[np.ndarray, "height width channel"]:
    """Bring light to twice the size (joint bilateral upsampling, Kopf et al. 2007).

    Each pixel takes the mean of the four nearest small ones, by distance and by how far their normals agree with its
    own. `offset` is that of `halve`.
    """
    height, width = normals.shape[:2]
    y, x = np.arange(height) + offset[0], np.arange(width) + offset[1]
    total = np.zeros((height, width, light.shape[2]), dtype=np.float32)
    weight_sum = np.zeros((height, width), dtype=np.float32)
    for near_y in (True, False):
        rows, share_y = _neighbour(y, light.shape[0], near_y)
        for near_x in (True, False):
            columns, share_x = _neighbour(x, light.shape[1], near_x)
            place = np.ix_(rows, columns)
            agreement = np.einsum("hwc,hwc->hw", normals, half_normals[place]).clip(0.0, 1.0)
            weight = np.exp(_NORMAL_SHARPNESS * (agreement - 1.0)) * half_coverage[place] + 1e-6
            weight = (weight * share_y[:, None] * share_x[None, :]).astype(np.float32)
            total += weight[..., None] * light[place]
            weight_sum += weight
    return total / weight_sum[..., None]


def _neighbour(places: np.ndarray, length: int, near: bool) -> tuple[np.ndarray, np.ndarray]:
    """Of the two small pixels around each large one, the nearer or the farther, and its bilinear share."""
    nearest = places // 2
    rows = nearest if near else nearest + np.where(places % 2 == 0, -1, 1)
    return rows.clip(0, length - 1), np.full(len(places), 0.75 if near else 0.25, dtype=np.float32)


def blur(
    values: Float[np.ndarray, "height width channel"],
    weights: Float[np.ndarray, "height width"],
    *,
    radius: int,
) -> Float[np.ndarray, "height width channel"]:
    """Weighted mean over a window, three passes of a box (close to a Gaussian); pixels of weight zero do not count."""
    total = np.concatenate((values * weights[..., None], weights[..., None]), axis=-1).astype(np.float64)
    for _ in range(3):
        for axis in (0, 1):
            total = _box(total, radius, axis)
    return (total[..., :-1] / np.maximum(total[..., -1:], 1e-9)).astype(np.float32)


def _box(values: np.ndarray, radius: int, axis: int) -> np.ndarray:
    padding = [(0, 0)] * values.ndim
    padding[axis] = (radius + 1, radius)
    sums = np.cumsum(np.pad(values, padding, mode="edge"), axis=axis)
    length = values.shape[axis]
    width = 2 * radius + 1
    upper = np.take(sums, range(width, width + length), axis=axis)
    return (upper - np.take(sums, range(length), axis=axis)) / width


def _overlap(shape: tuple[int, ...], dy: int, dx: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of the pixels that have a neighbour at (dy, dx) inside the picture, and of those neighbours."""
    height, width = shape[:2]
    here = (slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx)))
    there = (slice(max(0, dy), height - max(0, -dy)), slice(max(0, dx), width - max(0, -dx)))
    return here, there
