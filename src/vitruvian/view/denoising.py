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
