"""Pictures of posed meshes through a camera: over a photograph, from the side, or in sheets."""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, UInt8

from vitruvian.bodies.colours import BODY_COLOURS
from vitruvian.errors import InputError, ShapeError
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.meshes import Mesh
from vitruvian.view.ray_tracing import Lighting, Window, trace_people, trace_shadow

Colour: TypeAlias = str | Sequence[float] | np.ndarray | torch.Tensor
Picture: TypeAlias = UInt8[np.ndarray, "height width channel"]

COLOURS: dict[str, tuple[float, float, float]] = {
    **BODY_COLOURS,
    "mode": (0.95, 0.68, 0.73),
    "fit": (0.64, 0.84, 0.66),
}
"""sRGB colours by role: bodies by gender, the mode of a posterior pink, a fit green."""
BACKDROP = (0.93, 0.93, 0.94)
"""Colour behind bodies that stand before no photograph."""


def render_meshes(
    meshes: Mesh | Sequence[Mesh],
    camera: Camera,
    *,
    colors: Colour | Sequence[Colour] | None = None,
    background: Colour | None = None,
    samples: int = 16,
    lighting: Lighting | None = None,
    floor_y: float | None = None,
) -> UInt8[np.ndarray, "height width 4"]:
    """Render meshes that stand in the camera frame (OpenCV: x right, y down, z forward, metres).

    Args:
        meshes: one or several meshes; leading batch axes are several people.
        camera: one camera; its principal point may lie anywhere. `image_size` is the size of the picture.
        colors: per mesh a name from `COLOURS`, three numbers (sRGB, 0-1), or `(V, 3)` numbers, one row per vertex.
            One value serves all meshes.
        background: name or three numbers; None leaves the background transparent.
        samples: rays per pixel.
        lighting: the lights; None takes the default.
        floor_y: height (y, downward) of a floor of the colour of the background that receives shadows; None for none.

    Returns:
        RGBA, straight (not premultiplied) alpha; alpha is the coverage of the pixel by the bodies.

    Raises:
        MissingPackageError: mitsuba is not installed.
        InputError, ShapeError: colours, camera or vertices that cannot be drawn.
    """
    people = split_people(meshes)
    width, height = _picture_size(camera)
    vertex_colors = _vertex_colors(people, colors)
    lights = lighting or Lighting()
    backdrop = None if background is None else _plain_colour(background)
    rgba = np.zeros((height, width, 4), dtype=np.float32)
    window = _window(people, camera)
    if window is not None:
        traced = trace_people(people, vertex_colors, camera, window, lighting=lights, samples=samples)
        traced[..., :3] = _to_srgb(traced[..., :3])
        rgba[window.top : window.bottom, window.left : window.right] = traced
    if backdrop is not None:
        behind = np.broadcast_to(backdrop, (height, width, 3))
        if floor_y is not None:
            shadow = trace_shadow(
                people, camera, rgba[..., 3], floor_y=floor_y, lighting=lights, samples=max(samples, 16)
            )
            behind = behind * _to_srgb(shadow)[..., None]
        rgba[..., :3] = rgba[..., :3] * rgba[..., 3:] + behind * (1.0 - rgba[..., 3:])
        rgba[..., 3] = 1.0
    return (rgba * 255.0 + 0.5).clip(0, 255).astype(np.uint8)


def overlay(
    image: Picture,
    meshes: Mesh | Sequence[Mesh],
    camera: Camera,
    *,
    colors: Colour | Sequence[Colour] | None = None,
    opacity: float = 1.0,
    samples: int = 16,
) -> UInt8[np.ndarray, "height width 3"]:
    """Lay bodies over the photograph that `camera` took.

    Raises:
        ShapeError: the photograph does not have the size that the camera says.
    """
    width, height = _picture_size(camera)
    if image.ndim != 3 or image.shape[:2] != (height, width) or image.shape[2] < 3:
        raise ShapeError(
            "the photograph does not match the camera", seen=tuple(image.shape), expected=(height, width, 3)
        )
    rgba = render_meshes(meshes, camera, colors=colors, samples=samples).astype(np.float32)
    alpha = rgba[..., 3:] / 255.0 * opacity
    return (rgba[..., :3] * alpha + image[..., :3] * (1.0 - alpha) + 0.5).clip(0, 255).astype(np.uint8)


