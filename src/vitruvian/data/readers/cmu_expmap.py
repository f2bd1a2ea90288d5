"""Reader of the exponential-map text form of CMU motions: 39 vectors a line."""

from pathlib import Path

import numpy as np
import torch

from vitruvian.data.motion import Motion
from vitruvian.data.readers.asf_amc import AcclaimSkeleton
from vitruvian.errors import InputError
from vitruvian.geometry.rotations import exp_so3

# Row of the file (0 is the translation) → ASF bone. The rows are the joints of the BVH conversion in file order, the
# ends of the chains among them. The elbows of the data turn about (0, ∓0.87, ±0.5) and the knees about (0.94, ±0.34, 0)
# to three digits, which are the axes of the ASF file, so each row is a rotation in the frame of the ASF rest pose. The
# vectors are stored for row vectors (p Rᵀ), hence the minus sign: elbows and knees then bend the right way.
_BONES = {
    1: "root", 2: "lhipjoint", 3: "lfemur", 4: "ltibia", 5: "lfoot", 6: "ltoes", 8: "rhipjoint", 9: "rfemur",
    10: "rtibia", 11: "rfoot", 12: "rtoes", 14: "lowerback", 15: "upperback", 16: "thorax", 17: "lowerneck",
    18: "upperneck", 19: "head", 21: "lclavicle", 22: "lhumerus", 23: "lradius", 24: "lwrist", 25: "lhand",
    26: "lfingers", 28: "lthumb", 30: "rclavicle", 31: "rhumerus", 32: "rradius", 33: "rwrist", 34: "rhand",
    35: "rfingers", 37: "rthumb",
}  # fmt: skip


def read_cmu_expmap(path: Path | str, skeleton: AcclaimSkeleton, *, frame_rate: float = 30.0) -> Motion:
    """Read one text file; its bone lengths are not stored, so those of `skeleton` (any CMU subject) are taken.

    Raises:
        InputError: where the file is missing or has not 117 numbers a line.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("motion file not found", seen=path)
    try:
        table = np.loadtxt(path, delimiter=",", ndmin=2)
    except ValueError as error:
        raise InputError("not a table of numbers", seen=f"{path}: {error}") from error
    if table.shape[1] != 117:
        raise InputError("unknown layout of exponential maps", seen=table.shape[1], expected="117 numbers a line")
    vectors = torch.from_numpy(table).unflatten(-1, (39, 3))
    names = ("root", *(bone.name for bone in skeleton.bones))
    rows = {name: row for row, name in _BONES.items()}
    lengths = {bone.name: bone.vector for bone in skeleton.bones} | {"root": torch.zeros(3, dtype=torch.float64)}
    return Motion(
        names,
        (-1, *(names.index(bone.parent) for bone in skeleton.bones)),
        torch.stack([lengths["root"], *(lengths[bone.parent] for bone in skeleton.bones)]),
        torch.stack([lengths[name] for name in names]),
        exp_so3(-vectors[:, [rows[name] for name in names]]),
        vectors[:, 0] * skeleton.metres_per_unit,
        frame_rate,
    )
