"""Rotations that bring a standing body, arms lowered, to the rest pose of SMPL-X: arms along ±x, palms down."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.skeletons import FINGERS, SMPLX
from vitruvian.bodies.skinning import forward_kinematics

LEG_SPLAY_DEG = 2.0
FINGER_FAN = 0.7
"""Share of the natural spread of the fingers that is kept."""


def t_pose_rotations(
    joints: Float[Tensor, "body joint 3"], tips: Float[Tensor, "body 10 3"]
) -> Float[Tensor, "body joint 3 3"]:
    """World rotations G of all joints that take each body from its own rest to the T-pose.

    Upper arms, forearms and hands point along ±x with palms down and elbows that bend forward; legs are straight
    down with flat feet; fingers lie in the plane of the palm. Thumbs keep their angle to the palm.

    Args:
        joints: positions in SMPL-X order, y up, facing +z.
        tips: finger tips, left then right, each in the order of `skeletons.FINGERS`.
    """
    G = torch.eye(3).to(joints).expand(*joints.shape, 3).clone()
    for side, sign in (("left", 1.0), ("right", -1.0)):
        _arm(G, joints, side, sign)
        _fingers(G, joints, tips[:, :5] if side == "left" else tips[:, 5:], side, sign)
        _leg(G, joints, side, sign)
    return G


def local_rotations(G: Float[Tensor, "*batch joint 3 3"]) -> Float[Tensor, "*batch joint 3 3"]:
    """Local rotations of the SMPL-X skeleton from world rotations."""
    parents = torch.tensor(SMPLX.parents[1:], device=G.device)
    return torch.cat((G[..., :1, :, :], G[..., parents, :, :].mT @ G[..., 1:, :, :]), dim=-3)


def t_pose_joints(
    joints: Float[Tensor, "body joint 3"], G: Float[Tensor, "body joint 3 3"]
) -> Float[Tensor, "body joint 3"]:
    """Joint positions after the world rotations G, root in place."""
    return forward_kinematics(SMPLX, local_rotations(G), joints)[1]


def _arm(G: Tensor, joints: Tensor, side: str, sign: float) -> None:
    shoulder, elbow, wrist, index, middle, pinky = (
        SMPLX.index(f"{side}_{name}") for name in ("shoulder", "elbow", "wrist", "index1", "middle1", "pinky1")
    )
    upper, fore = joints[:, elbow] - joints[:, shoulder], joints[:, wrist] - joints[:, elbow]
    # The elbow's hinge is normal to the plane of the bent arm and must come to lie along the vertical.
    hinge = torch.linalg.cross(upper, fore, dim=-1)
    x, y = (torch.tensor(v).to(joints).expand_as(upper) for v in ((sign, 0.0, 0.0), (0.0, -sign, 0.0)))
    G[:, shoulder] = _align(upper, hinge, x, y)
    G[:, elbow] = _align(fore, hinge, x, y)
    back = torch.tensor((0.0, 0.0, -1.0)).to(joints).expand_as(upper)
    hand = _align(joints[:, middle] - joints[:, wrist], joints[:, pinky] - joints[:, index], x, back)
    for j in (wrist, *(SMPLX.index(f"{side}_{f}{k}") for f in FINGERS for k in (1, 2, 3))):
        G[:, j] = hand


def _fingers(G: Tensor, joints: Tensor, tips: Tensor, side: str, sign: float) -> None:
    hand = G[:, SMPLX.index(f"{side}_wrist")]
    for row, finger in enumerate(FINGERS):
        if finger == "thumb":
            continue
        rows = [SMPLX.index(f"{side}_{finger}{k}") for k in (1, 2, 3)]
        ends = torch.cat((joints[:, rows], tips[:, row, None]), dim=1)
        bones = ((ends[:, 1:] - ends[:, :-1])[:, :, None] * hand[:, None]).sum(-1)  # in the frame of the palm
        fan = torch.atan2(bones[:, 0, 2], sign * bones[:, 0, 0]) * FINGER_FAN
        target = torch.stack((sign * fan.cos(), torch.zeros_like(fan), fan.sin()), dim=-1)
        up = torch.tensor((0.0, 1.0, 0.0)).to(joints).expand_as(target)
        for k, j in enumerate(rows):
            flat = torch.linalg.cross(up, bones[:, k], dim=-1)
            straight = torch.linalg.cross(up, target, dim=-1)
            G[:, j] = _align(bones[:, k], flat, target, straight) @ hand


def _leg(G: Tensor, joints: Tensor, side: str, sign: float) -> None:
    hip, knee, ankle = (SMPLX.index(f"{side}_{name}") for name in ("hip", "knee", "ankle"))
    splay = math.radians(LEG_SPLAY_DEG)
    down = torch.tensor((sign * math.sin(splay), -math.cos(splay), 0.0)).to(joints)
    forward = torch.tensor((0.0, 0.0, 1.0)).to(joints)
    line = joints[:, ankle] - joints[:, hip]
    turn = _align(line, forward.expand_as(line), down.expand_as(line), forward.expand_as(line))
    G[:, hip] = G[:, knee] = turn  # ankle and foot keep the orientation they stand in


def _align(first: Tensor, second: Tensor, to_first: Tensor, to_second: Tensor) -> Float[Tensor, "body 3 3"]:
    """Rotation that takes `first` to the direction `to_first`, and `second` as near to `to_second` as that allows."""
    return _frame(to_first, to_second) @ _frame(first, second).mT


def _frame(first: Tensor, second: Tensor) -> Tensor:
    x = torch.nn.functional.normalize(first, dim=-1)
    y = torch.nn.functional.normalize(second - (second * x).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack((x, y, torch.linalg.cross(x, y, dim=-1)), dim=-1)
