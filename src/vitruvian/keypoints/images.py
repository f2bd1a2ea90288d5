"""Reading users' photographs: any mode, size and orientation, to 8-bit RGB with the pixel grid of the original."""

import math
import warnings
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from vitruvian.assets import limits
from vitruvian.errors import InputError, VitruvianError
from vitruvian.geometry.cameras import Camera, focal_px_from_35mm
from vitruvian.keypoints.picture_files import IMAGE_SUFFIXES, image_files, prepare_for

__all__ = ["IMAGE_SUFFIXES", "Photograph", "focal_px_from_exif", "image_files", "read_image"]

MAX_FILE_PIXELS = 178_000_000
"""Pictures with more pixels are refused before they are decoded: a small file may unpack to any amount of memory."""
BYTES_PER_PIXEL = {
    "PNG": 4,
    "GIF": 5,
    "TIFF": 8,
    "WEBP": 16,
    "JPEG2000": 21,
    "AVIF": 11,
    "HEIF": 16,
}
"""Memory that Pillow takes for a pixel while it decodes a format, the largest case; 4 for others."""
_PROGRESSIVE_BYTES_PER_PIXEL = 6
"""A JPEG that comes in passes is held whole as coefficients of 16 bits."""
_MAX_SCANS = 100
"""Passes over a JPEG; each takes time for all pixels."""
_STRIP_PIXELS = 4_000_000
MAX_LOADED_PIXELS = 12_000_000
"""Larger pictures are held at a reduced size; positions stay in pixels of the original."""
_MM_PER_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
_ASPECT_TOLERANCE = 0.02


@dataclass(frozen=True, eq=False)
class Photograph:
    """A picture turned upright, as 8-bit RGB.

    Attributes:
        pixels: `(height, width, 3)` uint8; smaller than `image_size` where the file is very large.
        image_size: width and height of the file's picture, turned upright; pixel coordinates refer to these.
        name: name of the file, for reports.
        focal_px: focal length in pixels of `image_size` that the metadata tell, None where they do not.
    """

    pixels: np.ndarray
    image_size: tuple[int, int]
    name: str = ""
    focal_px: float | None = None

    @staticmethod
    def from_array(pixels: np.ndarray, *, name: str = "", focal_px: float | None = None) -> "Photograph":
        """A picture that is in memory already: `(height, width)` or `(height, width, 1|3|4)`, uint8 or 0-1 floats."""
        if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)) or not pixels.size:
            raise InputError("not a picture", seen=f"an array of shape {pixels.shape}", expected="(height, width, 3)")
        if pixels.dtype != np.uint8:
            pixels = _to_8_bit(pixels)
        image = Image.fromarray(np.ascontiguousarray(pixels.squeeze(2) if pixels.shape[2:] == (1,) else pixels))
        rgb = np.asarray(_to_rgb(image))
        return Photograph(rgb, (rgb.shape[1], rgb.shape[0]), name, focal_px)

    @property
    def scale(self) -> tuple[float, float]:
        """Loaded pixels per pixel of the original, along x and y; 1 unless the file is very large."""
        return self.pixels.shape[1] / self.image_size[0], self.pixels.shape[0] / self.image_size[1]

    def camera(self, *, focal_px: float | None = None) -> Camera:
        """The camera of the picture: `focal_px`, else that of the metadata, else the image diagonal."""
        return Camera.from_image_size(*self.image_size, focal_px=self.focal_px if focal_px is None else focal_px)


def read_image(path: str | Path) -> Photograph:
    """Read a photograph: turned as its metadata say, grey and palette as RGB, transparent on white, 16-bit as 8-bit.

    Of an animation the first picture is taken.

    Raises:
        InputError: no such file, an empty file, no picture, a truncated one, or one of more than 178 megapixels (of
            formats whose decoders need much memory, fewer).
        MissingPackageError: a HEIF picture where the extra `heif` is not installed.
    """
    path = Path(path)
    _check_file(path)
    prepare_for(path)
    with warnings.catch_warnings():
        # Pillow warns of every picture above 89 megapixels and of odd metadata; both are dealt with here.
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as image:
                return _load(image, path)
        except VitruvianError:
            raise
        except Image.DecompressionBombError as error:
            raise _too_large(path, str(error)) from error
        except UnidentifiedImageError as error:
            raise InputError(
                "the file is not an image that can be read",
                seen=f"{path.name}, which begins with {_first_bytes(path)}",
                expected="JPEG, PNG, WebP, TIFF, BMP or GIF",
                hint="convert raw files to JPEG first",
            ) from error
        except MemoryError as error:
            raise _too_large(path, "not enough memory") from error
        except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
            raise InputError("the image is damaged or truncated", seen=f"{path.name}: {error}") from error


