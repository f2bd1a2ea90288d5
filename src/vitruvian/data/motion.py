"""Recorded motion of a named skeleton: a tree of joints with offsets, local rotations and a root path over time."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.errors import InputError
from vitruvian.tensors import TensorRecord


@dataclass(frozen=True, eq=False)
class Motion(TensorRecord):
    """One clip. At zero rotation every joint frame is parallel to the world, so the offsets are the rest pose.

    Args:
        names: joint names; a joint is the point that its bone turns about.
        parents: row of each parent, before its children; −1 for the root.
        offsets: from the parent joint to the joint, in the parent's frame, metres.
        tips: from a joint to the far end of its bone, in the joint's frame, metres; zero where a child marks it.
        rotations: local rotation of each joint in each frame, parent ← joint.
        root_positions: position of the root in the world, metres.
        frame_rate: frames a second.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: Float[Tensor, "joint 3"]
    tips: Float[Tensor, "joint 3"]
    rotations: Float[Tensor, "frame joint 3 3"]
    root_positions: Float[Tensor, "frame 3"]
    frame_rate: float

    @property
    def num_frames(self) -> int:
        return len(self.rotations)

    def index(self, name: str) -> int:
        """Row of a joint by name; raises InputError for a name that the skeleton lacks."""
        if name not in self.names:
            raise InputError("the skeleton has no such joint", seen=name, expected=", ".join(self.names))
        return self.names.index(name)

    def frames(self, selection: slice | Tensor) -> "Motion":
        """The clip with some of its frames; the frame rate is left as it is."""
        return Motion(
            self.names, self.parents, self.offsets, self.tips, self.rotations[selection],
            self.root_positions[selection], self.frame_rate,
        )  # fmt: skip

    def world(self) -> tuple[Float[Tensor, "frame joint 3 3"], Float[Tensor, "frame joint 3"]]:
        """World rotation and world position of every joint (forward kinematics)."""
        return forward_kinematics(self.rotations, self.offsets, self.parents, self.root_positions)


def forward_kinematics(
    rotations: Float[Tensor, "*batch joint 3 3"],
    offsets: Float[Tensor, "*#batch joint 3"],
    parents: tuple[int, ...],
    root_positions: Float[Tensor, "*#batch 3"],
) -> tuple[Float[Tensor, "*batch joint 3 3"], Float[Tensor, "*batch joint 3"]]:
    """World rotations and positions of a tree of joints; the offset of the root is not used."""
    turned: list[Tensor] = []
    positions: list[Tensor] = []
    for joint, parent in enumerate(parents):
        if parent < 0:
            turned.append(rotations[..., joint, :, :])
            positions.append(root_positions.expand(*rotations.shape[:-3], 3))
        else:
            turned.append(turned[parent] @ rotations[..., joint, :, :])
            positions.append(positions[parent] + (turned[parent] @ offsets[..., joint, :, None])[..., 0])
    return torch.stack(turned, dim=-3), torch.stack(positions, dim=-2)


def euler_to_matrix(angles_rad: Float[Tensor, "*batch axis"], axes: str) -> Float[Tensor, "*batch 3 3"]:
    """Product of elementary rotations in the order written: `euler_to_matrix(a, "zyx")` = Rz(a0) Ry(a1) Rx(a2)."""
    result = torch.eye(3, dtype=angles_rad.dtype, device=angles_rad.device).expand(*angles_rad.shape[:-1], 3, 3)
    for column, axis in enumerate(axes):
        i = "xyz".index(axis)
        j, k = (i + 1) % 3, (i + 2) % 3
        cos, sin = torch.cos(angles_rad[..., column]), torch.sin(angles_rad[..., column])
        turn = angles_rad.new_zeros(*angles_rad.shape[:-1], 3, 3)
        turn[..., i, i] = 1
        turn[..., j, j], turn[..., j, k] = cos, -sin
        turn[..., k, j], turn[..., k, k] = sin, cos
        result = result @ turn
    return result
