"""Body parameters: axis-angle blocks there and back, batch rules, and conversion between families."""

import math

import pytest
import torch
from torch import Tensor

from vitruvian.bodies.params import BodyParams, convert_rotations
from vitruvian.bodies.skeletons import FLAME, MANO_LEFT, SMPL, SMPLH, SMPLX, Skeleton
from vitruvian.errors import InputError, ShapeError
from vitruvian.geometry.rotations import exp_so3


def random_blocks(skeleton: Skeleton, *batch: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    blocks = {}
    for block in skeleton.blocks:
        shape = (*batch, 3) if len(block) == 1 else (*batch, len(block), 3)
        vectors = torch.randn(*shape, generator=generator, dtype=torch.float64)
        norms = vectors.norm(dim=-1, keepdim=True)
        blocks[block.name] = vectors * (norms.clamp(max=0.99 * math.pi) / norms)
    return blocks


@pytest.mark.parametrize("skeleton", [SMPL, SMPLH, SMPLX, MANO_LEFT, FLAME])
@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_blocks_come_back_as_they_went_in(skeleton: Skeleton, batch: tuple[int, ...]) -> None:
    blocks = random_blocks(skeleton, *batch)
    params = BodyParams.from_axis_angle_blocks(skeleton, **blocks)
    assert params.rotations.shape == (*batch, len(skeleton), 3, 3)
    assert params.betas.shape == (*batch, 0)
    torch.testing.assert_close(params.axis_angle_blocks(skeleton), blocks)
    flat = {name: value.flatten(len(batch)) for name, value in blocks.items()}
    torch.testing.assert_close(BodyParams.from_axis_angle_blocks(skeleton, **flat).rotations, params.rotations)


def test_blocks_left_out_are_identity_and_shared_values_are_repeated() -> None:
    body_pose = random_blocks(SMPLX, 4)["body_pose"]
    params = BodyParams.from_axis_angle_blocks(SMPLX, body_pose=body_pose, betas=torch.ones(10, dtype=torch.float64))
    torch.testing.assert_close(params.rotations[:, 22:], torch.eye(3, dtype=torch.float64).expand(4, 33, 3, 3))
    torch.testing.assert_close(params.rotations[:, 1:22], exp_so3(body_pose))
    assert params.betas.shape == (4, 10)
    assert params[2].rotations.shape == (55, 3, 3)
    assert not params.transl.any()


def test_wrong_blocks_are_named() -> None:
    with pytest.raises(InputError, match=r"unknown pose block.*hand_poze"):
        BodyParams.from_axis_angle_blocks(SMPLX, hand_poze=torch.zeros(45))
    with pytest.raises(ShapeError, match=r"body_pose has the wrong shape; seen: \(2, 69\)"):
        BodyParams.from_axis_angle_blocks(SMPLX, body_pose=torch.zeros(2, 69))
    with pytest.raises(ShapeError, match=r"global_orient \(2, 1\), body_pose \(2,\)"):
        BodyParams.from_axis_angle_blocks(SMPLX, global_orient=torch.zeros(2, 1, 3), body_pose=torch.zeros(2, 63))
    with pytest.raises(ShapeError, match="batch shapes differ"):
        BodyParams.from_axis_angle_blocks(SMPLX, body_pose=torch.zeros(2, 63), betas=torch.zeros(3, 10))
    with pytest.raises(InputError, match="no pose block"):
        BodyParams.from_axis_angle_blocks(SMPLX)
    with pytest.raises(ShapeError, match=r"\(\.\.\., 52, 3, 3\)"):
        BodyParams.from_axis_angle_blocks(SMPLX, transl=torch.zeros(3)).axis_angle_blocks(SMPLH)


def test_families_share_rotations_by_joint_name() -> None:
    params = BodyParams.from_axis_angle_blocks(SMPLX, **random_blocks(SMPLX, 2), betas=torch.ones(2, 10).double())
    smplh = params.to_skeleton(SMPLX, SMPLH)
    for name in SMPLH.names:
        torch.testing.assert_close(smplh.rotations[:, SMPLH.index(name)], params.rotations[:, SMPLX.index(name)])
    assert smplh.betas.shape == (2, 0)
    torch.testing.assert_close(smplh.transl, params.transl)
    smpl = convert_rotations(smplh.rotations, SMPLH, SMPL)
    torch.testing.assert_close(smpl[:, :22], params.rotations[:, :22])
    torch.testing.assert_close(smpl[:, 22:], torch.eye(3, dtype=torch.float64).expand(2, 2, 3, 3))
    back = convert_rotations(smplh.rotations, SMPLH, SMPLX)
    torch.testing.assert_close(back[:, 25:], params.rotations[:, 25:])
    torch.testing.assert_close(back[:, 22:25], torch.eye(3, dtype=torch.float64).expand(2, 3, 3, 3))
    assert params.to_skeleton(SMPLX, SMPLX) is params


def test_poses_of_other_roots_are_not_converted() -> None:
    params = BodyParams.from_axis_angle_blocks(SMPLX, transl=torch.zeros(3))
    for target in (MANO_LEFT, FLAME):
        with pytest.raises(InputError, match="same root only; seen: pelvis"):
            params.to_skeleton(SMPLX, target)