def turned_view(
    meshes: Mesh | Sequence[Mesh],
    *,
    angle_deg: float = 90.0,
    size: tuple[int, int] = (512, 512),
    colors: Colour | Sequence[Colour] | None = None,
    background: Colour | None = BACKDROP,
    samples: int = 16,
    floor: bool = True,
) -> UInt8[np.ndarray, "height width 4"]:
    """The same people turned about the vertical (the camera's y axis) through their middle, framed to fit.

    `angle_deg` = 90 shows what the camera sees on its left from its right side; `size` is (width, height).
    """
    people = split_people(meshes)
    everyone = torch.cat([mesh.vertices.detach() for mesh in people]).double()
    _require_finite(everyone)
    low, high = everyone.amin(0), everyone.amax(0)
    middle = (low + high) / 2
    turn = math.radians(angle_deg)
    rotation = torch.tensor(
        [[math.cos(turn), 0.0, -math.sin(turn)], [0.0, 1.0, 0.0], [math.sin(turn), 0.0, math.cos(turn)]],
        dtype=torch.float64,
    )
    turned = [Mesh((mesh.vertices.double() - middle) @ rotation.T, mesh.faces) for mesh in people]
    camera, distance = framing_camera(torch.cat([mesh.vertices for mesh in turned]), size)
    shift = torch.tensor([0.0, 0.0, distance], dtype=torch.float64)
    placed = [Mesh((mesh.vertices + shift).to(people[0].vertices.dtype), mesh.faces) for mesh in turned]
    floor_y = float(high[1] - middle[1]) if floor else None
    return render_meshes(placed, camera, colors=colors, background=background, samples=samples, floor_y=floor_y)


def framing_camera(
    vertices: Float[torch.Tensor, "vertex 3"], size: tuple[int, int], *, margin: float = 1.12, fov_deg: float = 30.0
) -> tuple[Camera, float]:
    """A camera of `size` (width, height), and the distance at which it sees vertices centred on the origin whole."""
    width, height = size
    focal = max(size) / 2 / math.tan(math.radians(fov_deg) / 2)
    x, y, z = vertices.double().abs().amax(0).tolist()
    distance = z + margin * focal * max(x / (width / 2), y / (height / 2))
    return Camera.from_image_size(width, height, focal_px=focal), max(distance, 0.1)


def sheet(pictures: Sequence[Picture], *, columns: int, gap: int = 4, background: int = 255) -> Picture:
    """Lay pictures of one size out in rows; RGBA pictures are composited on the background."""
    if not pictures:
        raise InputError("no pictures to lay out")
    tiles = [_opaque(picture, background) for picture in pictures]
    height, width = tiles[0].shape[:2]
    rows = math.ceil(len(tiles) / columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, 3)
    page = np.full(shape, background, dtype=np.uint8)
    for index, tile in enumerate(tiles):
        if tile.shape != tiles[0].shape:
            raise ShapeError("pictures of one sheet differ in size", seen=tile.shape, expected=tiles[0].shape)
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        page[top : top + height, left : left + width] = tile
    return page


def heat_colors(values: Float[np.ndarray, "vertex"], *, maximum: float) -> Float[np.ndarray, "vertex 3"]:
    """Colours of non-negative values per vertex, such as an uncertainty in millimetres: pale blue, yellow, red."""
    stops = np.array(
        [[0.55, 0.71, 0.87], [0.75, 0.86, 0.80], [0.97, 0.86, 0.50], [0.95, 0.55, 0.30], [0.75, 0.15, 0.15]]
    )
    place = np.nan_to_num(np.asarray(values, dtype=np.float64) / maximum, nan=1.0).clip(0, 1) * (len(stops) - 1)
    lower = np.minimum(place.astype(int), len(stops) - 2)
    share = (place - lower)[:, None]
    return stops[lower] * (1 - share) + stops[lower + 1] * share