def _check_file(path: Path) -> None:
    if not path.is_file():
        seen = f"{path} is a folder" if path.is_dir() else f"{path} does not exist"
        raise InputError("no such image", seen=seen, expected="a file")
    if path.stat().st_size == 0:
        raise InputError("the image file is empty", seen=f"{path.name}, 0 bytes")


def _first_bytes(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return repr(file.read(12))
    except OSError as error:
        return f"nothing readable ({error.strerror})"


def _too_large(path: Path, seen: str) -> InputError:
    expected = f"at most {MAX_FILE_PIXELS // 1_000_000} megapixels"
    return InputError("the image is too large", seen=f"{path.name}: {seen}", expected=expected, hint="make it smaller")


def _load(image: Image.Image, path: Path) -> Photograph:
    width, height = image.size
    _check_size(image, path)
    _check_scans(image, path)
    focal_px = focal_px_from_exif(_exif(image), width=width, height=height)
    reduced = _reduced_size(width, height)
    if reduced != (width, height):
        image.draft("RGB", reduced)  # JPEG decodes straight to a smaller size
    image.load()
    turn = _exif(image).get(ExifTags.Base.Orientation, 1)  # asked after loading, when Pillow has turned TIFF itself
    rgb = _reduced_rgb(image, reduced)
    if turn in _TRANSPOSE:
        rgb = rgb.transpose(_TRANSPOSE[turn])
    upright = (height, width) if turn in (5, 6, 7, 8) else (width, height)
    return Photograph(np.asarray(rgb), upright, path.name, focal_px)


_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each value of the EXIF orientation."""


def _reduced_size(width: int, height: int) -> tuple[int, int]:
    if width * height <= MAX_LOADED_PIXELS:
        return width, height
    scale = (MAX_LOADED_PIXELS / (width * height)) ** 0.5
    return max(1, round(width * scale)), max(1, round(height * scale))


def _check_size(image: Image.Image, path: Path) -> None:
    """Refuse a picture for whose pixels there is no room, by what its header says."""
    width, height = image.size
    progressive = image.format in ("JPEG", "MPO") and image.info.get("progressive")
    taken = _PROGRESSIVE_BYTES_PER_PIXEL if progressive else BYTES_PER_PIXEL.get(image.format or "", 4)
    if width * height > MAX_FILE_PIXELS or taken * width * height > limits.MAX_DECODED_BYTES:
        raise _too_large(path, f"{width} × {height} pixels of {image.format}")


def _check_scans(image: Image.Image, path: Path) -> None:
    if image.format not in ("JPEG", "MPO"):
        return
    scans, before = 0, b""
    with path.open("rb") as file:
        for part in iter(lambda: file.read(limits.MEGABYTE), b""):
            scans += (before + part).count(b"\xff\xda")
            before = part[-1:]
    if scans > _MAX_SCANS:
        raise _too_large(path, f"{scans} scans")


def _reduced_rgb(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture as RGB at a size that is not larger; strip by strip, since colours may take more room than pixels."""
    full = None if image.mode in ("RGB", "L") else _white(image)
    if image.size == size and image.size[0] * image.size[1] <= MAX_LOADED_PIXELS:
        return _to_rgb(image, full)
    out = Image.new("RGB", size)
    scale = image.size[1] / size[1]
    rows = max(1, int(_STRIP_PIXELS / (image.size[0] * scale)))
    for top in range(0, size[1], rows):
        bottom = min(size[1], top + rows)
        first, last = math.floor(top * scale), min(image.size[1], math.ceil(bottom * scale))
        strip = image.crop((0, first, image.size[0], last))
        strip.info = image.info
        window = (0, top * scale - first, image.size[0], min(bottom * scale, image.size[1]) - first)
        out.paste(_to_rgb(strip, full).resize((size[0], bottom - top), Image.Resampling.BOX, window), (0, top))
    return out


def _white(image: Image.Image) -> float | None:
    """The sample that is white, of pictures of 16 or 32 bits or of floating point; None for others."""
    if not (image.mode.startswith("I") or image.mode == "F"):
        return None
    rows = max(1, _STRIP_PIXELS // image.size[0])
    strips = (
        np.asarray(image.crop((0, y, image.size[0], min(y + rows, image.size[1]))))
        for y in range(0, image.size[1], rows)
    )
    highest, floating = 0.0, image.mode == "F"
    for strip in strips:
        highest = max(highest, float(_finite(strip).max(initial=0.0)))
    return _full_scale(highest, floating=floating)


def _to_rgb(image: Image.Image, white: float | None = None) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_to_8_bit(np.asarray(image), white))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, rgba).convert("RGB")
    return image.convert("RGB")


