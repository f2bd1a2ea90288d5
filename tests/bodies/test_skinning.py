"""Forward kinematics and skinning: laws, and agreement with plain loops over 4×4 matrices."""

import itertools

import pytest
import torch
from torch import Tensor

from vitruvian.bodies.skeletons import FLAME, MANO_LEFT, MANO_RIGHT, SMPL, SMPLH, SMPLX, Skeleton
from vitruvian.bodies.skinning import blend_skin, forward_kinematics, pose_features
from vitruvian.errors import InputError
from vitruvian.geometry.rotations import exp_so3

SKELETONS = {"smpl": SMPL, "smplh": SMPLH, "smplx": SMPLX, "mano": MANO_RIGHT, "flame": FLAME}
every_skeleton = pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@every_skeleton
def test_kinematics_are_products_of_4x4_matrices(skeleton: Skeleton) -> None:
    num_joints = len(skeleton)
    rotations, rest, transl = exp_so3(random(3, num_joints, 3)), random(3, num_joints, 3, seed=1), random(3, 3, seed=2)
    G, positions = forward_kinematics(skeleton, rotations, rest, transl)
    for person in range(3):
        world: list[Tensor] = []
        for joint, parent in enumerate(skeleton.parents):
            local = torch.eye(4, dtype=torch.float64)
            local[:3, :3] = rotations[person, joint]
            local[:3, 3] = rest[person, joint] - (rest[person, parent] if parent >= 0 else -transl[person])
            world.append(local if parent < 0 else world[parent] @ local)
        expected = torch.stack(world)
        torch.testing.assert_close(G[person], expected[:, :3, :3])
        torch.testing.assert_close(positions[person], expected[:, :3, 3])


@every_skeleton
def test_bones_keep_their_lengths(skeleton: Skeleton) -> None:
    rest = random(len(skeleton), 3)
    _, positions = forward_kinematics(skeleton, exp_so3(random(4, len(skeleton), 3, seed=1)), rest)
    parents = torch.tensor(skeleton.parents[1:])
    torch.testing.assert_close(
        (positions[:, 1:] - positions[:, parents]).norm(dim=-1), (rest[1:] - rest[parents]).norm(dim=-1).expand(4, -1)
    )


def test_rotations_and_rest_joints_of_different_batches_broadcast() -> None:
    rotations, rest, transl = exp_so3(random(2, 1, 55, 3)), random(3, 55, 3, seed=1), random(2, 3, 3, seed=2)
    G, positions = forward_kinematics(SMPLX, rotations, rest, transl)
    assert G.shape == (2, 3, 55, 3, 3)
    assert positions.shape == (2, 3, 55, 3)
    full = forward_kinematics(SMPLX, rotations.expand(2, 3, -1, 3, 3), rest.expand(2, -1, -1, -1), transl)
    torch.testing.assert_close((G, positions), full)


@pytest.mark.parametrize("batch", [(), (1,), (7,), (8,), (9,), (17,), (3, 6), (0,)])
def test_skinning_is_the_weighted_sum_over_bones_at_any_batch_size(batch: tuple[int, ...]) -> None:
    points, G = random(*batch, 12, 3), exp_so3(random(*batch, 5, 3, seed=1))
    positions, rest = random(*batch, 5, 3, seed=2), random(*batch, 5, 3, seed=3)
    weights = random(12, 5, seed=4).softmax(-1)
    moved = torch.einsum("...jab,...vjb->...vja", G, points[..., :, None, :] - rest[..., None, :, :])
    moved = moved + positions[..., None, :, :]
    expected = (weights[..., None] * moved).sum(-2)
    torch.testing.assert_close(blend_skin(points, weights, G, positions, rest), expected)


def test_one_template_is_skinned_for_many_poses() -> None:
    points, weights = random(12, 3), random(12, 5, seed=4).softmax(-1)
    G, positions, rest = exp_so3(random(10, 5, 3, seed=1)), random(10, 5, 3, seed=2), random(5, 3, seed=3)
    expected = torch.stack([blend_skin(points, weights, G[k], positions[k], rest) for k in range(10)])
    torch.testing.assert_close(blend_skin(points, weights, G, positions, rest), expected)


def test_pose_features_leave_out_the_root_and_vanish_at_rest() -> None:
    rotations = torch.eye(3, dtype=torch.float64).repeat(2, 4, 1, 1)
    rotations[:, 0] = exp_so3(random(3))
    assert not pose_features(rotations).any()
    rotations[1, 2, 0, 1] = 0.25
    expected = torch.zeros(2, 27, dtype=torch.float64)
    expected[1, 9 + 1] = 0.25
    torch.testing.assert_close(pose_features(rotations), expected)


@pytest.mark.parametrize("skeleton", [*SKELETONS.values(), MANO_LEFT])
def test_trees_are_whole(skeleton: Skeleton) -> None:
    assert skeleton.parents[0] == -1
    assert all(0 <= parent < joint for joint, parent in enumerate(skeleton.parents) if joint)
    assert len(set(skeleton.names)) == len(skeleton.names) == len(skeleton.parents)
    covered = [joint for block in skeleton.blocks for joint in block.joints]
    assert covered == list(range(len(skeleton)))
    assert sorted(joint for level in skeleton.levels for joint in level) == covered
    for joint, chain in enumerate(skeleton.chains):
        assert chain[0] == 0
        assert chain[-1] == joint
        assert all(skeleton.parents[child] == parent for parent, child in itertools.pairwise(chain))


def test_smplx_tree_is_the_published_one() -> None:
    assert SMPLX.parents[:25] == (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15)
    assert SMPLX.parents[25:40] == (20, 25, 26, 20, 28, 29, 20, 31, 32, 20, 34, 35, 20, 37, 38)
    assert SMPLX.parents[40:] == (21, 40, 41, 21, 43, 44, 21, 46, 47, 21, 49, 50, 21, 52, 53)
    assert SMPLX.names[25:28] == ("left_index1", "left_index2", "left_index3")
    assert [len(s) for s in (SMPLX, SMPLH, SMPL, MANO_LEFT, FLAME)] == [55, 52, 24, 16, 5]


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"tail.*pelvis"):
        SMPLX.index("tail")
    with pytest.raises(InputError, match=r"wing_pose.*body_pose"):
        SMPLX.block("wing_pose")
