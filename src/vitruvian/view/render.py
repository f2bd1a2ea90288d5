"""Pictures of posed meshes through a camera: over a photograph, from the side, or in sheets.

Mitsuba 3 renders without any system library. Its `scalar_rgb` variant is used: it needs no LLVM or CUDA, and on one
picture it is faster than the compiled variants, which spend longer on tracing kernels than on rays.
"""

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, UInt8

from vitruvian.errors import InputError, MissingPackageError, ShapeError
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.meshes import Mesh

Colour: TypeAlias = str | Sequence[float] | np.ndarray | torch.Tensor
Picture: TypeAlias = UInt8[np.ndarray, "height width channel"]

COLOURS: dict[str, tuple[float, float, float]] = {
    "neutral": (0.53, 0.66, 0.83),
    "female": (0.74, 0.73, 0.71),
    "male": (0.74, 0.73, 0.71),
    "mode": (0.93, 0.62, 0.68),
    "fit": (0.56, 0.78, 0.58),
}
"""sRGB colours by role: a gendered body is grey, a neutral one blue, the mode of a posterior pink, a fit green."""


@dataclass(frozen=True)
class Lighting:
    """A soft key light from the upper left of the camera, a fill from the right, and light from all round.

    Attributes:
        ambient: radiance from every direction.
        key: irradiance of the key light.
        fill: irradiance of the fill light.
        softness: radius of the key light over its distance; 0 gives hard shadows.
    """

    ambient: float = 0.55
    key: float = 1.35
    fill: float = 0.45
    softness: float = 0.25


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
        floor_y: height (y, downward) of a neutral floor that receives shadows; None for none.

    Returns:
        RGBA, straight (not premultiplied) alpha; alpha is the coverage of the pixel by the bodies.

    Raises:
        MissingPackageError: mitsuba is not installed.
        InputError, ShapeError: colours, camera or vertices that cannot be drawn.
    """
    people = split_people(meshes)
    width, height = _picture_size(camera)
    vertex_colors = _vertex_colors(people, colors)
    if background is not None:
        backdrop = np.broadcast_to(_plain_colour(background) * 255.0, (height, width, 3))
    drawn = _window(people, camera, whole=floor_y is not None)
    rgba = np.zeros((height, width, 4), dtype=np.float32)
    if drawn is not None:
        left, top, right, bottom = drawn
        scene = _scene(people, vertex_colors, camera, drawn, lighting or Lighting(), samples, floor_y)
        rgba[top:bottom, left:right] = _trace(scene)
    if background is not None:
        rgb = rgba[..., :3] * rgba[..., 3:] * 255.0 + backdrop * (1.0 - rgba[..., 3:])
        rgba = np.concatenate((rgb / 255.0, np.ones_like(rgba[..., :1])), axis=-1)
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
    background: Colour | None = (0.93, 0.93, 0.94),
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


def _mitsuba() -> ModuleType:
    try:
        mi = importlib.import_module("mitsuba")
    except ImportError as error:
        raise MissingPackageError(
            "pictures of bodies need the package mitsuba", hint='pip install "vitruvian[view]"'
        ) from error
    if mi.variant() != "scalar_rgb":
        mi.set_variant("scalar_rgb")
        mi.set_log_level(mi.LogLevel.Error)
    return mi


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
    single = isinstance(colors, str) or np.ndim(colors[0]) == 0 and not isinstance(colors[0], str)
    each: list[Any] = [colors] * len(people) if single else list(colors)  # type: ignore[arg-type]
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


def _window(people: Sequence[Mesh], camera: Camera, *, whole: bool) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom of the pixels that people can cover; None where they are out of sight."""
    width, height = _picture_size(camera)
    vertices = torch.cat([mesh.vertices for mesh in people]).double()
    _require_finite(vertices)
    if whole:
        return 0, 0, width, height
    in_front = vertices[:, 2] > 1e-2
    if not in_front.any():
        return None
    if not in_front.all():  # a body around the camera can cover any pixel
        return 0, 0, width, height
    pixels = camera.to(dtype=torch.float64, device="cpu").project(vertices)
    left, top = (pixels.amin(0).floor() - 1).tolist()
    right, bottom = (pixels.amax(0).ceil() + 1).tolist()
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if left >= right or top >= bottom:
        return None
    return int(left), int(top), int(right), int(bottom)


