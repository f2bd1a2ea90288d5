"""Which vertices can tell where a joint is: the ring of skin around it, at its level of the limb."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitruvian.bodies.skeletons import Skeleton

NARROWEST_M, WIDEST_M = 0.008, 0.06


def joint_rings(
    skeleton: Skeleton,
    vertices: Float[Tensor, "vertex 3"],
    joints: Float[Tensor, "joint 3"],
    weights: Float[Tensor, "vertex joint"],
) -> Bool[Tensor, "joint vertex"]:
    """For each joint, the vertices near the plane through it across its limb.

    A ring holds vertices that skin to the joint, its parent or its children, lie on its own side of the body, and are
    within a third of the shorter of the two bones that meet at the joint. Eyes keep their eyeballs.
    """
    rings = torch.zeros(len(skeleton), len(vertices), dtype=torch.bool)
    for j, (name, parent) in enumerate(zip(skeleton.names, skeleton.parents, strict=True)):
        children = skeleton.children[j]
        if name.endswith("_eye"):
            rings[j] = weights[:, j] > 0.9
            continue
        family = [j, *children] if parent < 0 else [j, parent, *children]
        mine = weights[:, family].sum(1) > 0.5
        if name.startswith(("left_", "right_")):
            sign = 1.0 if name.startswith("left_") else -1.0
            mine &= sign * vertices[:, 0] > 0
        bones = [joints[c] - joints[j] for c in children if not skeleton.names[c].endswith(("_eye", "jaw"))]
        if len(bones) > 1 and parent >= 0:
            bones = [torch.stack(bones).mean(0)]
        if parent >= 0:
            bones.append(joints[j] - joints[parent])
        axis = torch.tensor([0.0, 1.0, 0.0]).to(joints) if parent < 0 else torch.stack(bones).sum(0)
        axis = torch.nn.functional.normalize(axis, dim=0)
        width = min(float(bone.norm()) for bone in bones) / 3
        level = (vertices - joints[j]) @ axis
        near = level.abs() < min(max(width, NARROWEST_M), WIDEST_M)
        rings[j] = mine & near if name != "jaw" else mine
    return rings
