"""Photographs: every mode and orientation, very large and very small pictures, damaged files, focal length."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from vitruvian.errors import InputError, MissingPackageError
from vitruvian.geometry.cameras import focal_px_from_35mm
from vitruvian.keypoints.images import (
    MAX_LOADED_PIXELS,
    Photograph,
    focal_px_from_exif,
    image_files,
    read_image,
)
from vitruvian.keypoints.picture_files import folder_pictures

BASE = ExifTags.Base


def gradient(width: int = 60, height: int = 40) -> np.ndarray:
    """Red grows to the right and green downwards, so that any turn shows."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.linspace(20, 220, width).astype(np.uint8)
    pixels[..., 1] = np.linspace(20, 220, height).astype(np.uint8)[:, None]
    pixels[..., 2] = 128
    return pixels


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp"])
def test_lossless_rgb_comes_back_as_it_is(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(gradient()).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    photo = read_image(path)
    assert np.array_equal(photo.pixels, gradient())
    assert (photo.image_size, photo.name, photo.focal_px) == ((60, 40), f"a{suffix}", None)
    assert photo.scale == (1.0, 1.0)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_turn_in_the_metadata_is_undone(tmp_path: Path, orientation: int, suffix: str) -> None:
    undo = {
        1: (0, False),
        2: (0, True),
        3: (2, False),
        4: (2, True),
        5: (1, True),
        6: (1, False),
        7: (3, True),
        8: (3, False),
    }
    turns, mirrored = undo[orientation]
    stored = gradient()[:, ::-1] if mirrored else gradient()
    stored = np.rot90(stored, turns)
    exif = Image.Exif()
    exif[BASE.Orientation] = orientation
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, quality=95)
    photo = read_image(path)
    assert photo.image_size == (60, 40)
    assert np.abs(photo.pixels.astype(int) - gradient()).mean() < 3


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "LA", "RGBA", "LAB"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.tif" if mode == "LAB" else "a.png")
    image = Image.fromarray(gradient())
    if mode == "LAB":
        image = ImageCms.applyTransform(
            image, ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        )
    else:
        image = image.convert(mode)
    image.save(path)
    photo = read_image(path)
    assert photo.pixels.shape == (40, 60, 3)
    assert photo.pixels.dtype == np.uint8
    expected = np.asarray(Image.fromarray(gradient()).convert("L" if mode in ("L", "LA", "1") else "RGB"), dtype=float)
    got = photo.pixels.astype(float)
    got = got.mean(-1) if expected.ndim == 2 else got
    assert abs(got.mean() - expected.mean()) < 12


def test_transparent_pixels_are_white(tmp_path: Path) -> None:
    rgba = np.dstack((gradient(), np.full((40, 60), 255, dtype=np.uint8)))
    rgba[:20, :, 3] = 0
    rgba[20:, 30:, 3] = 128
    Image.fromarray(rgba).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png").pixels
    assert (pixels[:20] == 255).all()
    assert np.array_equal(pixels[20:, :30], gradient()[20:, :30])
    half = (gradient()[20:, 30:].astype(float) + 255) / 2
    assert np.abs(pixels[20:, 30:] - half).max() < 2
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.putpixel((0, 0), 0)
    palette.save(tmp_path / "p.png", transparency=0)
    pixels = read_image(tmp_path / "p.png").pixels
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[1, 1].tolist() == [10, 20, 30]


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_pictures_are_scaled_to_8_bits(tmp_path: Path, dtype: type) -> None:
    grey = gradient()[..., 0]
    deep = grey.astype(np.float32) / 255 if dtype is np.float32 else grey.astype(dtype) * 257
    path = tmp_path / ("a.png" if dtype is np.uint16 else "a.tif")
    Image.fromarray(deep).save(path)
    pixels = read_image(path).pixels
    assert np.abs(pixels.astype(int) - grey[..., None]).max() <= 1


def test_16_bit_colour_png(tmp_path: Path) -> None:
    deep = gradient().astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in deep)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60, 40, 16, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    assert np.array_equal(read_image(tmp_path / "a.png").pixels, gradient())


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_fifty_megapixels_are_held_smaller_and_positions_stay_those_of_the_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"big{suffix}"
    Image.linear_gradient("L").resize((8660, 5774)).convert("RGB" if suffix == ".jpg" else "L").save(path)
    photo = read_image(path)
    assert photo.image_size == (8660, 5774)
    assert photo.pixels.shape[0] * photo.pixels.shape[1] <= MAX_LOADED_PIXELS * 1.01
    np.testing.assert_allclose(photo.scale, photo.scale[0], rtol=1e-3)
    rows = photo.pixels[..., 0].mean(1)
    assert abs(rows[len(rows) // 4] - 64) < 3
    assert photo.camera().focal_px[0] == pytest.approx(np.hypot(8660, 5774))


def test_more_pixels_than_memory_should_hold_are_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 9_500)).save(path)
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match="too large"):
        read_image(path)


def test_two_by_two_pixels_can_be_read(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), (1, 2, 3)).save(tmp_path / "a.png")
    photo = read_image(tmp_path / "a.png")
    assert photo.image_size == (2, 2)
    assert photo.pixels[1, 1].tolist() == [1, 2, 3]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".gif"])
