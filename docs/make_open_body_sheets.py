"""Draws the sheets of the open body in docs/images: shapes, expressions, details and twelve natural poses.

Run from the repository root: python docs/make_open_body_sheets.py
"""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vitruvian.bodies.model import BodyModel, PosedBody
from vitruvian.bodies.open_body import open_body
from vitruvian.body_learning.training_poses import pose_of
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.meshes import Mesh
from vitruvian.view.render import render_meshes, sheet

IMAGES = Path(__file__).parent / "images"
BACKGROUND = (0.96, 0.96, 0.97)
Turns = dict[str, tuple[tuple[str, float], ...]]

RELAXED_HAND: Turns = {
    f"left_{finger}{k}": (("z", -angle),)
    for finger, angles in (
        ("index", (15, 22, 12)), ("middle", (20, 26, 14)), ("ring", (24, 28, 14)), ("pinky", (26, 26, 14)),
    )
    for k, angle in zip((1, 2, 3), angles, strict=True)
}  # fmt: skip
FIST: Turns = {
    **{
        f"left_{finger}{k}": (("z", -angle),)
        for finger in ("index", "middle", "ring", "pinky")
        for k, angle in ((1, 84), (2, 102), (3, 68))
    },
    "left_thumb1": (("y", 20), ("x", 30)),
    "left_thumb2": (("y", 50),),
    "left_thumb3": (("y", 60),),
}
STANDING: Turns = {"left_shoulder": (("z", -68),), "left_elbow": (("y", -12),), **RELAXED_HAND}

NATURAL_POSES: dict[str, Turns] = {
    "standing": {**STANDING, "left_hip": (("z", 3),)},
    "walking": {
        **STANDING,
        "left_shoulder": (("y", -25), ("z", -66)), "right_shoulder": (("y", -30), ("z", 66)),
        "left_elbow": (("y", -30),), "right_elbow": (("y", 20),),
        "left_hip": (("x", 22),), "right_hip": (("x", -28),), "left_knee": (("x", 12),), "right_knee": (("x", 14),),
        "left_ankle": (("x", 12),), "right_ankle": (("x", -6),), "spine2": (("y", 8),),
    },
    "running": {
        **RELAXED_HAND,
        "pelvis": (("x", 12),),
        "left_shoulder": (("y", 35), ("z", -60)), "right_shoulder": (("y", 45), ("z", 60)),
        "left_elbow": (("y", -95),), "right_elbow": (("y", 95),),
        "left_hip": (("x", -75),), "left_knee": (("x", 95),), "right_hip": (("x", 22),), "right_knee": (("x", 40),),
        "right_ankle": (("x", 25),), "spine2": (("y", -12),),
    },
    "sitting": {
        **RELAXED_HAND,
        "left_hip": (("x", -88), ("z", 6)), "left_knee": (("x", 88),),
        "left_shoulder": (("y", -20), ("z", -62)), "left_elbow": (("y", -62),), "spine1": (("x", 8),),
    },
    "squatting": {
        **RELAXED_HAND,
        "pelvis": (("x", 15),),
        "left_hip": (("x", -108), ("z", 14)), "left_knee": (("x", 122),), "left_ankle": (("x", -22),),
        "left_shoulder": (("y", -80), ("z", -5)), "left_elbow": (("y", -10),), "spine1": (("x", 12),),
    },
    "arms raised": {**RELAXED_HAND, "left_collar": (("z", 16),), "left_shoulder": (("z", 58),)},
    "waving": {
        **STANDING,
        "right_collar": (("z", -8),), "right_shoulder": (("z", -12), ("x", -85)), "right_elbow": (("y", 105),),
    },
    "reaching down": {
        **RELAXED_HAND,
        "spine1": (("x", 28),), "spine2": (("x", 25),), "spine3": (("x", 18),), "neck": (("x", -12),),
        "left_hip": (("x", -38),), "left_knee": (("x", 15),), "left_shoulder": (("y", -55), ("z", -40)),
    },
    "arms bent": {
        **RELAXED_HAND,
        "left_shoulder": (("y", 15), ("z", -48), ("x", 35)), "left_elbow": (("y", -98), ("x", -35)),
        "left_wrist": (("z", -20),),
    },
    "throwing": {
        **RELAXED_HAND,
        "spine1": (("y", -18),), "spine2": (("y", -18),), "head": (("y", 25),),
        "right_shoulder": (("y", -25), ("z", -10), ("x", -70)), "right_elbow": (("y", 95),),
        "left_shoulder": (("y", -60), ("z", -15)), "left_hip": (("x", -35), ("z", 10)), "left_knee": (("x", 25),),
        "right_hip": (("x", 18), ("z", -12)),
    },
    "arms crossed": {
        **RELAXED_HAND,
        "left_shoulder": (("y", -45), ("z", -55), ("x", 20)), "left_elbow": (("y", -118), ("x", 10)),
        "right_shoulder": (("y", 38), ("z", 50), ("x", 20)), "right_elbow": (("y", 118), ("x", 10)),
    },
    "lunging": {
        **RELAXED_HAND,
        "left_hip": (("x", -92),), "left_knee": (("x", 95),), "right_hip": (("x", 28),), "right_knee": (("x", 62),),
        "right_ankle": (("x", 15),), "right_foot": (("x", -35),),
        "left_shoulder": (("z", -35),), "right_shoulder": (("z", 35),),
    },
}  # fmt: skip


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    body = open_body()
    for draw in (shapes, expressions, details, poses):
        path = IMAGES / f"open_body_{draw.__name__}.png"
        Image.fromarray(draw(body)).quantize(160, dither=Image.Dither.NONE).save(path, optimize=True)


