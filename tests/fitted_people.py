"""Made-up results of a fit: people in random poses before a camera."""

import torch

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.fits import Fits
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.rotations import axis_angle_to_matrix

UPSIDE_DOWN = torch.tensor([torch.pi, 0.0, 0.0])
"""Axis-angle that stands a body, whose y points up, upright before a camera, whose y points down."""


def fitted_people(body: BodyModel, people: int, *, seed: int = 0, upright: bool = False) -> Fits:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    pose = 0.25 * normal(people, body.num_joints, 3)
    root = UPSIDE_DOWN.double().expand(people, 3)
    rotations = axis_angle_to_matrix(pose)
    if upright:
        rotations[:, 1:] = torch.eye(3, dtype=torch.float64)
        rotations[:, 0] = axis_angle_to_matrix(root)
    else:
        rotations[:, 0] = axis_angle_to_matrix(root) @ rotations[:, 0]
    place = torch.stack((1.2 * (torch.arange(people) - (people - 1) / 2), torch.full((people,), 0.1)), dim=-1)
    transl = torch.cat((place.double(), 4 + 0.3 * normal(people, 1)), dim=-1)
    params = BodyParams(
        rotations, 0.8 * normal(people, body.num_shape), 0.8 * normal(people, body.num_expression), transl
    ).to(dtype=body.dtype)
    camera = Camera.from_image_size(320, 240, dtype=body.dtype).map(lambda x: x.expand(people, 2))
    return Fits(
        params=params,
        camera=camera,
        cost=normal(people).abs().float(),
        reprojection_px=normal(people).abs().float(),
        status=("converged",) * people,
        image=tuple(f"photo_{k}.jpg" for k in range(people)),
        person=(0,) * people,
        frame=(0,) * people,
        skeleton=body.skeleton,
        body=f"{body.family}:{body.digest}",
        config='{"solver": "lm"}',
    )
