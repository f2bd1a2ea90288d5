"""How the skeletons of the CMU motion capture database, in their three file flavours, are read as SMPL-X joints."""

from vitruvian.data.retargeting import BoneMap, SkeletonMap, Vector

_ASF_UNIT = 0.0254 / 0.45


def _cmu_bones(
    names: dict[str, str], *, leg_hinges: tuple[Vector, Vector], arm_hinges: tuple[Vector, Vector]
) -> dict[str, BoneMap]:
    """Bones of the ASF skeleton under the names of one flavour; `{s}` and `{S}` in a name stand for the side.

    The neck takes half of the turn of the head against the chest: the recorded neck bones zigzag, and differ in sign
    between subjects, while head and chest carry markers of their own.
    """
    spine = {
        "pelvis": BoneMap(names["root"]),
        "spine1": BoneMap(names["lowerback"]),
        "spine2": BoneMap(names["upperback"]),
        "spine3": BoneMap(names["thorax"]),
        "neck": BoneMap((names["thorax"], names["head"]), at=names["lowerneck"]),
        "head": BoneMap(names["head"]),
    }
    limbs: dict[str, BoneMap] = {}
    for side, short, long, leg, arm in (
        ("left", "l", "Left", leg_hinges[0], arm_hinges[0]),
        ("right", "r", "Right", leg_hinges[1], arm_hinges[1]),
    ):
        n = {key: name.format(s=short, S=long) for key, name in names.items()}
        limbs |= {
            f"{side}_hip": BoneMap(n["femur"], toward=n["tibia"], hinge=leg),
            f"{side}_knee": BoneMap(n["tibia"], toward=n["foot"], hinge=leg),
            f"{side}_ankle": BoneMap(n["foot"], toward=n["toes"], hinge=leg),
            f"{side}_foot": BoneMap(n["toes"], toward="", hinge=leg),
            f"{side}_collar": BoneMap(n["clavicle"]),
            f"{side}_shoulder": BoneMap(n["humerus"], toward=n["radius"], hinge=arm),
            f"{side}_elbow": BoneMap(n["radius"], toward=n["wrist"], hinge=arm),
            f"{side}_wrist": BoneMap(n["hand"], toward=n["fingers"]),
        }
    return spine | limbs


_COS20, _SIN20 = 0.9397, 0.3420
CMU_ASF = SkeletonMap(
    bones=_cmu_bones(
        {
            "root": "root", "lowerback": "lowerback", "upperback": "upperback", "thorax": "thorax",
            "lowerneck": "lowerneck", "head": "head", "femur": "{s}femur", "tibia": "{s}tibia", "foot": "{s}foot",
            "toes": "{s}toes", "clavicle": "{s}clavicle", "humerus": "{s}humerus", "radius": "{s}radius",
            "wrist": "{s}wrist", "hand": "{s}hand", "fingers": "{s}fingers",
        },
        leg_hinges=((_COS20, _SIN20, 0.0), (_COS20, -_SIN20, 0.0)),
        arm_hinges=((0.0, -0.866, 0.5), (0.0, 0.866, -0.5)),
    ),
    metres_per_unit=_ASF_UNIT,
)  # fmt: skip
"""The distributed ASF/AMC files: zero rotation is a T-pose with the legs spread by 20°."""

_CMU_BVH_NAMES = {
    "root": "Hips", "lowerback": "LowerBack", "upperback": "Spine", "thorax": "Spine1", "lowerneck": "Neck",
    "head": "Head", "femur": "{S}UpLeg", "tibia": "{S}Leg", "foot": "{S}Foot", "toes": "{S}ToeBase",
    "clavicle": "{S}Shoulder", "humerus": "{S}Arm", "radius": "{S}ForeArm", "wrist": "{S}Hand",
    "hand": "{S}FingerBase", "fingers": "{S}HandIndex1",
}  # fmt: skip
_ARM_HINGES = ((-0.12, -0.858, 0.5), (-0.12, 0.858, -0.5))
CMU_BVH = SkeletonMap(
    bones=_cmu_bones(_CMU_BVH_NAMES, leg_hinges=((1.0, 0.0, 0.0), (1.0, 0.0, 0.0)), arm_hinges=_ARM_HINGES),
    metres_per_unit=_ASF_UNIT,
    reference="first-frame",
)
"""BVH conversions that keep the 31 ASF bones: the first frame is a T-pose with the arms 8° below the level."""


def _poser_bones() -> dict[str, BoneMap]:
    bones = {
        "pelvis": BoneMap("hip"),
        "spine1": BoneMap(("hip", "abdomen"), at="hip"),
        "spine2": BoneMap("abdomen"),
        "spine3": BoneMap("chest"),
        "neck": BoneMap(("chest", "head"), at="neck"),
        "head": BoneMap("head"),
    }
    for side, s, sign, arm in (("left", "l", 1.0, _ARM_HINGES[0]), ("right", "r", -1.0, _ARM_HINGES[1])):
        level, leg = (sign * 0.990, -0.139, 0.0), (1.0, 0.0, 0.0)
        bones |= {
            f"{side}_hip": BoneMap(f"{s}Thigh", direction=(0.0, -1.0, 0.0), hinge=leg),
            f"{side}_knee": BoneMap(f"{s}Shin", direction=(0.0, -1.0, 0.0), hinge=leg),
            f"{side}_ankle": BoneMap(f"{s}Foot", direction=(0.0, -0.259, 0.966), hinge=leg),
            f"{side}_shoulder": BoneMap(f"{s}Shldr", direction=level, hinge=arm),
            f"{side}_elbow": BoneMap(f"{s}ForeArm", direction=level, hinge=arm),
            f"{side}_wrist": BoneMap(f"{s}Hand", direction=level),
        }
    return bones


CMU_POSER_BVH = SkeletonMap(bones=_poser_bones(), metres_per_unit=0.01, reference="first-frame")
"""BVH conversions onto a Poser figure of 43 joints, whose own bent bones are not the person's.

The hinges of the data, (−0.11, −0.86, 0.50) at the left elbow, show that the person's arms were straight and 8° below
the level in the first frame; so the bones' directions there are given, not measured. Collars, toes and wrists do not
move in these files, except for the turn of the hand about the forearm.
"""
