"""Crops: the affine map and its inverse, pixels against a slow loop, and what turns and margins do."""

import math

import numpy as np
import pytest
import torch

from vitruvian.errors import InputError
from vitruvian.keypoints.crops import Crop, crop_of_box, crop_pixels, normalized_pixels
from vitruvian.keypoints.observations import Keypoints


def crop(x: float, y: float, side: float, angle: float = 0.0) -> Crop:
    return Crop(*(torch.tensor(value, dtype=torch.float64) for value in ([x, y], side, angle)))


def picture(width: int, height: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def slowly(pixels: np.ndarray, window: Crop, size: int) -> np.ndarray:
    """Pixel by pixel, in float64."""
    block = max(1, math.floor(float(window.side_px) / size))
    rows, columns = math.ceil(pixels.shape[0] / block), math.ceil(pixels.shape[1] / block)
    coarse = np.zeros((rows, columns, 3))
    for i in range(rows):
        for j in range(columns):
            coarse[i, j] = pixels[i * block : (i + 1) * block, j * block : (j + 1) * block].mean((0, 1))
    cos, sin = math.cos(float(window.angle)), math.sin(float(window.angle))
    out = np.zeros((size, size, 3))
    for row in range(size):
        for column in range(size):
            a, b = ((v + 0.5 - size / 2) * float(window.side_px) / size for v in (column, row))
            x = (float(window.center_px[0]) + a * cos - b * sin) / block - 0.5
            y = (float(window.center_px[1]) + a * sin + b * cos) / block - 0.5
            for i, wy in ((math.floor(y), 1 - y % 1), (math.floor(y) + 1, y % 1)):
                for j, wx in ((math.floor(x), 1 - x % 1), (math.floor(x) + 1, x % 1)):
                    if 0 <= i < rows and 0 <= j < columns:
                        out[row, column] += wy * wx * coarse[i, j]
    return out


@pytest.mark.parametrize(
    "window",
    [crop(30, 22, 20), crop(31.3, 20.1, 47.9, 0.4), crop(3, 41, 30, -2.0), crop(30.2, 20, 95, 0.1), crop(32, 24, 5)],
    ids=["upright", "turned", "over the edge", "finer picture", "enlarged"],
)
def test_pixels_are_those_of_a_slow_loop(window: Crop) -> None:
    pixels = picture(63, 45)
    fast = crop_pixels(pixels, window, 16).permute(1, 2, 0).double()
    slow = torch.from_numpy(slowly(pixels, window, 16))
    # A block of whole pixels at the right edge may be smaller; positions agree to single precision.
    assert float((fast - slow).abs().max()) <= 0.5 + 0.02


def test_a_window_outside_the_picture_is_black() -> None:
    assert not crop_pixels(picture(20, 20), crop(500, 500, 30), 8).any()


def test_the_matrix_and_its_inverse_undo_each_other(generator: torch.Generator) -> None:
    draw = torch.rand(7, 4, dtype=torch.float64, generator=generator)
    window = Crop(100 * draw[:, :2], 10 + 50 * draw[:, 2], 6 * draw[:, 3])
    there, back = window.matrix(224), window.inverse_matrix(224)
    points = 100 * torch.rand(7, 9, 2, dtype=torch.float64, generator=generator)
    seen = points @ there[..., :2].transpose(-1, -2) + there[..., 2][:, None]
    again = seen @ back[..., :2].transpose(-1, -2) + back[..., 2][:, None]
    torch.testing.assert_close(again, points)
    torch.testing.assert_close(
        (there[..., :2] @ window.center_px[..., None])[..., 0] + there[..., 2],
        torch.full((7, 2), 112.0, dtype=torch.float64),
    )


def test_keypoints_move_with_the_pixels() -> None:
    pixels = np.zeros((60, 80, 3), dtype=np.uint8)
    pixels[20, 50] = 255
    window = crop(40, 30, 60, 0.7)
    seen = Keypoints(torch.tensor([[50.5, 20.5]] * 25, dtype=torch.float64), torch.ones(25).double(), "openpose-body25")
    x, y = seen.transform(window.matrix(60)).positions[0].tolist()
    image = crop_pixels(pixels, window, 60)[0].double()
    at = (image * torch.arange(60)).sum() / image.sum() + 0.5, (image.T * torch.arange(60)).sum() / image.sum() + 0.5
    assert [float(v) for v in at] == pytest.approx([x, y], abs=0.3)


def test_a_box_lies_inside_its_crop_with_a_margin() -> None:
    window = crop_of_box(torch.tensor([10.0, 20.0, 50.0, 120.0]), margin=1.2)
    assert window.center_px.tolist() == [30.0, 70.0]
    assert float(window.side_px) == pytest.approx(120.0)


def test_normalised_pixels() -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8).expand(3, 1, 2)
    out = normalized_pixels(pixels, mean=(0.5, 0.4, 0.3), std=(0.5, 0.2, 0.1))
    torch.testing.assert_close(out[:, 0], torch.tensor([[-1.0, 1.0], [-2.0, 3.0], [-3.0, 7.0]]))


def test_several_windows_are_refused() -> None:
    with pytest.raises(InputError, match="one window"):
        crop_pixels(picture(8, 8), crop_of_box(torch.zeros(2, 4)), 4)
