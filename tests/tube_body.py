"""A body of tubes around the bones of SMPL-X: small, made in milliseconds, and enough where looks do not matter."""

import torch
from torch import Tensor

from vitruvian.bodies.correctives import PoseCorrectives
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.skeletons import SMPLX

# Rest positions (x, y, z) of one half of the body; right joints mirror left ones.
_TRUNK = {
    "pelvis": (0, 0, 0), "spine1": (0, 0.11, -0.01), "spine2": (0, 0.24, 0), "spine3": (0, 0.3, 0.01),
    "neck": (0, 0.5, -0.02), "head": (0, 0.6, 0.03), "jaw": (0, 0.6, 0.05),
}  # fmt: skip
_LEFT = {
    "hip": (0.09, -0.09, 0), "knee": (0.11, -0.5, 0), "ankle": (0.1, -0.92, -0.03), "foot": (0.11, -0.97, 0.09),
    "collar": (0.06, 0.41, 0), "shoulder": (0.17, 0.42, -0.02), "elbow": (0.43, 0.42, -0.04),
    "wrist": (0.68, 0.42, -0.03), "eye": (0.03, 0.68, 0.09),
}  # fmt: skip
_FINGER_Z = {"index": 0.03, "middle": 0.01, "ring": -0.01, "pinky": -0.03, "thumb": 0.05}


def rest_joints() -> Tensor:
    rows = []
    for name in SMPLX.names:
        side, _, part = name.partition("_")
        if name in _TRUNK:
            rows.append(_TRUNK[name])
            continue
        sign = 1 if side == "left" else -1
        if part in _LEFT:
            x, y, z = _LEFT[part]
        else:
            x, y, z = 0.75 + 0.03 * int(part[-1]), 0.42, _FINGER_Z[part[:-1]] - 0.03
        rows.append((sign * x, y, z))
    return torch.tensor(rows, dtype=torch.float64)


def tube_body(
    *, seed: int = 0, num_shape: int = 10, num_expression: int = 6, dtype: torch.dtype = torch.float32, sides: int = 6
) -> BodyModel:
    """SMPL-X skeleton, up to four influences per vertex, random smooth shapes, correctives and expressions."""
    generator = torch.Generator().manual_seed(seed)
    joints = rest_joints()
    vertices, faces, weights = [], [], []
    angle = torch.arange(sides) * (2 * torch.pi / sides)
    for joint, parent in enumerate(SMPLX.parents):
        start = joints[parent] if parent >= 0 else joints[joint] - torch.tensor([0.0, 0.08, 0.0], dtype=torch.float64)
        along = joints[joint] - start
        length = along.norm().clamp_min(1e-3)
        along = along / length
        side = torch.linalg.cross(along, torch.tensor([0.3, 0.1, 0.95], dtype=torch.float64))
        side = side / side.norm()
        up = torch.linalg.cross(along, side)
        radius = float(length) * 0.22 + 0.012
        first = sum(map(len, vertices))
        for k in range(4):
            share = k / 3
            ring = start + along * length * share
            ring = ring + radius * (angle.cos()[:, None] * side + angle.sin()[:, None] * up)
            vertices.append(ring)
            weight = torch.zeros(sides, len(SMPLX), dtype=torch.float64)
            weight[:, max(parent, 0)] += 1 - 0.5 * share
            weight[:, joint] += 0.5 * share
            weights.append(weight)
        for k in range(3):
            for a in range(sides):
                b = (a + 1) % sides
                p, q = first + k * sides, first + (k + 1) * sides
                faces += [[p + a, p + b, q + b], [p + a, q + b, q + a]]
    template = torch.cat(vertices)
    number = len(template)
    shape = 0.004 * torch.randn(1, 3, num_shape, generator=generator, dtype=torch.float64) * template[:, :, None]
    expression = 0.002 * torch.randn(number, 3, num_expression, generator=generator, dtype=torch.float64)
    expression[template[:, 1] < 0.55] = 0
    # Joints are means of the nearest vertices.
    nearest = torch.cdist(joints, template).topk(sides, largest=False).indices
    regressor = torch.zeros(len(joints), number, dtype=torch.float64).scatter_(1, nearest, 1 / sides)
    correctives = 0.002 * torch.randn(number, 3, 9 * (len(SMPLX) - 1), generator=generator, dtype=torch.float64)
    return BodyModel(
        family="open",
        gender="neutral",
        skeleton=SMPLX,
        template=template,
        shape_dirs=shape,
        expression_dirs=expression,
        correctives=PoseCorrectives.from_dense(correctives),
        joint_template=regressor @ template,
        joint_shape_dirs=torch.einsum("jv,vks->jks", regressor, shape),
        joint_expression_dirs=torch.einsum("jv,vks->jks", regressor, expression),
        joint_regressor=regressor,
        skinning_weights=torch.cat(weights),
        faces=torch.tensor(faces),
        digest="0" * 16,
    ).to(dtype=dtype)
