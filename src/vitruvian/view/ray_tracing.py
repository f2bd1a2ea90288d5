"""Meshes in, light per pixel out: the one module that knows Mitsuba.

Mitsuba 3 renders without any system library. Its `scalar_rgb` variant is used: a picture of 512 × 410 pixels at 16
samples takes 1.3 s of one core. The compiled variants need CUDA, or a libLLVM of the system, with one of which they
aborted.
"""

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from vitruvian.errors import MissingPackageError
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.meshes import Mesh
from vitruvian.view.denoising import blur, double_along_normals, halve, smooth_light

_FLOOR_REFLECTANCE = 0.75
_WHITE = 0.75
"""Light is traced on surfaces of this reflectance, then multiplied by their colour."""
_DARKEST = 0.04
"""Less light than this comes from shading normals that point away from the eye, at silhouettes."""
_EDGE_SAMPLES = 8
_FULL_LIGHT_PIXELS = 200_000
"""In larger windows light is traced at half the size."""
_KEY_DISTANCE_M = 6.0
_KEY_FROM = np.array([-0.5, -0.8, -0.65]) / np.linalg.norm([-0.5, -0.8, -0.65])
_FILL_ALONG = np.array([-0.9, 0.15, 0.6]) / np.linalg.norm([-0.9, 0.15, 0.6])


@dataclass(frozen=True)
class Lighting:
    """A soft key light from the upper left of the camera, a fill from the right, and light from all round.

    Attributes:
        ambient: radiance from every direction.
        key: irradiance of the key light.
        fill: irradiance of the fill light.
        softness: radius of the key light over its distance; near 0 gives hard shadows.
    """

    ambient: float = 0.30
    key: float = 2.3
    fill: float = 0.6
    softness: float = 0.3


@dataclass(frozen=True)
class Window:
    """The pixels of the picture that are traced: left ≤ x < right, top ≤ y < bottom."""

    left: int
    top: int
    right: int
    bottom: int


def trace_people(
    people: Sequence[Mesh],
    colors: Sequence[Float[np.ndarray, "vertex 3"]],
    camera: Camera,
    window: Window,
    *,
    lighting: Lighting,
    samples: int,
) -> Float[np.ndarray, "height width 4"]:
    """Linear-light RGB (straight alpha) and coverage of the pixels in the window, without noise.

    `colors` are linear-light RGB per vertex.
    """
    # Mitsuba's own feature channels (its "aov" integrator) take five times as long as the picture: features are
    # rendered as the emission of surfaces that do not reflect.
    shifted_normals = [(0.5 + 0.5 * _stretched(mesh, camera).vertex_normals()).numpy() for mesh in people]
    normals, alpha = _trace_emission(people, shifted_normals, camera, window)
    normals = _unit(2.0 * normals - 1.0)
    flat = colors[0][0]
    if all((color == flat).all() for color in colors):
        albedo = np.broadcast_to(flat, normals.shape)
    else:
        albedo = _trace_emission(people, colors, camera, window)[0]
    white = [np.full_like(color, _WHITE) for color in colors]
    if normals.shape[0] * normals.shape[1] <= _FULL_LIGHT_PIXELS:
        light, seen = _straight(_render(_scene(people, white, camera, window, lighting, samples, floor_y=None)))
        light = smooth_light(light, normals, _reliable(light, seen))
    else:
        light = _half_size_light(people, white, camera, window, lighting, samples, normals, alpha[..., 0])
    light = np.maximum(light, _DARKEST) / _WHITE
    return np.concatenate((light * albedo, alpha), axis=-1).astype(np.float32)