def shapes(body: BodyModel, count: int = 6) -> np.ndarray:
    """Mean bodies of the three genders, then each of the first components at −2 and +2 deviations."""
    tiles = [
        portrait(open_body(gender=g).with_shape().with_pose(pose_of({})), height=2.2, aspect=0.95, colour=g)
        for g in ("neutral", "female", "male")
    ]
    for k in range(count):
        for sign in (-2.0, 2.0):
            betas = torch.zeros(body.num_shape)
            betas[k] = sign
            tiles.append(portrait(body.with_shape(betas).with_pose(pose_of({})), height=2.2, aspect=0.95))
    return sheet(tiles, columns=5)


def expressions(body: BodyModel, count: int = 8) -> np.ndarray:
    tiles = []
    for k in range(count):
        for sign in (-2.0, 2.0):
            psi = torch.zeros(body.num_expression)
            psi[k] = sign
            tiles.append(close_up(body.with_shape(None, psi).with_pose(pose_of({})), "head", yaw=14, extent=0.30))
    return sheet(tiles, columns=4)


def details(body: BodyModel) -> np.ndarray:
    """The places where skinning shows its faults, close by."""
    views: list[tuple[Turns, str, float, float, float]] = [
        ({"jaw": (("x", 20),)}, "head", 20, 0, 0.30),
        ({"left_eye": (("y", 25),), "head": (("y", 20),)}, "head", 10, 0, 0.30),
        (FIST, "left_middle1", 20, 35, 0.26),
        (FIST, "left_middle1", -20, -45, 0.26),
        ({}, "left_middle1", 0, 70, 0.30),
        ({"left_wrist": (("x", 80),)}, "left_wrist", 0, 30, 0.50),
        ({"left_elbow": (("y", -120),)}, "left_elbow", 20, 45, 0.60),
        ({"left_elbow": (("y", -60), ("x", 70))}, "left_elbow", 20, 45, 0.60),
        ({"left_shoulder": (("z", -70),)}, "left_shoulder", 25, 0, 0.60),
        ({"left_collar": (("z", 18),), "left_shoulder": (("z", 60),)}, "left_shoulder", 25, 0, 0.60),
        ({"left_hip": (("x", -95),), "left_knee": (("x", 120),)}, "left_knee", 60, 10, 0.70),
        ({"left_hip": (("x", -100),), "left_knee": (("x", 90),)}, "left_hip", 110, 10, 0.80),
    ]
    tiles = [
        close_up(body.with_shape().with_pose(pose_of(turns)), joint, yaw=yaw, pitch=pitch, extent=extent)
        for turns, joint, yaw, pitch, extent in views
    ]
    return sheet(tiles, columns=4)


def poses(body: BodyModel) -> np.ndarray:
    tiles = []
    for turns in NATURAL_POSES.values():
        posed = body.with_shape().with_pose(pose_of(turns))
        tiles.append(portrait(posed, height=2.35, aspect=0.8, yaw=30, pitch=8))
    return sheet(tiles, columns=6)


def portrait(
    posed: PosedBody, *, height: float, aspect: float, yaw: float = 0, pitch: float = 0, colour: str = "neutral"
) -> np.ndarray:
    """The whole body, in the middle of a picture that is `height` metres high."""
    vertices = posed.vertices
    middle = (vertices.amax(0) + vertices.amin(0)) / 2
    return picture(posed.mesh(), middle, yaw, pitch, height, aspect, colour, size=400)


def close_up(
    posed: PosedBody, joint: str, *, yaw: float, extent: float, pitch: float = 0, colour: str = "neutral"
) -> np.ndarray:
    """The surroundings of a joint, `extent` metres high."""
    centre = posed.joints[posed.model.skeleton.index(joint)]
    if joint == "head":
        centre = centre + torch.tensor([0.0, 0.045, 0.05])
    return picture(posed.mesh(), centre, yaw, pitch, extent, 1.0, colour, size=380)


def picture(
    mesh: Mesh, centre: torch.Tensor, yaw: float, pitch: float, extent: float, aspect: float, colour: str, *, size: int
) -> np.ndarray:
    """Draw a mesh of the body frame from a camera `yaw` degrees to its left and `pitch` degrees above."""
    a, b = math.radians(yaw), math.radians(pitch)
    about_y = torch.tensor([[math.cos(a), 0, -math.sin(a)], [0, 1, 0], [math.sin(a), 0, math.cos(a)]])
    about_x = torch.tensor([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    seen = (mesh.vertices - centre) @ (about_x @ about_y).float().T
    distance = 4.0 * extent
    in_camera = seen * torch.tensor([1.0, -1.0, -1.0]) + torch.tensor([0.0, 0.0, distance])
    width = round(size * aspect)
    camera = Camera.from_image_size(width, size, focal_px=size * distance / extent)
    return render_meshes(Mesh(in_camera, mesh.faces), camera, colors=colour, background=BACKGROUND, samples=12)


if __name__ == "__main__":
    main()