def test_truncated_files_are_input_errors(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    for keep in (len(data) // 2, 60, 12):
        path.write_bytes(data[:keep])
        with pytest.raises(InputError):
            read_image(path)


def test_files_that_are_no_pictures_are_input_errors_that_say_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"")
    with pytest.raises(InputError, match="empty"):
        read_image(path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(InputError, match="html"):
        read_image(path)
    with pytest.raises(InputError, match="does not exist"):
        read_image(tmp_path / "b.jpg")
    with pytest.raises(InputError, match="folder"):
        read_image(tmp_path)


def test_damaged_metadata_do_not_spoil_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(gradient()).save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff\xff\xff\xff\xff", quality=95)
    photo = read_image(path)
    assert photo.image_size == (60, 40)
    assert photo.focal_px is None


def test_focal_length_from_the_metadata(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[BASE.FocalLengthIn35mmFilm] = 28
    path = tmp_path / "a.jpg"
    Image.fromarray(gradient()).save(path, exif=exif)
    photo = read_image(path)
    assert photo.focal_px == pytest.approx(focal_px_from_35mm(28, width=60, height=40))
    assert photo.camera().focal_px.tolist() == pytest.approx([photo.focal_px] * 2)
    assert photo.camera(focal_px=77).focal_px.tolist() == [77.0, 77.0]


def test_focal_length_from_the_sensor() -> None:
    tags = {
        BASE.FocalLength: (50.0), BASE.FocalPlaneXResolution: 1000.0, BASE.FocalPlaneResolutionUnit: 3,
        BASE.ExifImageWidth: 6000, BASE.ExifImageHeight: 4000,
    }  # fmt: skip
    # 1000 pixels a centimetre are 100 a millimetre: 50 mm are 5000 pixels of the full picture.
    assert focal_px_from_exif(tags, width=6000, height=4000) == pytest.approx(5000)
    assert focal_px_from_exif(tags, width=3000, height=2000) == pytest.approx(2500)
    assert focal_px_from_exif(tags, width=2000, height=3000) == pytest.approx(2500)


@pytest.mark.parametrize("value", [0, -5, float("nan"), "far", None, b"x"])
def test_nonsense_focal_lengths_are_ignored(value: object) -> None:
    assert focal_px_from_exif({BASE.FocalLengthIn35mmFilm: value}, width=60, height=40) is None


def test_a_cropped_picture_keeps_no_focal_length() -> None:
    tags = {BASE.FocalLengthIn35mmFilm: 28, BASE.ExifImageWidth: 6000, BASE.ExifImageHeight: 4000}
    assert focal_px_from_exif(tags, width=3000, height=2000) is not None
    assert focal_px_from_exif(tags, width=3000, height=3000) is None


def test_arrays_are_pictures_too() -> None:
    assert np.array_equal(Photograph.from_array(gradient()).pixels, gradient())
    assert Photograph.from_array(gradient()[..., 0]).pixels.shape == (40, 60, 3)
    floats = Photograph.from_array(gradient().astype(np.float32) / 255)
    assert np.abs(floats.pixels.astype(int) - gradient()).max() <= 1
    for shape in ((3,), (4, 5, 2), (0, 4, 3)):
        with pytest.raises(InputError):
            Photograph.from_array(np.zeros(shape, dtype=np.uint8))


def test_pictures_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "c.png").mkdir()
    assert [path.name for path in image_files(tmp_path)] == ["a.png", "b.JPG"]
    with pytest.raises(InputError):
        image_files(tmp_path / "missing")


def test_files_left_out_of_a_folder_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitruvian.keypoints.picture_files.heif_is_read", lambda: False)
    for name in ("a.png", "b.heic", "c.mp4", "d.tga", "e.txt", "f.avif"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "g.jpg").symlink_to(tmp_path / "nothing.jpg")
    found = folder_pictures(tmp_path)
    assert [file.name for file in found.files] == ["a.png", "f.avif"]
    assert {skipped.path.name: skipped.reason.split()[1] for skipped in found.skipped} == {
        "b.heic": "HEIF", "c.mp4": "video;", "d.tga": "format", "g.jpg": "link",
    }  # fmt: skip
    with pytest.raises(MissingPackageError, match="vitruvian\\[heif\\]"):
        read_image(tmp_path / "b.heic")


@pytest.mark.parametrize("mode", ["P", "I;16", "F", "RGBA", "L"])
def test_strips_of_a_large_picture_are_those_of_the_whole(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(0, 255, (90, 70, 3), dtype=np.uint8)
    image = Image.fromarray(values).convert("L" if mode in ("I;16", "F") else mode)
    if mode in ("I;16", "F"):
        image = Image.fromarray(np.asarray(image).astype(np.uint16 if mode == "I;16" else np.float32) * 200)
    options = {"transparency": 3} if mode == "P" else {}
    path = tmp_path / ("a.tif" if mode == "F" else "a.png")
    image.save(path, **options)
    monkeypatch.setattr("vitruvian.keypoints.images.MAX_LOADED_PIXELS", 30 * 25)
    whole = read_image(path)
    monkeypatch.setattr("vitruvian.keypoints.images._STRIP_PIXELS", 70 * 7)
    strips = read_image(path)
    assert strips.pixels.shape == whole.pixels.shape
    assert strips.image_size == (70, 90)
    assert np.abs(strips.pixels.astype(int) - whole.pixels).max() <= 2


def test_pictures_that_come_in_endless_passes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(gradient()).save(path, progressive=True)
    data = path.read_bytes()
    scan = data[data.index(b"\xff\xda") : data.index(b"\xff\xda") + 30]
    path.write_bytes(data[:-2] + scan * 200 + data[-2:])
    with pytest.raises(InputError, match="scans"):
        read_image(path)


def test_a_focal_length_of_zero_is_not_ignored() -> None:
    with pytest.raises(InputError, match="focal length"):
        Photograph.from_array(gradient(), focal_px=50.0).camera(focal_px=0)
