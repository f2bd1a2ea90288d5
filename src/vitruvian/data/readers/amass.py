"""Reader of AMASS and SMPL-X motion files (.npz)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.assets import read_plain_arrays
from vitruvian.bodies.skeletons import SMPLH, SMPLX
from vitruvian.data.retargeting import BodyMotion
from vitruvian.errors import InputError, ModelFileError
from vitruvian.geometry.rotations import exp_so3

_PARTS = (
    ("root_orient", ("pelvis",)),
    ("pose_body", SMPLX.names[1:22]),
    ("pose_jaw", ("jaw",)),
    ("pose_eye", ("left_eye", "right_eye")),
    ("pose_hand", SMPLX.names[25:]),
)


@dataclass(frozen=True)
class AmassMotion:
    """A motion of the SMPL family, y up, with the shape of the person.

    Args:
        motion: rotations of the 55 joints; `root_positions` is the file's translation, as SMPL adds it to the vertices.
        betas: shape coefficients of the file's own body model; empty where the file has none.
        gender: as the file states it, "unknown" where it does not.
    """

    motion: BodyMotion
    betas: Float[Tensor, "shape"]
    gender: str


def read_amass(path: Path | str) -> AmassMotion:
    """Read an AMASS file of SMPL+H (156 numbers a frame) or SMPL-X (165, or named parts); z up becomes y up.

    Raises:
        InputError: the file is missing, is no `.npz`, needs a pickle, or holds no poses of a known length.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("motion file not found", seen=path)
    try:
        arrays = read_plain_arrays(path)
    except ModelFileError as error:
        raise InputError(
            "not a readable AMASS file", seen=f"{error.message}: {error.seen}", expected=".npz without objects"
        ) from error
    vectors = _vectors(arrays, path)
    if "trans" not in arrays or arrays["trans"].shape != (len(vectors), 3):
        raise InputError("AMASS file without a translation per frame", seen=path)
    to_y_up = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]], dtype=torch.float64)
    rotations = exp_so3(vectors)
    rotations[:, 0] = to_y_up @ rotations[:, 0]
    rate = next((float(arrays[key]) for key in ("mocap_framerate", "mocap_frame_rate") if key in arrays), None)
    if rate is None:
        raise InputError("AMASS file does not state its frame rate", seen=path, expected="mocap_framerate")
    positions = torch.from_numpy(arrays["trans"].astype(np.float64)) @ to_y_up.T
    betas = torch.from_numpy(arrays.get("betas", np.zeros(0)).astype(np.float64).reshape(-1))
    gender = str(arrays["gender"]) if "gender" in arrays else "unknown"
    return AmassMotion(BodyMotion(rotations, positions, rate), betas, gender.removeprefix("b'").removesuffix("'"))


def _vectors(arrays: dict[str, np.ndarray], path: Path) -> Float[Tensor, "frame 55 3"]:
    """Rotation vectors by SMPL-X joint; joints that the file lacks are at rest."""
    if "pose_body" in arrays:
        blocks = [(names, arrays[key]) for key, names in _PARTS if key in arrays]
    elif "poses" in arrays and arrays["poses"].ndim == 2 and arrays["poses"].shape[1] in (156, 165):
        names = SMPLH.names if arrays["poses"].shape[1] == 156 else SMPLX.names
        blocks = [(names, arrays["poses"])]
    else:
        seen = arrays["poses"].shape if "poses" in arrays else sorted(arrays)
        raise InputError(
            "no poses of the SMPL family", seen=seen, expected="156 or 165 numbers a frame", hint=str(path)
        )
    result = torch.zeros(len(blocks[0][1]), 55, 3, dtype=torch.float64)
    for names, block in blocks:
        if block.shape != (len(result), 3 * len(names)):
            raise InputError("part of an AMASS file has another length", seen=block.shape, hint=str(path))
        rows = [SMPLX.index(name) for name in names]
        result[:, rows] = torch.from_numpy(block.astype(np.float64)).unflatten(-1, (-1, 3))
    return result
