"""Cameras: projection against the calibration matrix, its derivative, and the laws of crop, resize and flip."""

import math
from dataclasses import replace

import pytest
import torch

from vitruvian.errors import InputError
from vitruvian.geometry.cameras import Camera, focal_px_from_35mm


def camera(*batch: int) -> Camera:
    generator = torch.Generator().manual_seed(7)
    size = torch.rand(*batch, 2, generator=generator, dtype=torch.float64) * 500 + 300
    focal = torch.rand(*batch, 2, generator=generator, dtype=torch.float64) * 500 + 400
    center = size * (0.4 + 0.2 * torch.rand(*batch, 2, generator=generator, dtype=torch.float64))
    return Camera(focal, center, size)


def points(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(8)
    xyz = torch.randn(*shape, 3, generator=generator, dtype=torch.float64)
    return xyz + torch.tensor([0.0, 0.0, 6.0], dtype=torch.float64)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_projection_is_the_calibration_matrix_followed_by_the_division(batch: tuple[int, ...]) -> None:
    cam, xyz = camera(*batch), points(*batch, 5)
    homogeneous = torch.einsum("...ij,...nj->...ni", cam.matrix, xyz)
    torch.testing.assert_close(cam.project(xyz), homogeneous[..., :2] / homogeneous[..., 2:])


def test_unproject_inverts_project() -> None:
    cam, xyz = camera(4), points(4, 6)
    torch.testing.assert_close(cam.unproject(cam.project(xyz), xyz[..., 2]), xyz)


def test_jacobian_is_the_derivative_also_behind_the_camera() -> None:
    cam = camera()
    xyz = torch.cat((points(3), torch.tensor([[0.2, 0.1, -1.0]], dtype=torch.float64)))
    dense = torch.autograd.functional.jacobian(cam.project, xyz)
    blocks = torch.stack([dense[n, :, n] for n in range(4)])
    torch.testing.assert_close(cam.projection_jacobian(xyz), blocks)


def test_points_at_the_camera_stay_finite() -> None:
    behind = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, -3.0]], dtype=torch.float64)
    assert camera().project(behind).isfinite().all()


def test_crop_moves_pixels_and_resize_scales_them() -> None:
    cam, xyz = camera(2), points(2, 4)
    pixels = cam.project(xyz)
    corner = torch.tensor([31.0, -12.0], dtype=torch.float64)
    window = cam.crop(left=31, top=-12, width=100, height=80)
    torch.testing.assert_close(window.project(xyz), pixels - corner)
    small = cam.resize(width=64, height=48)
    torch.testing.assert_close(small.project(xyz), pixels * (small.image_size / cam.image_size)[:, None])
    assert window.image_size.tolist() == [[100.0, 80.0]] * 2


def test_flip_mirrors_the_picture_and_twice_is_nothing() -> None:
    cam, xyz = camera(2), points(2, 4)
    mirrored = xyz * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    expected = cam.project(xyz)
    expected[..., 0] = cam.image_size[:, None, 0] - expected[..., 0]
    torch.testing.assert_close(cam.flip().project(mirrored), expected)
    torch.testing.assert_close(cam.flip().flip().center_px, cam.center_px)


def test_default_focal_is_the_diagonal_and_35mm_film_is_its_own_equivalent() -> None:
    cam = Camera.from_image_size(640, 480, dtype=torch.float64)
    assert cam.focal_px.tolist() == [800.0, 800.0]
    assert cam.center_px.tolist() == [320.0, 240.0]
    assert Camera.from_image_size(640, 480, focal_px=1234.0).focal_px.tolist() == [1234.0, 1234.0]
    # On a frame of 36 × 24 "pixels" one pixel is one millimetre of film.
    assert math.isclose(focal_px_from_35mm(50.0, width=36, height=24), 50.0)


@pytest.mark.parametrize(
    ("width", "height", "focal"), [(0, 10, None), (10, -1, None), (math.nan, 5, None), (5, 5, 0.0), (5, 5, math.inf)]
)
def test_impossible_sizes_and_focal_lengths_are_refused(width: float, height: float, focal: float | None) -> None:
    with pytest.raises(InputError):
        Camera.from_image_size(width, height, focal_px=focal)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "640", None, True, 10**400, 1e300])
def test_what_is_no_number_of_pixels_is_refused(value: object) -> None:
    camera = Camera.from_image_size(640, 480)
    for make in (
        lambda: Camera.from_image_size(value, 480),  # type: ignore[arg-type]
        lambda: Camera.from_image_size(640, value),  # type: ignore[arg-type]
        lambda: camera.resize(width=value, height=2),  # type: ignore[arg-type]
        lambda: camera.crop(left=0, top=0, width=3, height=value),  # type: ignore[arg-type]
    ):
        with pytest.raises(InputError, match="positive number of pixels"):
            make()
    if value is not None:
        with pytest.raises(InputError, match="not a focal length"):
            Camera.from_image_size(640, 480, focal_px=value)  # type: ignore[arg-type]


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("field", ["focal_px", "center_px", "image_size"])
@pytest.mark.parametrize("value", [-1.0, 0.0, float("nan"), float("inf")])
def test_cameras_that_users_make_are_looked_at_before_use(field: str, value: float) -> None:
    camera = Camera.from_image_size(640, 480)
    assert camera.validated() is camera
    odd = replace(camera, **{field: torch.tensor([5.0, value])})
    if field == "center_px" and value <= 0:
        assert odd.validated() is odd  # the middle of a cropped picture may lie outside it
    else:
        with pytest.raises(InputError, match=f"no usable {field}"):
            odd.validated()
    with pytest.raises(InputError, match="do not match"):
        replace(camera, **{field: torch.ones(3, 2)}).validated()
