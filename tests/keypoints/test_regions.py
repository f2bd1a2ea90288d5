"""Regions: coordinates there and back, and cutting them out of pictures."""

import math

import numpy as np
import pytest

from vitruvian.keypoints.regions import Pyramid, Region, region_of_axis, region_of_box


def coordinates(width: int, height: int) -> np.ndarray:
    """A picture whose red and green are the position of the pixel's centre, from 0 to 255."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = ((np.arange(width) + 0.5) / width * 255).round()
    pixels[..., 1] = (((np.arange(height) + 0.5) / height * 255).round())[:, None]
    return pixels


@pytest.mark.parametrize("angle", [0.0, 0.4, math.pi / 2, -2.5])
def test_to_picture_and_back(angle: float) -> None:
    region = Region(30.0, 50.0, 20.0, angle)
    points = np.random.default_rng(0).random((7, 2))
    np.testing.assert_allclose(region.from_picture(region.to_picture(points)), points, atol=1e-12)
    np.testing.assert_allclose(region.to_picture(np.array([[0.5, 0.5]])), [[30.0, 50.0]])


def test_a_quarter_turn_clockwise_brings_the_top_to_the_right() -> None:
    region = Region(0.0, 0.0, 2.0, math.pi / 2)
    np.testing.assert_allclose(region.to_picture(np.array([[0.5, 0.0]])), [[1.0, 0.0]], atol=1e-12)


@pytest.mark.parametrize("tip", [(0.0, -1.0), (1.0, 0.0), (-0.3, 0.8)])
def test_axis_points_upwards_in_its_region(tip: tuple[float, float]) -> None:
    base = np.array([10.0, 20.0])
    region = region_of_axis(base, base + np.array(tip), 8.0)
    x, y = region.from_picture((base + np.array(tip))[None])[0]
    assert x == pytest.approx(0.5)
    assert y == pytest.approx(0.5 - math.hypot(*tip) / 8)


def test_box_holds_its_points_and_touches_them() -> None:
    points = np.random.default_rng(1).random((9, 2)) * 100
    for angle in (0.0, 0.7, 2.0):
        inside = region_of_box(points, angle).from_picture(points)
        assert inside.min() >= -1e-12
        assert inside.max() <= 1 + 1e-12
        assert max(np.ptp(inside, axis=0)) == pytest.approx(1.0)


def test_growing_moves_along_the_own_axis() -> None:
    region = Region(0.0, 0.0, 10.0, math.pi / 2).grown(2.0, shift_down=0.1)
    assert (region.x, region.y, region.side) == (pytest.approx(-1.0), pytest.approx(0.0, abs=1e-12), 20.0)


@pytest.mark.parametrize("region", [Region(90, 60, 64), Region(90, 60, 40, 0.5), Region(80, 70, 30.5, 2.2)])
def test_cut_shows_the_pixels_of_the_region(region: Region) -> None:
    size = 16
    cut = Pyramid(coordinates(180, 140)).cut(region, size)
    grid = (np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1) + 0.5) / size
    expected = region.to_picture(grid.reshape(-1, 2)) / (180, 140)
    np.testing.assert_allclose(cut[..., :2].reshape(-1, 2), expected, atol=0.006)


def test_a_large_cut_is_averaged_and_not_sampled() -> None:
    noise = np.random.default_rng(2).integers(0, 2, (512, 512, 1)).astype(np.uint8) * 255
    cut = Pyramid(np.repeat(noise, 3, axis=2)).cut(Region(256, 256, 512), 16)
    assert abs(float(cut.mean()) - 0.5) < 0.01
    assert float(cut.std()) < 0.05


def test_outside_the_picture_is_black() -> None:
    white = Pyramid(np.full((50, 40, 3), 255, dtype=np.uint8))
    cut = white.cut(Region(0, 25, 40), 40)
    assert (cut[:, :19] == 0).all()
    assert (cut[:, 21:] == 1).all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (777, 5)])
def test_very_thin_pictures_can_be_cut(shape: tuple[int, int]) -> None:
    pyramid = Pyramid(np.full((*shape, 3), 255, dtype=np.uint8))
    cut = pyramid.cut(Region(shape[1] / 2, shape[0] / 2, max(shape)), 224)
    assert cut.shape == (224, 224, 3)
    assert cut[112, 112].max() > 0
    assert pyramid.cut(Region(shape[1] / 2, shape[0] / 2, max(shape)), 8).max() <= 1
