"""Writing fitted people to files that other programs open; the suffix of the name decides the format."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
import trimesh

from vitruvian.bodies.loaders import load_body
from vitruvian.bodies.model import BodyModel
from vitruvian.errors import InputError
from vitruvian.exports.axes import Y_UP_FROM_CAMERA, Z_UP_FROM_CAMERA, turn_params
from vitruvian.exports.gltf import write_gltf
from vitruvian.exports.motion import write_bvh
from vitruvian.exports.sequences import one_motion, require_frame_rate, rows_of_track
from vitruvian.fits import Fits
from vitruvian.output import replacing

MOTION_SUFFIXES = (".npz", ".bvh")
"""Formats that hold the motion of one person, one row of the fits per frame."""

_FOREIGN_SHAPE = (
    "The poses are those of the SMPL-X tree. The betas belong to the shape space named by shape_space, which is not "
    "that of SMPL-X: a program that gives them to SMPL-X shows another person. There, leave the betas zero."
)


def export(
    fits: Fits,
    path: Path | str,
    *,
    body: BodyModel | None = None,
    frame_rate: float = 30.0,
    track: int | None = None,
) -> Path:
    """Write the usable people of `fits`.

    - `.glb`: skinned meshes with skeleton and expression blend shapes (`vitruvian.exports.gltf`)
    - `.obj`, `.ply`: posed meshes, y up, the lowest point at y = 0
    - `.npz`: motion of one person as AMASS stores SMPL-X, z up, one frame per row; `shape_space` says of which body,
      `family:digest`, the betas are
    - `.bvh`: motion of one person, one frame per row, y up

    Args:
        body: the body that was fitted; None loads it again (the open body, or a file added by `vitruvian body add`).
        frame_rate: frames per second of motion files.
        track: write this person of a sequence alone; None writes everyone, and in motion files the only one there is.

    Raises:
        InputError: an unknown suffix, an impossible frame rate, no such track, nobody in `fits` is usable, or several
            people for a motion file.
        ModelFileError: the body that was fitted is not there any more.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise InputError(
            "no such export format", seen=path.suffix or f"{path.name}, without a suffix", expected=", ".join(WRITERS)
        )
    require_frame_rate(frame_rate)
    chosen = fits if track is None else rows_of_track(fits, track)
    usable = chosen[chosen.usable]
    if not len(usable):
        seen = ", ".join(sorted(set(chosen.status))) or "no people"
        raise InputError("nobody to export: no fit is usable", seen=seen)
    if path.suffix.lower() in MOTION_SUFFIXES:
        usable = one_motion(usable)
    writer(usable, body if body is not None else fitted_body(fits), path, frame_rate)
    return path


def shapes_are_foreign(fits: Fits) -> bool:
    """Whether the betas would be taken for those of SMPL-X by programs that read motion files, and are not."""
    return fits.family == "open"


def fitted_body(fits: Fits) -> BodyModel:
    """The body that was fitted, loaded again.

    Raises:
        ModelFileError: a licensed body that is not registered any more.
    """
    family, _, side = fits.family.partition("_")
    betas, expression = fits.params.betas.shape[-1], fits.params.expression.shape[-1]
    if family == "mano":
        return load_body(family, side=side, num_shape=betas)
    return load_body(family, gender=fits.gender, num_shape=betas, num_expression=expression)


def _write_glb(fits: Fits, body: BodyModel, path: Path, frame_rate: float) -> None:
    write_gltf(fits, body, path)


def _write_mesh(fits: Fits, body: BodyModel, path: Path, frame_rate: float) -> None:
    vertices = fits.pose(body).vertices.detach().cpu().double()
    vertices = vertices @ torch.tensor(Y_UP_FROM_CAMERA, dtype=torch.float64).T
    vertices[..., 1] -= vertices[..., 1].min()
    faces = body.faces.cpu().numpy()
    meshes = [trimesh.Trimesh(person.numpy(), faces, process=False) for person in vertices]
    whole = trimesh.util.concatenate(meshes) if len(meshes) > 1 else meshes[0]
    with replacing(path) as temporary:
        whole.export(temporary)


def _write_amass(fits: Fits, body: BodyModel, path: Path, frame_rate: float) -> None:
    shaped = body.with_shape(fits.params.betas.to(body.template))
    params = fits.params.to(dtype=body.dtype, device=body.device)
    params = turn_params(params, shaped.joints[:, 0], Z_UP_FROM_CAMERA)
    blocks = {k: v.reshape(len(fits), -1).cpu().numpy() for k, v in params.axis_angle_blocks(body.skeleton).items()}
    hands = [blocks[name] for name in ("left_hand_pose", "right_hand_pose") if name in blocks]
    eyes = [blocks[name] for name in ("leye_pose", "reye_pose") if name in blocks]
    arrays = {
        "poses": np.concatenate([blocks[block.name] for block in body.skeleton.blocks], axis=1),
        "trans": params.transl.cpu().numpy(),
        "betas": params.betas.mean(0).cpu().numpy(),
        "gender": np.array(fits.gender),
        "mocap_frame_rate": np.array(frame_rate),
        "surface_model_type": np.array("smplx" if fits.family == "open" else fits.family),
        "shape_space": np.array(fits.body),
        "frame": np.array(fits.frame, dtype=np.int64),
        "root_orient": blocks["global_orient"],
    }
    if shapes_are_foreign(fits):
        arrays["note"] = np.array(_FOREIGN_SHAPE)
    if "body_pose" in blocks:
        arrays["pose_body"] = blocks["body_pose"]
    if hands:
        arrays["pose_hand"] = np.concatenate(hands, axis=1)
    if "jaw_pose" in blocks:
        arrays["pose_jaw"] = blocks["jaw_pose"]
    if eyes:
        arrays["pose_eye"] = np.concatenate(eyes, axis=1)
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **{key: _single(value) for key, value in arrays.items()})


def _single(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32) if values.dtype == np.float64 and values.ndim else values


def _write_motion(fits: Fits, body: BodyModel, path: Path, frame_rate: float) -> None:
    write_bvh(fits, body, path, frame_rate=frame_rate)


WRITERS: Mapping[str, Callable[[Fits, BodyModel, Path, float], None]] = MappingProxyType(
    {
        ".glb": _write_glb,
        ".obj": _write_mesh,
        ".ply": _write_mesh,
        ".npz": _write_amass,
        ".bvh": _write_motion,
    }
)
