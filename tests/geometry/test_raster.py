"""The z-buffer in Warp against a slow twin in NumPy; hidden triangles, pictures of a batch, nothing in sight."""

import pytest
import torch
from torch import Tensor

from tests.geometry.slow_raster import rasterize as slow_rasterize
from vitruvian.errors import ShapeError
from vitruvian.geometry.raster import rasterize

WIDTH, HEIGHT = 40, 30


def triangles(count: int, *, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels, depths and faces of random triangles, some of them partly or wholly outside, some behind the camera."""
    generator = torch.Generator().manual_seed(seed)
    center = torch.rand(count, 1, 2, generator=generator) * torch.tensor([WIDTH + 20, HEIGHT + 20]) - 10
    pixels = (center + 6 * torch.randn(count, 3, 2, generator=generator)).view(-1, 2).double()
    depth = (0.5 + 3 * torch.rand(count * 3, generator=generator)).double()
    depth[:5] = -1.0
    return pixels, depth, torch.arange(3 * count).view(count, 3)


def test_pixels_are_those_of_the_slow_twin() -> None:
    pixels, depth, faces = triangles(60, seed=0)
    colors = torch.rand(len(pixels), 3, generator=torch.Generator().manual_seed(1)).double()
    seen = rasterize(pixels[None], depth[None], faces, width=WIDTH, height=HEIGHT)
    image, coverage = slow_rasterize(
        pixels.numpy(), depth.numpy(), faces.numpy(), colors.numpy(), width=WIDTH, height=HEIGHT
    )
    assert torch.equal(seen.face[0] >= 0, torch.from_numpy(coverage > 0))
    assert 0.2 < coverage.mean() < 0.95
    fast = seen.interpolate(colors[None], faces)[0]
    torch.testing.assert_close(fast, torch.from_numpy(image), rtol=0, atol=1e-12)
    covered = seen.face[0] >= 0
    torch.testing.assert_close(seen.shares[0].sum(-1)[covered], torch.ones(int(covered.sum())).double())
    assert seen.depth[0][~covered].isinf().all()
    points = seen.interpolate(depth[None, :, None], faces)[0, ..., 0]
    torch.testing.assert_close(points[covered], seen.depth[0][covered])


def test_each_picture_of_a_batch_stands_alone() -> None:
    a, b = triangles(20, seed=2), triangles(20, seed=3)
    together = rasterize(torch.stack((a[0], b[0])), torch.stack((a[1], b[1])), a[2], width=WIDTH, height=HEIGHT)
    for row, (pixels, depth, faces) in enumerate((a, b)):
        alone = rasterize(pixels[None], depth[None], faces, width=WIDTH, height=HEIGHT)
        assert torch.equal(together.face[row], alone.face[0])
        assert torch.equal(together.shares[row], alone.shares[0])


def test_the_nearest_triangle_is_seen_whatever_the_order() -> None:
    square = torch.tensor([[0.0, 0.0], [30.0, 0.0], [0.0, 30.0]], dtype=torch.float64)
    pixels, depth = torch.cat((square, square)), torch.tensor([2.0] * 3 + [1.0] * 3, dtype=torch.float64)
    for faces, nearest in (([[0, 1, 2], [3, 4, 5]], 1), ([[3, 4, 5], [0, 1, 2]], 0)):
        seen = rasterize(pixels[None], depth[None], torch.tensor(faces), width=8, height=8)
        assert (seen.face == nearest).all()


def test_nothing_in_sight() -> None:
    pixels, depth, faces = triangles(4, seed=4)
    seen = rasterize(pixels[None] + 1000, depth[None], faces, width=8, height=8)
    assert (seen.face == -1).all()
    assert not seen.interpolate(torch.ones(1, len(pixels), 2), faces).any()
    assert rasterize(
        pixels[None, :0].expand(0, -1, -1), depth[None, :0].expand(0, -1), faces[:0], width=4, height=4
    ).face.shape == (0, 4, 4)
    with pytest.raises(ShapeError):
        rasterize(pixels, depth, faces, width=8, height=8)
