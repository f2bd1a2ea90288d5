"""Hand poses from finger joint positions of a Leap Motion device, as rotations of the SMPL-X finger joints."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.assets import border, read_plain_arrays
from vitruvian.bodies.skeletons import FINGERS
from vitruvian.errors import InputError
from vitruvian.geometry.rotations import exp_so3
from vitruvian.tensors import BatchRecord

LEAP_FINGERS = ("thumb", "index", "middle", "ring", "pinky")
_KNUCKLES = ("index", "middle", "ring", "pinky")

# Rest directions of the left hand's finger bones in the frame of the hand (x along the middle metacarpal, y out of the
# back of the hand, z to the thumb): angle to x in the plane of the palm, as in the open body's rest pose.
_FAN_RAD = {"index": 0.10, "middle": -0.10, "ring": -0.22, "pinky": -0.32}
# Base to tip of the thumb at rest in the open body, and the axis about which it bends: across the nail. The axes about
# which bent thumbs of the recordings are bent, carried to the rest direction, agree with the latter within 5 degrees.
_THUMB_REST = (0.648, -0.568, 0.507)
_THUMB_HINGE = (0.638, 0.769, 0.047)
_HINGE_GAIN = 3.0


@dataclass(frozen=True, eq=False)
class HandRecordings(BatchRecord):
    """Finger joints over time.

    Args:
        joints: thumb to pinky; metacarpal base, knuckle, two finger joints, tip; metres.
        is_left: side of each hand.
        signs: what was being signed in each frame.
        clips: recording of each frame.
    """

    joints: Float[Tensor, "hand 5 5 3"]
    is_left: Float[Tensor, "hand"]
    signs: np.ndarray
    clips: np.ndarray


def read_leap_hands(path: Path | str) -> HandRecordings:
    """Read the Leap Motion recordings of signs.

    Raises:
        InputError: where the file is missing or lacks an array.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("hand recordings not found", seen=path)
    with border(InputError, path, what="hand recordings"):
        arrays = read_plain_arrays(path)
        absent = {"joints_mm", "side", "clip", "clips"} - set(arrays)
        if absent:
            raise InputError("hand recordings lack arrays", seen=sorted(absent), hint=str(path))
        joints = torch.from_numpy(arrays["joints_mm"].astype(np.float64)) * 1e-3
        names = arrays["clips"][arrays["clip"]]
        left = torch.from_numpy(arrays["side"] == 0)
    return HandRecordings(joints, left, np.array([str(name).split("/")[0] for name in names]), names)


def mirrored(joints: Float[Tensor, "*hand 5 5 3"]) -> Float[Tensor, "*hand 5 5 3"]:
    """The hand seen in a mirror: a right hand becomes a left one."""
    return joints * torch.tensor([-1.0, 1.0, 1.0]).to(joints)


def left_hand_rotations(joints: Float[Tensor, "hand 5 5 3"]) -> Float[Tensor, "hand 15 3 3"]:
    """Rotations of the 15 finger joints of left hands, in SMPL-X order and rest frames.

    Knuckles turn by the shortest way to the direction of the bone, corrected so that the plane of a bent finger is
    kept; the two other joints of a finger are hinges. The base of the thumb takes direction and bending plane alike.
    """
    palm = _palm_frame(joints)
    points = joints @ palm[:, None]  # coordinates in the frame of the hand
    bones = points[:, :, 1:] - points[:, :, :-1]
    bones = bones / bones.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    result: dict[str, list[Tensor]] = {}
    for name in FINGERS:
        chain = bones[:, LEAP_FINGERS.index(name)][:, 1:]
        if name == "thumb":
            rest, hinge = (torch.tensor(vector).to(joints) for vector in (_THUMB_REST, _THUMB_HINGE))
            rest = rest / rest.norm()
            hinge = hinge - (hinge @ rest) * rest
            hinge = hinge / hinge.norm()
        else:
            fan = _FAN_RAD[name]
            rest = torch.tensor((np.cos(fan), 0.0, np.sin(fan))).to(joints)
            hinge = torch.tensor((np.sin(fan), 0.0, -np.cos(fan))).to(joints)
        result[name] = _finger_rotations(chain, rest, hinge)
    return torch.stack([turn for name in FINGERS for turn in result[name]], dim=1)


def _palm_frame(joints: Float[Tensor, "hand 5 5 3"]) -> Float[Tensor, "hand 3 3"]:
    """Columns: along the middle metacarpal, out of the back of the hand, to the side of the thumb (left hands)."""
    middle, index, pinky = (LEAP_FINGERS.index(name) for name in ("middle", "index", "pinky"))
    x = joints[:, middle, 1] - joints[:, middle, 0]
    x = x / x.norm(dim=-1, keepdim=True)
    z = joints[:, index, 1] - joints[:, pinky, 1]
    z = z - (z * x).sum(-1, keepdim=True) * x
    z = z / z.norm(dim=-1, keepdim=True)
    return torch.stack((x, torch.linalg.cross(z, x, dim=-1), z), dim=-1)


def _finger_rotations(
    chain: Float[Tensor, "hand 3 3"], rest: Float[Tensor, "3"], hinge: Float[Tensor, "3"]
) -> list[Float[Tensor, "hand 3 3"]]:
    first, second, third = chain.unbind(dim=1)
    swing = _shortest_turn(rest.expand_as(first), first)
    axis = (swing @ hinge[:, None])[..., 0]
    # The plane in which the finger is bent tells its axis the better the more it is bent.
    plane = torch.linalg.cross(first, second, dim=-1) + torch.linalg.cross(second, third, dim=-1)
    plane = plane * torch.sign((plane * axis).sum(-1, keepdim=True))
    blended = axis + _HINGE_GAIN * plane
    blended = blended - (blended * first).sum(-1, keepdim=True) * first
    blended = blended / blended.norm(dim=-1, keepdim=True)
    base = _frame(first, blended) @ _frame(rest, hinge).T
    return [base, *(exp_so3(_bend(a, b, blended)[..., None] * hinge) for a, b in ((first, second), (second, third)))]


def _bend(a: Tensor, b: Tensor, axis: Tensor) -> Float[Tensor, "hand"]:
    """Signed angle from a to b about an axis."""
    return torch.atan2((torch.linalg.cross(a, b, dim=-1) * axis).sum(-1), (a * b).sum(-1))


def _frame(direction: Tensor, hinge: Tensor) -> Float[Tensor, "*hand 3 3"]:
    return torch.stack((direction, hinge, torch.linalg.cross(direction, hinge, dim=-1)), dim=-1)


def _shortest_turn(a: Float[Tensor, "hand 3"], b: Float[Tensor, "hand 3"]) -> Float[Tensor, "hand 3 3"]:
    axis = torch.linalg.cross(a, b, dim=-1)
    sine = axis.norm(dim=-1, keepdim=True)
    return exp_so3(axis / sine.clamp_min(1e-12) * torch.atan2(sine, (a * b).sum(-1, keepdim=True)))