def split_people(meshes: Mesh | Sequence[Mesh]) -> list[Mesh]:
    """One mesh per person: batch axes become several meshes.

    Raises:
        ShapeError: vertices are not (..., V, 3).
    """
    people = []
    for mesh in [meshes] if isinstance(meshes, Mesh) else meshes:
        if mesh.vertices.shape[-1] != 3 or mesh.vertices.ndim < 2:
            raise ShapeError("not a mesh", seen=tuple(mesh.vertices.shape), expected="(..., vertices, 3)")
        for vertices in mesh.vertices.detach().cpu().reshape(-1, *mesh.vertices.shape[-2:]):
            people.append(Mesh(vertices, mesh.faces.cpu()))
    if not people:
        raise InputError("nothing to draw: no meshes")
    return people


def _picture_size(camera: Camera) -> tuple[int, int]:
    if camera.focal_px.shape != (2,):
        raise ShapeError("a picture is taken by one camera", seen=tuple(camera.focal_px.shape), expected="(2,)")
    width, height = (round(side) for side in camera.image_size.tolist())
    if width < 1 or height < 1:
        raise InputError("the picture has no pixels", seen=f"{width} × {height}", expected="a positive size")
    return width, height


def _require_finite(vertices: torch.Tensor) -> None:
    if not torch.isfinite(vertices).all():
        raise InputError("a mesh holds NaN or infinite vertices", hint="draw only people whose status says ok")


def _plain_colour(colour: Colour) -> np.ndarray:
    if isinstance(colour, str):
        if colour not in COLOURS:
            raise InputError("unknown colour", seen=colour, expected=", ".join(COLOURS))
        colour = COLOURS[colour]
    values = np.asarray(colour, dtype=np.float64)
    if values.shape != (3,):
        raise ShapeError("not a colour", seen=values.shape, expected="three numbers between 0 and 1")
    return values


def _vertex_colors(people: Sequence[Mesh], colors: Colour | Sequence[Colour] | None) -> list[np.ndarray]:
    """Linear-light RGB per vertex of each person."""
    if colors is None:
        colors = "neutral"
    single = isinstance(colors, str) or (np.ndim(colors[0]) == 0 and not isinstance(colors[0], str))
    each: list[Any] = [colors] * len(people) if single else list(colors)
    if len(each) != len(people):
        raise ShapeError("one colour per person is needed", seen=len(each), expected=len(people))
    result = []
    for mesh, colour in zip(people, each, strict=True):
        count = mesh.vertices.shape[0]
        if not isinstance(colour, str) and np.ndim(colour) == 2:
            values = np.asarray(colour, dtype=np.float64)
            if values.shape != (count, 3):
                raise ShapeError("colours do not match the vertices", seen=values.shape, expected=(count, 3))
        else:
            values = np.broadcast_to(_plain_colour(colour), (count, 3))
        result.append(_to_linear(values.clip(0, 1)))
    return result


def _to_linear(srgb: np.ndarray) -> np.ndarray:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _to_srgb(linear: np.ndarray) -> np.ndarray:
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def _window(people: Sequence[Mesh], camera: Camera) -> Window | None:
    """The pixels that people can cover; None where they are out of sight."""
    width, height = _picture_size(camera)
    vertices = torch.cat([mesh.vertices for mesh in people]).double()
    _require_finite(vertices)
    in_front = vertices[:, 2] > 1e-2
    if not in_front.any():
        return None
    if not in_front.all():  # a body around the camera can cover any pixel
        return Window(0, 0, width, height)
    pixels = camera.to(dtype=torch.float64, device="cpu").project(vertices)
    left, top = (int(x) for x in (pixels.amin(0).floor() - 1).clamp_min(0).tolist())
    right, bottom = (int(x) for x in (pixels.amax(0).ceil() + 1).tolist())
    window = Window(left, top, min(right, width), min(bottom, height))
    return window if window.left < window.right and window.top < window.bottom else None


def _opaque(picture: Picture, background: int) -> Picture:
    if picture.shape[2] == 3:
        return picture
    alpha = picture[..., 3:].astype(np.float32) / 255.0
    return (picture[..., :3] * alpha + background * (1 - alpha) + 0.5).astype(np.uint8)
