"""Reader of BVH motion files."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from vitruvian.data.motion import Motion, euler_to_matrix
from vitruvian.errors import InputError


@dataclass
class _Joint:
    name: str
    parent: int
    offset: list[float] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    tip: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])


def read_bvh(path: Path | str, *, metres_per_unit: float = 0.01) -> Motion:
    """Read a BVH file.

    Args:
        path: the file.
        metres_per_unit: length of one unit of the file (centimetres unless said otherwise).

    Raises:
        InputError: where the file is missing, is no BVH, or holds fewer numbers than it announces.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("motion file not found", seen=path)
    header, separator, body = path.read_text(encoding="latin-1").partition("MOTION")
    if not separator or "HIERARCHY" not in header:
        raise InputError("not a BVH file", seen=path, expected="HIERARCHY and MOTION sections")
    joints = _parse_hierarchy(header, path)
    num_frames, frame_time, numbers = _parse_motion(body, path)
    num_channels = sum(len(joint.channels) for joint in joints)
    if numbers.size < num_frames * num_channels:
        raise InputError("BVH file is cut short", seen=numbers.size, expected=num_frames * num_channels, hint=str(path))
    values = torch.from_numpy(numbers[: num_frames * num_channels].reshape(num_frames, num_channels))

    rotations = torch.eye(3, dtype=torch.float64).repeat(num_frames, len(joints), 1, 1)
    root_positions = torch.tensor(joints[0].offset, dtype=torch.float64).repeat(num_frames, 1)
    column = 0
    for row, joint in enumerate(joints):
        block = values[:, column : column + len(joint.channels)]
        column += len(joint.channels)
        turns = [c for c, name in enumerate(joint.channels) if name.endswith("rotation")]
        axes = "".join(joint.channels[c][0].lower() for c in turns)
        rotations[:, row] = euler_to_matrix(block[:, turns] * (math.pi / 180), axes)
        if joint.parent < 0:
            for c, name in enumerate(joint.channels):
                if name.endswith("position"):
                    root_positions[:, "xyz".index(name[0].lower())] = block[:, c]
    return Motion(
        tuple(joint.name for joint in joints),
        tuple(joint.parent for joint in joints),
        torch.tensor([joint.offset for joint in joints], dtype=torch.float64) * metres_per_unit,
        torch.tensor([joint.tip for joint in joints], dtype=torch.float64) * metres_per_unit,
        rotations,
        root_positions * metres_per_unit,
        1.0 / frame_time,
    )


def _parse_hierarchy(header: str, path: Path) -> list[_Joint]:
    joints: list[_Joint] = []
    stack: list[int] = []
    pending, in_end_site = -1, False
    for line in header.splitlines():
        words = line.split()
        match words:
            case ["ROOT" | "JOINT", *name]:
                joints.append(_Joint(" ".join(name), stack[-1] if stack else -1))
                pending = len(joints) - 1
            case ["End", "Site"]:
                in_end_site = True
            case ["{"]:
                stack.append(stack[-1] if in_end_site else pending)
            case ["}"]:
                stack.pop()
                in_end_site = False
            case ["OFFSET", *numbers] if len(numbers) == 3 and joints:
                offset = [float(number) for number in numbers]
                if in_end_site:
                    joints[stack[-1]].tip = offset
                else:
                    joints[-1].offset = offset
            case ["CHANNELS", _, *names]:
                joints[-1].channels = names
            case [] | ["HIERARCHY"]:
                pass
            case _:
                raise InputError("unexpected line in a BVH hierarchy", seen=line.strip(), hint=str(path))
    if not joints or any(len(joint.offset) != 3 for joint in joints):
        raise InputError("BVH hierarchy without joints or offsets", seen=path)
    return joints


def _parse_motion(body: str, path: Path) -> tuple[int, float, np.ndarray]:
    lines = body.strip().split("\n", 2)
    if len(lines) < 2 or not lines[0].startswith("Frames:") or not lines[1].startswith("Frame Time:"):
        raise InputError("BVH motion section lacks its frame count or frame time", seen=path)
    try:
        numbers = np.array(lines[2].split() if len(lines) > 2 else [], dtype=np.float64)
        return int(lines[0].split()[1]), float(lines[1].split()[2]), numbers
    except ValueError as error:
        raise InputError("a BVH number cannot be read", seen=error, hint=str(path)) from error
