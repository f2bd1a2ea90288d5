"""The families of body models as data: skeleton, layout of the blend shapes, and published vertices of keypoints."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from vitruvian.bodies.skeletons import FLAME, MANO_LEFT, MANO_RIGHT, SMPL, SMPLH, SMPLX, Skeleton

SMPLX_KEYPOINT_VERTICES: Mapping[str, int] = MappingProxyType(
    {
        "nose": 9120,
        "right_eye_front": 9929,
        "left_eye_front": 9448,
        "right_ear": 616,
        "left_ear": 6,
        "left_big_toe": 5770,
        "left_small_toe": 5780,
        "left_heel": 8846,
        "right_big_toe": 8463,
        "right_small_toe": 8474,
        "right_heel": 8635,
        "left_thumb_tip": 5361,
        "left_index_tip": 4933,
        "left_middle_tip": 5058,
        "left_ring_tip": 5169,
        "left_pinky_tip": 5286,
        "right_thumb_tip": 8079,
        "right_index_tip": 7669,
        "right_middle_tip": 7794,
        "right_ring_tip": 7905,
        "right_pinky_tip": 8022,
    }
)
"""Vertices of SMPL-X that are keypoints but no joints (names of the keypoint format `smplx`)."""

NUM_SHAPE_BEFORE_EXPRESSION = 300
"""Official SMPL-X and FLAME files hold 300 shape directions, then the expressions."""


@dataclass(frozen=True)
class Family:
    """What all files of a family have in common.

    `keypoint_vertices` apply to meshes of at least `least_vertices` vertices, in SMPL-X's order.
    """

    name: str
    title: str
    skeleton: Skeleton
    num_vertices: int
    has_expression: bool = False
    hands: str = ""
    """`both` where the file holds bases of two hands, `one` where of the hand that it is."""
    keypoint_vertices: Mapping[str, int] = field(default_factory=dict)

    @property
    def least_vertices(self) -> int:
        return 1 + max(self.keypoint_vertices.values(), default=0)


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        family.name: family
        for family in (
            Family("smpl", "SMPL", SMPL, 6890),
            Family("smplh", "SMPL+H", SMPLH, 6890, hands="both"),
            Family("smplx", "SMPL-X", SMPLX, 10475, True, "both", SMPLX_KEYPOINT_VERTICES),
            Family("mano", "MANO", MANO_RIGHT, 778, hands="one"),
            Family("flame", "FLAME", FLAME, 5023, True),
        )
    }
)
MANO_SKELETONS: Mapping[str, Skeleton] = MappingProxyType({"left": MANO_LEFT, "right": MANO_RIGHT})
GENDERS = ("neutral", "female", "male")
SIDES = ("left", "right")
