"""Draw people on the open body in natural poses, render them in colour, and write down what the detector sees.

The pictures have known cameras and bodies, so they tell which point of the body each of the detector's keypoints is
(`fit_keypoint_targets.py`) and how large its errors are. Needs the extras `detect` and `view`, and the motion capture.

    python scripts/render_people.py --data DIR --out people.npz --count 400 --seed 0
    python scripts/render_people.py --data DIR --out faces.npz --count 200 --seed 1 --framing head
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from jaxtyping import Float
from PIL import Image, ImageFilter
from rich.progress import track
from torch import Tensor

from vitruvian.bodies.model import BodyModel, PosedBody
from vitruvian.bodies.open_body import open_body
from vitruvian.data.appearance import Painter, shade
from vitruvian.data.mocap import PoseDataset, load_pose_dataset
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.meshes import Mesh
from vitruvian.geometry.raster import rasterize
from vitruvian.geometry.rotations import exp_so3
from vitruvian.keypoints.detectors import DetectorConfig, MediaPipeDetector
from vitruvian.keypoints.images import Photograph
from vitruvian.keypoints.targets import keypoint_targets
from vitruvian.view.render import render_meshes

Framing = Literal["body", "upper", "head"]


@dataclass(frozen=True)
class Arguments:
    """What to draw."""

    data: Path
    """Folder of the motion capture archives."""
    out: Path
    """File to write, .npz."""
    count: int = 400
    seed: int = 0
    framing: Framing = "body"
    """How much of the person the picture shows."""
    height: int = 960
    """Height of the picture in pixels; its width is three quarters of that."""
    ray_traced: bool = False
    """Ray tracing with soft shadows instead of the quick z-buffer; some twenty times slower."""
    samples: int = 8
    """Rays per pixel, where rays are traced."""
    pictures: Path | None = None
    """Folder for the pictures themselves."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A person in the camera frame, and the camera."""

    betas: Float[Tensor, "shape"]
    expression: Float[Tensor, "expression"]
    rotations: Float[Tensor, "joint 3 3"]
    transl: Float[Tensor, "3"]
    camera: Camera

    def pose(self, body: BodyModel) -> PosedBody:
        return body.with_shape(self.betas, self.expression).with_pose(self.rotations, self.transl)


def turn(axis: str, angle: float) -> Float[Tensor, "3 3"]:
    """Rotation by `angle` radians about x, y or z."""
    vector = torch.zeros(3)
    vector["xyz".index(axis)] = angle
    return exp_so3(vector)


def draw_person(body: BodyModel, poses: PoseDataset, arguments: Arguments, generator: np.random.Generator) -> Drawn:
    """A random person, pose and camera; the camera looks from all round, mostly level."""
    weights = poses.subject_weights().double().numpy()
    row = int(generator.choice(len(poses), p=weights / weights.sum()))
    rotations = torch.eye(3).repeat(body.num_joints, 1, 1)
    rotations[:22] = poses.rotations[row].float()
    assert body.hands is not None
    for side, components, mean in (
        ("left", body.hands.left_components, body.hands.left_mean),
        ("right", body.hands.right_components, body.hands.right_mean),
    ):
        block = body.skeleton.block(f"{side}_hand_pose")
        spread = torch.from_numpy(generator.normal(size=12)).float()
        rotations[block.start : block.stop] = exp_so3((mean + spread @ components[:12]).view(15, 3))
    rotations[body.skeleton.index("jaw")] = turn("x", float(abs(generator.normal()) * 0.12))
    if arguments.framing == "head":
        # Heads that look about, more than those of walking people.
        for joint in ("neck", "head"):
            rotations[body.skeleton.index(joint)] = exp_so3(torch.from_numpy(generator.normal(size=3) * 0.2).float())
    betas = torch.from_numpy(generator.normal(size=body.num_shape)).float()
    expression = torch.from_numpy(generator.normal(size=body.num_expression)).float()
    narrow = arguments.framing == "head"
    yaw = generator.normal() * 0.5 if narrow else generator.uniform(-math.pi, math.pi)
    heading = math.atan2(float(rotations[0, 0, 2]), float(rotations[0, 2, 2])) if narrow else 0.0
    to_camera = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ turn("x", generator.normal() * 0.15)
    to_camera = to_camera @ turn("y", yaw - heading)
    rotations[0] = to_camera @ rotations[0]
    return frame(body, betas, expression, rotations, arguments, generator)


