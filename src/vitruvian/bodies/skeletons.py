"""Kinematic trees of the body families, as data: joint names, parents and ordered pose blocks."""

from dataclasses import dataclass
from functools import cached_property

from vitruvian.errors import InputError


@dataclass(frozen=True)
class PoseBlock:
    """A run of consecutive joints that users know by one name (`body_pose`, `left_hand_pose`, ...)."""

    name: str
    start: int
    stop: int

    @property
    def joints(self) -> range:
        return range(self.start, self.stop)

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Skeleton:
    """A kinematic tree whose parents come before their children; the root has parent −1."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    blocks: tuple[PoseBlock, ...]

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Row of a joint by name; raises InputError for a name that is not in the tree."""
        try:
            return self._rows[name]
        except KeyError:
            raise InputError("unknown joint name", seen=name, expected=", ".join(self.names)) from None

    def block(self, name: str) -> PoseBlock:
        """Pose block by name; raises InputError for a name that the family does not have."""
        for block in self.blocks:
            if block.name == name:
                return block
        raise InputError("unknown pose block", seen=name, expected=", ".join(b.name for b in self.blocks))

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.names)}

    @cached_property
    def levels(self) -> tuple[tuple[int, ...], ...]:
        """Joints grouped by distance from the root; the first level is the root alone."""
        depth: list[int] = []
        for parent in self.parents:
            depth.append(0 if parent < 0 else depth[parent] + 1)
        return tuple(tuple(j for j, d in enumerate(depth) if d == level) for level in range(max(depth) + 1))

    @cached_property
    def chains(self) -> tuple[tuple[int, ...], ...]:
        """For each joint, the joints from the root down to and including itself."""
        chains: list[tuple[int, ...]] = []
        for joint, parent in enumerate(self.parents):
            chains.append((joint,) if parent < 0 else (*chains[parent], joint))
        return tuple(chains)

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(c for c, p in enumerate(self.parents) if p == j) for j in range(len(self)))


def _blocks(*sizes: tuple[str, int]) -> tuple[PoseBlock, ...]:
    blocks, start = [], 0
    for name, size in sizes:
        blocks.append(PoseBlock(name, start, start + size))
        start += size
    return tuple(blocks)


BODY_JOINTS = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
)  # fmt: skip
BODY_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)
FINGERS = ("index", "middle", "pinky", "ring", "thumb")
HAND_PARENTS = (-1, 0, 1, -1, 3, 4, -1, 6, 7, -1, 9, 10, -1, 12, 13)  # −1: the wrist


def hand_joints(side: str) -> tuple[str, ...]:
    """Names of the 15 finger joints of one hand, in SMPL-X order."""
    return tuple(f"{side}_{finger}{k}" for finger in FINGERS for k in (1, 2, 3))


def _hand_parents(wrist: int, start: int) -> tuple[int, ...]:
    return tuple(wrist if p < 0 else start + p for p in HAND_PARENTS)


SMPLX = Skeleton(
    (*BODY_JOINTS, "jaw", "left_eye", "right_eye", *hand_joints("left"), *hand_joints("right")),
    (*BODY_PARENTS, 15, 15, 15, *_hand_parents(20, 25), *_hand_parents(21, 40)),
    _blocks(
        ("global_orient", 1), ("body_pose", 21), ("jaw_pose", 1), ("leye_pose", 1), ("reye_pose", 1),
        ("left_hand_pose", 15), ("right_hand_pose", 15),
    ),
)  # fmt: skip
SMPLH = Skeleton(
    (*BODY_JOINTS, *hand_joints("left"), *hand_joints("right")),
    (*BODY_PARENTS, *_hand_parents(20, 22), *_hand_parents(21, 37)),
    _blocks(("global_orient", 1), ("body_pose", 21), ("left_hand_pose", 15), ("right_hand_pose", 15)),
)
SMPL = Skeleton(
    (*BODY_JOINTS, "left_hand", "right_hand"), (*BODY_PARENTS, 20, 21), _blocks(("global_orient", 1), ("body_pose", 23))
)
FLAME = Skeleton(
    ("root", "neck", "jaw", "left_eye", "right_eye"),
    (-1, 0, 1, 1, 1),
    _blocks(("global_orient", 1), ("neck_pose", 1), ("jaw_pose", 1), ("leye_pose", 1), ("reye_pose", 1)),
)


def mano_skeleton(side: str) -> Skeleton:
    """The 16-joint tree of a MANO hand; `side` is "left" or "right"."""
    return Skeleton(
        (f"{side}_wrist", *hand_joints(side)),
        (-1, *_hand_parents(0, 1)),
        _blocks(("global_orient", 1), ("hand_pose", 15)),
    )


MANO_LEFT = mano_skeleton("left")
MANO_RIGHT = mano_skeleton("right")