def _half_size_light(
    people: Sequence[Mesh],
    white: Sequence[np.ndarray],
    camera: Camera,
    window: Window,
    lighting: Lighting,
    samples: int,
    normals: Float[np.ndarray, "height width 3"],
    coverage: Float[np.ndarray, "height width"],
) -> Float[np.ndarray, "height width 3"]:
    """Light of a large picture, traced at half its size and brought back along the normals: it is smooth."""
    width, height = camera.image_size.tolist()
    small = camera.resize(width=math.ceil(width / 2), height=math.ceil(height / 2))
    # The halved picture must start at the same corner; an odd side leaves half a pixel beyond the edge.
    small = replace(small, focal_px=camera.focal_px / 2, center_px=camera.center_px / 2)
    half = Window(window.left // 2, window.top // 2, math.ceil(window.right / 2), math.ceil(window.bottom / 2))
    light, seen = _straight(_render(_scene(people, white, small, half, lighting, samples, floor_y=None)))
    offset = (window.top - 2 * half.top, window.left - 2 * half.left)
    small_normals = _unit(halve(normals * coverage[..., None], offset, (light.shape[0], light.shape[1])))
    reliable = _reliable(light, seen)
    light = smooth_light(light, small_normals, reliable)
    return double_along_normals(light, small_normals, reliable, normals, offset)


def _reliable(light: np.ndarray, seen: np.ndarray) -> Float[np.ndarray, "height width"]:
    """Weight of the light of each pixel: its coverage, nothing where interpolated normals turned it black."""
    return seen[..., 0] * (light.max(axis=-1) > _DARKEST)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)