def _to_8_bit(values: np.ndarray, white: float | None = None) -> np.ndarray:
    """Bring 16-bit, 32-bit and floating-point samples to 0-255; without `white` it is told from the samples."""
    samples = _finite(values)
    if white is None:
        highest = float(samples.max(initial=0.0))
        white = _full_scale(highest, floating=bool(np.issubdtype(values.dtype, np.floating)))
    return (samples.clip(0.0, white) * (255.0 / white) + 0.5).astype(np.uint8)


def _finite(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values.astype(np.float32), copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def _full_scale(highest: float, *, floating: bool) -> float:
    """White is the first of 1 (only of floats), 255 and 65535 that no sample exceeds, else the brightest sample."""
    ranges = (1.0, 255.0, 65535.0) if floating else (255.0, 65535.0)
    return next((limit for limit in ranges if highest <= limit), highest)


def _exif(image: Image.Image) -> dict[int, Any]:
    """Tags of the picture and of its EXIF block; empty where the metadata are damaged."""
    try:
        exif = image.getexif()
        return {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
    except Exception:  # the metadata of a picture may be any bytes; without them it can still be read
        return {}


def _positive(value: Any) -> float | None:
    """A metadata number as float; None unless positive and finite."""
    try:
        number = float(Fraction(value)) if isinstance(value, str) else float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return number if 0 < number < float("inf") else None


def focal_px_from_exif(tags: dict[int, Any], *, width: int, height: int) -> float | None:
    """Focal length in pixels of a picture of `width` × `height` from its EXIF tags; None where they do not tell.

    Taken from the 35 mm equivalent, else from the focal length and the resolution of the sensor. A picture whose shape
    differs from the one recorded by the camera was cropped, so its tags tell nothing.
    """
    base = ExifTags.Base
    taken = (_positive(tags.get(base.ExifImageWidth)), _positive(tags.get(base.ExifImageHeight)))
    factor = 1.0
    if taken[0] is not None and taken[1] is not None:
        long_taken, long_now = max(taken[0], taken[1]), max(width, height)
        aspect_taken, aspect_now = long_taken / min(taken[0], taken[1]), long_now / min(width, height)
        if abs(aspect_taken / aspect_now - 1) > _ASPECT_TOLERANCE:
            return None
        factor = long_now / long_taken
    equivalent = _positive(tags.get(base.FocalLengthIn35mmFilm))
    if equivalent is not None:
        return focal_px_from_35mm(equivalent, width=width, height=height)
    focal_mm = _positive(tags.get(base.FocalLength))
    resolution = _positive(tags.get(base.FocalPlaneXResolution))
    if focal_mm is None or resolution is None or taken[0] is None:
        return None
    mm_per_unit = _MM_PER_UNIT.get(tags.get(base.FocalPlaneResolutionUnit, 2), 25.4)
    return focal_mm * resolution / mm_per_unit * factor
