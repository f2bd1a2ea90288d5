"""Reader of Acclaim skeletons (ASF) and their motion files (AMC)."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.data.motion import Motion, euler_to_matrix
from vitruvian.errors import InputError

_INCH = 0.0254


@dataclass(frozen=True)
class AcclaimBone:
    """One bone of an ASF file: its rest direction, its length in metres, and the frame its angles turn about."""

    name: str
    parent: str
    vector: Float[Tensor, "3"]
    axes: Float[Tensor, "3 3"]
    degrees_of_freedom: tuple[str, ...]


@dataclass(frozen=True)
class AcclaimSkeleton:
    """Bones of an ASF file in an order where parents come first; the root is implied."""

    bones: tuple[AcclaimBone, ...]
    root_order: tuple[str, ...]
    root_axes: Float[Tensor, "3 3"]
    degrees: bool
    metres_per_unit: float


def read_asf(path: Path | str) -> AcclaimSkeleton:
    """Read an ASF skeleton; its lengths are inches divided by the unit it states (0.45 at CMU).

    Raises:
        InputError: where the file is missing or lacks a section.
    """
    path = Path(path)
    sections = _sections(path)
    try:
        units = dict(line.split()[:2] for line in sections["units"])
        metres_per_unit = _INCH / float(units.get("length", 1.0))
        degrees = units.get("angle", "deg").startswith("deg")
        root = {line.split()[0]: line.split()[1:] for line in sections["root"]}
        parents = _parents(sections["hierarchy"])
        bones = {bone.name: bone for bone in _bones(sections["bonedata"], parents, metres_per_unit, degrees)}
    except (KeyError, ValueError, IndexError) as error:
        raise InputError("not a readable ASF skeleton", seen=f"{path}: {error!r}") from error
    ordered: list[AcclaimBone] = []
    known = {"root"}
    while len(ordered) < len(bones):
        ready = [bone for bone in bones.values() if bone.parent in known and bone.name not in known]
        if not ready:
            raise InputError(
                "ASF hierarchy has bones without a parent", seen=sorted(set(bones) - known), hint=str(path)
            )
        ordered += ready
        known |= {bone.name for bone in ready}
    orientation = [float(x) for x in root.get("orientation", ["0", "0", "0"])]
    axes = _frame(orientation, root.get("axis", ["XYZ"])[0], degrees)
    return AcclaimSkeleton(tuple(ordered), tuple(w.lower() for w in root["order"]), axes, degrees, metres_per_unit)


def read_amc(path: Path | str, skeleton: AcclaimSkeleton, *, frame_rate: float = 120.0) -> Motion:
    """Read an AMC motion recorded with `skeleton`; AMC files do not state their frame rate.

    Raises:
        InputError: where the file is missing, broken, or of another skeleton.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("motion file not found", seen=path)
    columns: dict[str, list[list[str]]] = {"root": [], **{bone.name: [] for bone in skeleton.bones}}
    num_frames = 0
    for line in path.read_text(encoding="latin-1").splitlines():
        words = line.split()
        if not words or words[0][0] in "#:":
            continue
        if len(words) == 1 and words[0].isdigit():
            num_frames += 1
        elif words[0] in columns:
            columns[words[0]].append(words[1:])
        else:
            raise InputError("AMC file names a bone that the skeleton lacks", seen=words[0], hint=str(path))
    scale = math.pi / 180 if skeleton.degrees else 1.0

    def values(name: str, dofs: tuple[str, ...]) -> Float[Tensor, "frame dof"]:
        try:
            table = np.array(columns[name], dtype=np.float64).reshape(num_frames, len(dofs))
        except ValueError as error:
            raise InputError("AMC values do not fit the skeleton", seen=f"{path}: {name}") from error
        return torch.from_numpy(table)

    names = ("root", *(bone.name for bone in skeleton.bones))
    rotations = torch.eye(3, dtype=torch.float64).repeat(num_frames, len(names), 1, 1)
    root = values("root", skeleton.root_order)
    angles, axes = _angles(root, skeleton.root_order, scale)
    rotations[:, 0] = skeleton.root_axes @ euler_to_matrix(angles, axes)
    shifts = [skeleton.root_order.index(f"t{axis}") for axis in "xyz"]
    vectors = {"root": torch.zeros(3, dtype=torch.float64)} | {bone.name: bone.vector for bone in skeleton.bones}
    for row, bone in enumerate(skeleton.bones, start=1):
        if bone.degrees_of_freedom and columns[bone.name]:
            angles, axes = _angles(values(bone.name, bone.degrees_of_freedom), bone.degrees_of_freedom, scale)
            rotations[:, row] = bone.axes @ euler_to_matrix(angles, axes) @ bone.axes.T
    return Motion(
        names,
        (-1, *(names.index(bone.parent) for bone in skeleton.bones)),
        torch.stack([vectors["root"], *(vectors[bone.parent] for bone in skeleton.bones)]),
        torch.stack([vectors[name] for name in names]),
        rotations,
        root[:, shifts] * skeleton.metres_per_unit,
        frame_rate,
    )


def _angles(
    table: Float[Tensor, "frame dof"], dofs: tuple[str, ...], scale: float
) -> tuple[Float[Tensor, "frame angle"], str]:
    """Rotational columns and their axes; the first named turn is applied first, so it stands last in the product."""
    turns = [c for c, dof in enumerate(dofs) if dof.startswith("r")][::-1]
    return table[:, turns] * scale, "".join(dofs[c][1] for c in turns)


def _frame(angles: list[float], order: str, degrees: bool) -> Float[Tensor, "3 3"]:
    """Frame of an `axis` line: the first named axis is turned about first (XYZ: C = Rz Ry Rx)."""
    by_axis = dict(zip("XYZ", angles, strict=True))
    values = torch.tensor([by_axis[axis] for axis in order[::-1]], dtype=torch.float64)
    return euler_to_matrix(values * (math.pi / 180 if degrees else 1.0), order[::-1].lower())


def _sections(path: Path) -> dict[str, list[str]]:
    if not path.is_file():
        raise InputError("skeleton file not found", seen=path)
    sections: dict[str, list[str]] = {}
    current = ""
    for raw in path.read_text(encoding="latin-1").splitlines():
        line = raw.strip()
        if line.startswith("#") or not line:
            continue
        if line.startswith(":"):
            current, _, rest = line[1:].partition(" ")
            sections[current] = [rest] if rest else []
        else:
            sections.setdefault(current, []).append(line)
    return sections


def _parents(lines: list[str]) -> dict[str, str]:
    parents: dict[str, str] = {}
    for line in lines:
        parent, *children = line.split()
        if parent not in ("begin", "end"):
            parents |= dict.fromkeys(children, parent)
    return parents


def _bones(lines: list[str], parents: dict[str, str], metres_per_unit: float, degrees: bool) -> list[AcclaimBone]:
    bones: list[AcclaimBone] = []
    entry: dict[str, list[str]] = {}
    for line in lines:
        key, *words = line.split()
        if key == "begin":
            entry = {}
        elif key == "end":
            name = entry["name"][0]
            direction = torch.tensor([float(x) for x in entry["direction"]], dtype=torch.float64)
            axes = _frame([float(x) for x in entry["axis"][:3]], entry["axis"][3], degrees)
            vector = direction * float(entry["length"][0]) * metres_per_unit
            dofs = tuple(word.lower() for word in entry.get("dof", []))
            bones.append(AcclaimBone(name, parents[name], vector, axes, dofs))
        elif key not in entry:
            entry[key] = words
    return bones
