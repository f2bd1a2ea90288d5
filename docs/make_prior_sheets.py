"""Draws the sheets of the learnt priors in docs/images: samples and interpolations of VPoser, samples of hands.

Run from the repository root: python docs/make_prior_sheets.py
"""

import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from vitruvian.bodies.open_body import open_body
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.meshes import Mesh
from vitruvian.geometry.rotations import exp_so3
from vitruvian.priors.pose_spaces import HandPCA
from vitruvian.priors.vposer import VPoser
from vitruvian.view.render import render_meshes, sheet

IMAGES = Path(__file__).parent / "images"
BACKGROUND = (0.96, 0.96, 0.97)
SEED = 0
BODY = open_body()


def vertices_of(rotations: Float[Tensor, "55 3 3"], *, turn_deg: float = 25.0) -> Float[Tensor, "vertex 3"]:
    """The body in a pose, seen a little from the side, in the axes of a camera (y down, z away)."""
    camera = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ exp_so3(torch.tensor([0.0, math.radians(turn_deg), 0.0]))
    return BODY.with_shape().with_pose(rotations).vertices @ camera.T


def tile(
    vertices: Float[Tensor, "vertex 3"], faces: Tensor, *, centre: Tensor, reach: float, size: tuple[int, int]
) -> UInt8[np.ndarray, "height width 4"]:
    """One picture of a mesh around `centre`; `reach` metres fill half the height."""
    width, height = size
    focal = 4.0 * height
    placed = vertices - centre + torch.tensor([0.0, 0.0, 8.0 * reach])
    camera = Camera.from_image_size(width, height, focal_px=focal)
    return render_meshes(Mesh(placed, faces), camera, colors="neutral", background=BACKGROUND, samples=12)


def body_tile(body_pose: Float[Tensor, "21 3 3"]) -> UInt8[np.ndarray, "height width 4"]:
    """One picture of a body pose, all at one scale."""
    rotations = torch.eye(3).repeat(55, 1, 1)
    rotations[1:22] = body_pose
    for side, start in (("left", 25), ("right", 40)):
        hand = HandPCA.learnt(side)
        rotations[start : start + 15] = hand.decode(torch.zeros(1, hand.num_parameters))[0]
    vertices = vertices_of(rotations)
    centre = (vertices.amax(0) + vertices.amin(0)) / 2
    return tile(vertices, BODY.faces, centre=centre, reach=1.02, size=(200, 280))


def hand_tile(left_hand: Float[Tensor, "15 3 3"]) -> UInt8[np.ndarray, "height width 4"]:
    """One picture of a left hand from the side of the palm."""
    rotations = torch.eye(3).repeat(55, 1, 1)
    rotations[0] = exp_so3(torch.tensor([-math.pi / 2, 0.0, 0.0]))
    rotations[25:40] = left_hand
    vertices = vertices_of(rotations)
    hand_joints = [row for row, name in enumerate(BODY.skeleton.names) if row == 20 or 25 <= row < 40]
    of_hand = BODY.skinning_weights[:, hand_joints].sum(1) > 0.5
    faces = BODY.faces[of_hand[BODY.faces].all(1)]
    centre = vertices[of_hand].mean(0)
    return tile(vertices, faces, centre=centre, reach=0.13, size=(220, 220))


@torch.no_grad()
def main() -> None:
    """Draw all three sheets."""
    generator = torch.Generator().manual_seed(SEED)
    vposer = VPoser.learnt()
    samples = torch.randn(24, vposer.settings.latent, generator=generator)
    pictures = [body_tile(pose) for pose in vposer.decode(samples)]
    Image.fromarray(sheet(pictures, columns=8)).save(IMAGES / "vposer_samples.jpg", quality=88)

    pictures = []
    for start, end in samples[:8].reshape(4, 2, -1):
        # On the sphere of the latent's typical length, so that poses in between are as common as the ends.
        way = torch.linspace(0, math.pi / 2, 8)[:, None]
        pictures += [body_tile(pose) for pose in vposer.decode(way.cos() * start + way.sin() * end)]
    Image.fromarray(sheet(pictures, columns=8)).save(IMAGES / "vposer_interpolation.jpg", quality=88)

    hand = HandPCA.learnt("left", num_components=12)
    pictures = [hand_tile(pose) for pose in hand.decode(torch.randn(16, 12, generator=generator))]
    Image.fromarray(sheet(pictures, columns=8)).save(IMAGES / "hand_samples.jpg", quality=88)


if __name__ == "__main__":
    main()
