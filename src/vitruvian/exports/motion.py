"""The motion of one fitted person as a BVH file: skeleton, then one line of channels per frame."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.exports.axes import Y_UP_FROM_CAMERA, turn_params
from vitruvian.exports.sequences import one_motion, require_frame_rate
from vitruvian.fits import Fits
from vitruvian.output import replacing

CENTIMETRES_PER_METRE = 100.0
_END_SITE_M = 0.03


def write_bvh(
    fits: Fits,
    body: BodyModel,
    path: Path | str,
    *,
    frame_rate: float = 30.0,
    units_per_metre: float = CENTIMETRES_PER_METRE,
) -> Path:
    """Write the usable rows of `fits` as the frames of one motion (see `one_motion`).

    BVH holds one skeleton, so the bone lengths are those of the mean shape; each frame keeps its own root position. The
    world is y-up; the rest pose is the T-pose of the body, in which all rotations are zero.

    Args:
        frame_rate: frames per second.
        units_per_metre: 100 writes centimetres, the custom of BVH.

    Raises:
        InputError: no frames, several people, who are not one motion, or an impossible frame rate.
        OutputError: the file cannot be written.
    """
    require_frame_rate(frame_rate)
    fits = one_motion(fits)
    params = fits.params.to(dtype=torch.float64, device="cpu")
    body = body.to(dtype=torch.float64, device="cpu")
    joints = body.with_shape(params.betas, params.expression).joints
    params = turn_params(params, joints[:, 0], Y_UP_FROM_CAMERA)
    rest = joints.mean(0) * units_per_metre
    root = (joints[:, 0] + params.transl) * units_per_metre
    angles = torch.rad2deg(euler_zxy(params.rotations))
    lines = _hierarchy(body, rest, units_per_metre)
    lines += ["MOTION", f"Frames: {len(fits)}", f"Frame Time: {1.0 / frame_rate:.8f}"]
    order = _depth_first(body)
    for place, frame in zip(root, angles, strict=True):
        numbers = [*place.tolist(), *frame[order].flatten().tolist()]
        lines.append(" ".join(f"{number:.6f}" for number in numbers))
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="ascii")
    return Path(path)


def euler_zxy(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Angles (z, x, y) in radians with R = R_z R_x R_y; at the pole (x = ±90°) y is zero."""
    sine = matrix[..., 2, 1].clamp(-1, 1)
    x = torch.asin(sine)
    free = sine.abs() < 1 - 1e-12
    z = torch.where(
        free,
        torch.atan2(-matrix[..., 0, 1], matrix[..., 1, 1]),
        torch.atan2(matrix[..., 1, 0], matrix[..., 0, 0]),
    )
    y = torch.where(free, torch.atan2(-matrix[..., 2, 0], matrix[..., 2, 2]), torch.zeros_like(x))
    return torch.stack((z, x, y), dim=-1)


def _depth_first(body: BodyModel) -> list[int]:
    order: list[int] = []

    def visit(joint: int) -> None:
        order.append(joint)
        for child in body.skeleton.children[joint]:
            visit(child)

    visit(0)
    return order


def _hierarchy(body: BodyModel, rest: Float[Tensor, "joint 3"], units_per_metre: float) -> list[str]:
    skeleton = body.skeleton
    lines = ["HIERARCHY"]

    def offset(vector: Tensor) -> str:
        return "OFFSET " + " ".join(f"{number:.6f}" for number in vector.tolist())

    def visit(joint: int, depth: int) -> None:
        tab = "\t" * depth
        parent = skeleton.parents[joint]
        kind = "ROOT" if parent < 0 else "JOINT"
        place = torch.zeros(3) if parent < 0 else rest[joint] - rest[parent]
        channels = "3 Zrotation Xrotation Yrotation"
        if parent < 0:
            channels = "6 Xposition Yposition Zposition Zrotation Xrotation Yrotation"
        lines.extend(
            [
                f"{tab}{kind} {skeleton.names[joint]}",
                f"{tab}{{",
                f"{tab}\t{offset(place)}",
                f"{tab}\tCHANNELS {channels}",
            ]
        )
        for child in skeleton.children[joint]:
            visit(child, depth + 1)
        if not skeleton.children[joint]:
            # BVH ends every chain with a bone of some length: that of its last joint goes on a little.
            direction = place / place.norm().clamp_min(1e-6) * _END_SITE_M * units_per_metre
            lines.extend([f"{tab}\tEnd Site", f"{tab}\t{{", f"{tab}\t\t{offset(direction)}", f"{tab}\t}}"])
        lines.append(f"{tab}}}")

    visit(0, 0)
    return lines