def frame(
    body: BodyModel,
    betas: Tensor,
    expression: Tensor,
    rotations: Tensor,
    arguments: Arguments,
    generator: np.random.Generator,
) -> Drawn:
    """Place the person before a camera so that the wanted part of them fills most of the picture."""
    width, height = 3 * arguments.height // 4, arguments.height
    camera = Camera.from_image_size(width, height, focal_px=height * generator.uniform(1.0, 2.5))
    posed = body.with_shape(betas, expression).with_pose(rotations)
    joints = {name: posed.joints[k] for k, name in enumerate(body.skeleton.names)}
    if arguments.framing == "body":
        wanted, margin = posed.vertices, 1.25
    elif arguments.framing == "upper":
        above = ("head", "pelvis", "left_elbow", "right_elbow", "left_wrist", "right_wrist")
        wanted, margin = torch.stack([joints[name] for name in above]), 1.6
    else:
        wanted, margin = joints["head"] + 0.13 * torch.tensor([[-1.0, -1, -1], [1, 1, 1]]), 2.0
    low, high = wanted.amin(0), wanted.amax(0)
    size = (high - low)[:2] / torch.tensor([width, height])
    depth = float(camera.focal_px[0] * size.max()) * margin * generator.uniform(1.0, 1.4)
    shift = torch.from_numpy(generator.uniform(-0.06, 0.06, 2)).float() * depth * height / camera.focal_px[0]
    transl = torch.cat((shift, torch.tensor([depth]))) - (low + high) / 2
    return Drawn(betas, expression, rotations, transl, camera)


def render(body: BodyModel, person: Drawn, arguments: Arguments, generator: np.random.Generator) -> np.ndarray:
    """The picture of a person before a blurred, mottled background, with clothes that stand off the body."""
    mesh = person.pose(body).mesh()
    painter = Painter(body)
    colors = painter.colors(generator)
    stand_off = painter.stand_off(generator.uniform(0.0, 0.012))
    mesh = Mesh(mesh.vertices + stand_off[:, None] * mesh.vertex_normals(), mesh.faces)
    width, height = (int(side) for side in person.camera.image_size)
    if arguments.ray_traced:
        rgba = render_meshes(mesh, person.camera, colors=[colors], samples=arguments.samples)
        inside, alpha = rgba[..., :3].astype(np.float64), rgba[..., 3:] / 255.0
    else:
        lit = shade(mesh.vertex_normals().numpy(), colors, generator)
        pixels = person.camera.project(mesh.vertices).double()
        seen = rasterize(pixels[None], mesh.vertices[None, :, 2], mesh.faces, width=width, height=height)
        inside = seen.interpolate(torch.from_numpy(lit)[None], mesh.faces)[0].numpy() * 255
        alpha = (seen.face[0] >= 0).numpy().astype(np.float64)[..., None]
    coarse = (generator.uniform(0.1, 0.95, (5, 4, 3)) * 255).astype(np.uint8)
    backdrop = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    backdrop = backdrop.filter(ImageFilter.GaussianBlur(8))
    mixed = inside * alpha + np.asarray(backdrop, dtype=np.float32) * (1 - alpha)
    noisy = mixed + generator.normal(size=mixed.shape) * 3
    return noisy.clip(0, 255).astype(np.uint8)


def matching_person(found: Tensor, truth: Float[Tensor, "point 2"], rows: Tensor) -> int | None:
    """Which of the people found is the one drawn: nearest on average over the seen points; None if none is near."""
    best, least = None, 0.15 * float((truth.amax(0) - truth.amin(0)).max())
    for k, person in enumerate(found):
        weight = person[rows, 2]
        if weight.sum() > 1:
            error = float(((person[rows, :2] - truth).norm(dim=-1) * weight).sum() / weight.sum())
            if error < least:
                best, least = k, error
    return best


def main(arguments: Arguments) -> None:
    generator = np.random.default_rng(arguments.seed)
    poses = load_pose_dataset(arguments.data, split="train")
    bodies = [open_body(gender) for gender in ("neutral", "female", "male")]
    detector = MediaPipeDetector(DetectorConfig(tile_levels=0))
    rows: dict[str, list[np.ndarray]] = {}
    for number in track(range(arguments.count), description=f"Rendering {arguments.framing}"):
        gender = number % 3
        body = bodies[gender]
        person = draw_person(body, poses, arguments, generator)
        pixels = render(body, person, arguments, generator)
        found = detector.detect(Photograph.from_array(pixels))
        targets = keypoint_targets(body, "mediapipe-pose33")
        truth = person.camera.project(person.pose(body).points(targets.points))
        seen = torch.cat((found.positions, found.confidence[..., None]), dim=-1)
        match = matching_person(seen, truth, targets.keypoint)
        if arguments.pictures is not None:
            arguments.pictures.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(arguments.pictures / f"{arguments.framing}{number:04d}.png")
        posed = person.pose(body)
        # Vertices and not parameters: they mean the same for any later model with these triangles.
        row = {
            "rest": posed.shaped.vertices.numpy().astype(np.float16),
            "posed": (posed.vertices - person.transl).numpy().astype(np.float16),
            "bones": posed.world_rotations.numpy().astype(np.float32),
            "joints": (posed.joints - person.transl).numpy().astype(np.float32),
            "rest_joints": posed.shaped.joints.numpy().astype(np.float32),
            "transl": person.transl.numpy(),
            "focal_px": person.camera.focal_px.numpy(),
            "image_size": person.camera.image_size.numpy(),
            "found": np.array(match is not None),
            "keypoints": (seen[match] if match is not None else torch.zeros(553, 3)).numpy(),
        }
        for key, value in row.items():
            rows.setdefault(key, []).append(value)
        if number % 20 == 19 or number + 1 == arguments.count:
            np.savez_compressed(arguments.out, **{key: np.stack(values) for key, values in rows.items()})


if __name__ == "__main__":
    main(tyro.cli(Arguments))