def _scene(
    people: Sequence[Mesh],
    colors: Sequence[np.ndarray],
    camera: Camera,
    window: tuple[int, int, int, int],
    lighting: Lighting,
    samples: int,
    floor_y: float | None,
) -> Any:
    mi = _mitsuba()
    focal_x, focal_y = camera.focal_px.double().tolist()
    center_x, center_y = camera.center_px.double().tolist()
    width, height = _picture_size(camera)
    left, top, right, bottom = window
    # Mitsuba has one focal length; people are stretched in y by the ratio of the two (1 for nearly every camera).
    stretch = focal_y / focal_x
    T = mi.ScalarTransform4f
    scene: dict[str, Any] = {
        "type": "scene",
        "integrator": {"type": "path", "max_depth": 3, "hide_emitters": True},
        "sensor": {
            "type": "perspective",
            "fov_axis": "x",
            "fov": math.degrees(2 * math.atan(width / 2 / focal_x)),
            "near_clip": 1e-2,
            "far_clip": 1e4,
            "principal_point_offset_x": (width / 2 - center_x) / width,
            "principal_point_offset_y": (height / 2 - center_y) / height,
            "to_world": T().look_at(origin=[0, 0, 0], target=[0, 0, 1], up=[0, -1, 0]),
            "sampler": {"type": "multijitter", "sample_count": samples},
            "film": {
                "type": "hdrfilm", "width": width, "height": height, "pixel_format": "rgba",
                "component_format": "float32", "rfilter": {"type": "box"},
                "crop_offset_x": left, "crop_offset_y": top, "crop_width": right - left, "crop_height": bottom - top,
            },
        },
    }  # fmt: skip
    middle = torch.cat([mesh.vertices for mesh in people]).double().mean(0).tolist()
    middle[1] *= stretch
    scene.update(_lights(middle, lighting))
    for index, (mesh, color) in enumerate(zip(people, colors, strict=True)):
        scene[f"person{index}"] = _mitsuba_mesh(mesh, color, stretch)
    if floor_y is not None:
        to_world = T().translate([middle[0], floor_y * stretch + 1e-3, middle[2]]).rotate([1, 0, 0], 90).scale(40)
        scene["floor"] = {
            "type": "rectangle", "to_world": to_world,
            "bsdf": {"type": "twosided", "bsdf": {"type": "diffuse", "reflectance": {"type": "rgb", "value": 0.75}}},
        }  # fmt: skip
    return mi.load_dict(scene)


def _lights(middle: list[float], lighting: Lighting) -> dict[str, Any]:
    mi = _mitsuba()
    distance = 6.0
    key = np.array([-0.55, -0.75, -0.75])
    key_at = np.array(middle) + distance * key / np.linalg.norm(key)
    radius = max(lighting.softness * distance, 1e-3)
    radiance = lighting.key * distance**2 / (math.pi * radius**2)
    rgb = {"type": "rgb"}
    return {
        "ambient": {"type": "constant", "radiance": {**rgb, "value": lighting.ambient}},
        "key": {
            "type": "disk",
            "to_world": mi.ScalarTransform4f()
            .look_at(origin=key_at.tolist(), target=middle, up=[0.1, 1.0, 0.2])
            .scale(radius),
            "emitter": {"type": "area", "radiance": {**rgb, "value": radiance}},
        },
        "fill": {
            "type": "directional", "direction": [-0.9, 0.15, 0.6],
            "irradiance": {**rgb, "value": lighting.fill},
        },
    }  # fmt: skip


def _mitsuba_mesh(mesh: Mesh, color: np.ndarray, stretch: float) -> Any:
    mi = _mitsuba()
    vertices = mesh.vertices.double() * torch.tensor([1.0, stretch, 1.0], dtype=torch.float64)
    properties = mi.Properties()
    properties["bsdf"] = mi.load_dict(
        {
            "type": "twosided",
            "bsdf": {
                "type": "principled",
                "roughness": 0.55,
                "specular": 0.35,
                "base_color": {"type": "mesh_attribute", "name": "vertex_color"},
            },
        }  # fmt: skip
    )
    shape = mi.Mesh("person", len(vertices), len(mesh.faces), properties, has_vertex_normals=True)
    shape.add_attribute("vertex_color", 3, np.ascontiguousarray(color, dtype=np.float32).ravel())
    parameters = mi.traverse(shape)
    parameters["vertex_positions"] = vertices.float().numpy().ravel()
    parameters["vertex_normals"] = Mesh(vertices, mesh.faces).vertex_normals().float().numpy().ravel()
    parameters["faces"] = mesh.faces.to(torch.int32).numpy().astype(np.uint32).ravel()
    parameters.update()
    return shape


def _trace(scene: Any) -> Float[np.ndarray, "height width 4"]:
    """Straight-alpha sRGB in 0-1."""
    mi = _mitsuba()
    traced = np.array(mi.render(scene), dtype=np.float32)
    alpha = traced[..., 3:].clip(0, 1)
    straight = traced[..., :3] / np.maximum(alpha, 1e-6)
    return np.concatenate((_to_srgb(straight), alpha), axis=-1).astype(np.float32)


def _opaque(picture: Picture, background: int) -> Picture:
    if picture.shape[2] == 3:
        return picture
    alpha = picture[..., 3:].astype(np.float32) / 255.0
    return (picture[..., :3] * alpha + background * (1 - alpha) + 0.5).astype(np.uint8)