def trace_shadow(
    people: Sequence[Mesh],
    camera: Camera,
    covered: Float[np.ndarray, "height width"],
    *,
    floor_y: float,
    lighting: Lighting,
    samples: int,
) -> Float[np.ndarray, "height width"]:
    """Share of its light that a horizontal floor at height `floor_y` keeps when the people stand on it, per pixel.

    Traced at half the resolution and smoothed: shadows of large lights have no edges. `covered` is the coverage of the
    full-size picture by the people, under which the floor cannot be seen.
    """
    height, width = covered.shape
    half = (max(width // 2, 1), max(height // 2, 1))
    small = camera.resize(width=half[0], height=half[1])
    colors = [np.full((len(mesh.vertices), 3), 0.5) for mesh in people]
    window = Window(0, 0, *half)
    floor = _render(_scene(people, colors, small, window, lighting, samples, floor_y))
    rows = (np.arange(half[1]) * height // half[1])[:, None]
    columns = (np.arange(half[0]) * width // half[0])[None, :]
    # The people's pixels show skin, not floor; a margin of one pixel keeps mixed pixels out as well.
    weight = (_widest(covered)[rows, columns] < 1e-3).astype(np.float32)
    pixels = np.stack(np.meshgrid(np.arange(half[0]) + 0.5, np.arange(half[1]) + 0.5), axis=-1)
    focal, center = small.focal_px.double().numpy(), small.center_px.double().numpy()
    rays = np.concatenate(((pixels - center) / focal, np.ones((*pixels.shape[:2], 1))), axis=-1)
    below = rays[..., 1] > 1e-3
    place = rays * (floor_y / np.where(below, rays[..., 1], 1.0))[..., None]
    expected = _unshadowed(place, _middle(people, 1.0), lighting)
    kept = np.where(below, floor[..., 0] / expected, 1.0).clip(0, 1)
    # Far from the people the floor ends in the backdrop.
    distance = np.linalg.norm((place - np.array(_middle(people, 1.0)))[..., [0, 2]], axis=-1)
    reach = 3.0 * max(_height(people), 0.5)
    share = np.where(below, (1.0 - distance / reach).clip(0, 1), 0.0)
    kept = 1.0 - (1.0 - kept) * share
    radius = max(round(min(half) / 80), 1)
    seen = blur(weight[..., None], np.ones_like(weight), radius=radius)[..., 0] > 1e-3
    kept = np.where(seen, blur(kept[..., None].astype(np.float32), weight, radius=radius)[..., 0], 1.0)
    full_rows = np.minimum(np.arange(height) * half[1] // height, half[1] - 1)[:, None]
    full_columns = np.minimum(np.arange(width) * half[0] // width, half[0] - 1)[None, :]
    smooth = blur(kept[full_rows, full_columns][..., None], np.ones_like(covered), radius=1)
    return smooth[..., 0]


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


def _render(scene: dict[str, Any]) -> Float[np.ndarray, "height width 4"]:
    mi = _mitsuba()
    return np.array(mi.render(mi.load_dict(scene)), dtype=np.float32)


def _straight(traced: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colour and coverage; pixels on the silhouette hold sums over their covered part and become averages of it."""
    alpha = traced[..., 3:4].clip(0, 1)
    return traced[..., :3] / np.maximum(alpha, 1e-6), alpha


def _trace_emission(
    people: Sequence[Mesh], values: Sequence[np.ndarray], camera: Camera, window: Window
) -> tuple[Float[np.ndarray, "height width 3"], Float[np.ndarray, "height width 1"]]:
    """Values per vertex (0-1), interpolated to the pixels that see them, and the coverage of these."""
    scene: dict[str, Any] = {
        "type": "scene",
        "integrator": {"type": "path", "max_depth": 1},
        "sensor": _sensor(camera, window, _EDGE_SAMPLES),
    }
    glow = {"type": "area", "radiance": {"type": "mesh_attribute", "name": "vertex_color"}}
    for index, (mesh, value) in enumerate(zip(people, values, strict=True)):
        black = {"type": "diffuse", "reflectance": {"type": "rgb", "value": 0.0}}
        scene[f"person{index}"] = _mitsuba_mesh(_stretched(mesh, camera), value, {"bsdf": black, "emitter": glow})
    return _straight(_render(scene))


def _stretched(mesh: Mesh, camera: Camera) -> Mesh:
    """Mitsuba has one focal length; people are stretched in y by the ratio of the two (1 for nearly every camera)."""
    ratio = float(camera.focal_px[1] / camera.focal_px[0])
    return Mesh(mesh.vertices.double() * torch.tensor([1.0, ratio, 1.0], dtype=torch.float64), mesh.faces)


def _middle(people: Sequence[Mesh], stretch: float) -> list[float]:
    middle = torch.cat([mesh.vertices for mesh in people]).double().mean(0).tolist()
    return [middle[0], middle[1] * stretch, middle[2]]


def _height(people: Sequence[Mesh]) -> float:
    y = torch.cat([mesh.vertices[:, 1] for mesh in people])
    return float(y.max() - y.min())


def _widest(values: np.ndarray) -> np.ndarray:
    """Maximum over the 5 × 5 neighbourhood."""
    for axis in (0, 1):
        padding = [(2, 2) if a == axis else (0, 0) for a in range(2)]
        padded = np.pad(values, padding)
        values = np.maximum.reduce([np.take(padded, range(k, k + values.shape[axis]), axis=axis) for k in range(5)])
    return values


def _unshadowed(place: np.ndarray, middle: list[float], lighting: Lighting) -> np.ndarray:
    """Radiance of the floor where nothing stands on it; the key light is taken as a point."""
    to_key = np.array(middle) + _KEY_DISTANCE_M * _KEY_FROM - place
    distance = np.linalg.norm(to_key, axis=-1)
    cosine_floor = (-to_key[..., 1] / distance).clip(0, 1)
    cosine_light = (to_key @ _KEY_FROM / distance).clip(0, 1)
    key = lighting.key * (_KEY_DISTANCE_M / distance) ** 2 * cosine_floor * cosine_light
    fill = lighting.fill * max(_FILL_ALONG[1], 0.0)
    return _FLOOR_REFLECTANCE * (lighting.ambient + (key + fill) / math.pi)


def _scene(
    people: Sequence[Mesh],
    colors: Sequence[np.ndarray],
    camera: Camera,
    window: Window,
    lighting: Lighting,
    samples: int,
    floor_y: float | None,
) -> dict[str, Any]:
    stretch = float(camera.focal_px[1] / camera.focal_px[0])
    middle = _middle(people, stretch)
    scene: dict[str, Any] = {
        "type": "scene",
        "integrator": {"type": "path", "max_depth": 3 if floor_y is None else 2, "hide_emitters": True},
        "sensor": _sensor(camera, window, samples),
        **_lights(middle, lighting),
    }
    for index, (mesh, color) in enumerate(zip(people, colors, strict=True)):
        base_color = {"type": "mesh_attribute", "name": "vertex_color"}
        skin = {"type": "principled", "roughness": 0.45, "specular": 0.4, "base_color": base_color}
        surface = {"bsdf": {"type": "twosided", "bsdf": skin}}
        scene[f"person{index}"] = _mitsuba_mesh(_stretched(mesh, camera), color, surface)
    if floor_y is not None:
        place = _mitsuba().ScalarTransform4f().translate([middle[0], floor_y * stretch + 1e-3, middle[2]])
        reflectance = {"type": "rgb", "value": _FLOOR_REFLECTANCE}
        scene["floor"] = {
            "type": "rectangle",
            "to_world": place.rotate([1, 0, 0], 90).scale(60),
            "bsdf": {"type": "twosided", "bsdf": {"type": "diffuse", "reflectance": reflectance}},
        }
    return scene


def _sensor(camera: Camera, window: Window, samples: int) -> dict[str, Any]:
    width, height = (round(side) for side in camera.image_size.tolist())
    focal_x = float(camera.focal_px[0])
    center_x, center_y = camera.center_px.double().tolist()
    return {
        "type": "perspective",
        "fov_axis": "x",
        "fov": math.degrees(2 * math.atan(width / 2 / focal_x)),
        "near_clip": 1e-2,
        "far_clip": 1e4,
        "principal_point_offset_x": (width / 2 - center_x) / width,
        "principal_point_offset_y": (height / 2 - center_y) / height,
        "to_world": _mitsuba().ScalarTransform4f().look_at(origin=[0, 0, 0], target=[0, 0, 1], up=[0, -1, 0]),
        "sampler": {"type": "multijitter", "sample_count": samples},
        "film": {
            "type": "hdrfilm",
            "width": width,
            "height": height,
            "pixel_format": "rgba",
            "component_format": "float32",
            "rfilter": {"type": "box"},
            "crop_offset_x": window.left,
            "crop_offset_y": window.top,
            "crop_width": window.right - window.left,
            "crop_height": window.bottom - window.top,
        },
    }


def _lights(middle: list[float], lighting: Lighting) -> dict[str, Any]:
    key_at = np.array(middle) + _KEY_DISTANCE_M * _KEY_FROM
    radius = max(lighting.softness * _KEY_DISTANCE_M, 1e-3)
    radiance = lighting.key * _KEY_DISTANCE_M**2 / (math.pi * radius**2)
    to_world = _mitsuba().ScalarTransform4f().look_at(origin=key_at.tolist(), target=middle, up=[0.1, 1.0, 0.2])
    return {
        "ambient": {"type": "constant", "radiance": {"type": "rgb", "value": lighting.ambient}},
        "key": {
            "type": "disk",
            "to_world": to_world.scale(radius),
            "emitter": {"type": "area", "radiance": {"type": "rgb", "value": radiance}},
        },
        "fill": {
            "type": "directional",
            "direction": _FILL_ALONG.tolist(),
            "irradiance": {"type": "rgb", "value": lighting.fill},
        },
    }


def _mitsuba_mesh(mesh: Mesh, values: np.ndarray, surface: dict[str, Any]) -> Any:
    mi = _mitsuba()
    properties = mi.Properties()
    for name, description in surface.items():
        properties[name] = mi.load_dict(description)
    shape = mi.Mesh("person", len(mesh.vertices), len(mesh.faces), properties, has_vertex_normals=True)
    shape.add_attribute("vertex_color", 3, np.ascontiguousarray(values, dtype=np.float32).ravel())
    parameters = mi.traverse(shape)
    parameters["vertex_positions"] = mesh.vertices.float().numpy().ravel()
    parameters["vertex_normals"] = mesh.vertex_normals().float().numpy().ravel()
    parameters["faces"] = mesh.faces.to(torch.int32).numpy().astype(np.uint32).ravel()
    parameters.update()
    return shape
