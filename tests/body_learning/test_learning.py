"""Learning recovers what generated the registrations: spaces, joints, weights, correctives; posing obeys its laws."""

import math

import pytest
import torch
from torch import Tensor

from vitruvian.bodies.skeletons import SMPLX, Skeleton
from vitruvian.bodies.skinning import blend_skin, forward_kinematics, pose_features
from vitruvian.body_learning.learning import (
    PosedRegistrations,
    fit_joint_regressor,
    fit_pose_correctives,
    fit_skinning_weights,
    influence_from_weights,
    principal_components,
    project,
    rest_offsets,
)
from vitruvian.body_learning.registration_posing import RegistrationPoser, TwistSegment, make_poser, twist_angle
from vitruvian.body_learning.rest_pose import local_rotations, t_pose_joints, t_pose_rotations
from vitruvian.body_learning.training_poses import axis_turn, mirror, pose_of, random_rotations
from vitruvian.errors import InputError

pytest.importorskip("scipy")

ARM = Skeleton(("root", "elbow", "wrist"), (-1, 0, 1), ())
ARM_JOINTS = torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.0, 0.0], [0.6, 0.0, 0.0]], dtype=torch.float64)


def tube(rings: int = 25, around: int = 10, length: float = 0.8, radius: float = 0.05) -> tuple[Tensor, Tensor]:
    """A tube along x and its triangles."""
    x = torch.linspace(-0.1, length - 0.1, rings, dtype=torch.float64)
    angle = torch.arange(around, dtype=torch.float64) * 2 * math.pi / around
    circle = radius * torch.stack((angle.cos(), angle.sin()), dim=-1)
    vertices = torch.cat((x[:, None, None].expand(-1, around, 1), circle.expand(rings, -1, -1)), dim=-1)
    a = torch.arange(rings - 1)[:, None] * around + torch.arange(around)
    b = torch.arange(rings - 1)[:, None] * around + (torch.arange(around) + 1) % around
    faces = torch.cat((torch.stack((a, a + around, b), -1), torch.stack((b, a + around, b + around), -1)))
    return vertices.flatten(0, 1), faces.reshape(-1, 3)


def arm_weights(vertices: Tensor) -> Tensor:
    elbow = ((vertices[:, 0] - 0.22) / 0.16).clamp(0, 1)
    wrist = ((vertices[:, 0] - 0.55) / 0.10).clamp(0, 1)
    return torch.stack((1 - elbow, elbow - wrist, wrist), dim=1)


def arm_poses(count: int, generator: torch.Generator) -> Tensor:
    R = torch.eye(3, dtype=torch.float64).repeat(count, 3, 1, 1)
    for joint in (1, 2):
        angles = torch.rand(count, 3, generator=generator, dtype=torch.float64) * 2 - 1
        R[:, joint] = axis_turn("z", angles[:, 0]) @ axis_turn("y", angles[:, 1]) @ axis_turn("x", angles[:, 2])
    return R


def skinned(rest: Tensor, weights: Tensor, R: Tensor) -> PosedRegistrations:
    joints = ARM_JOINTS.expand(len(R), 3, 3)
    G, t = forward_kinematics(ARM, R, joints)
    bodies = rest.expand(len(R), *rest.shape[-2:])
    return PosedRegistrations(bodies, joints, R, blend_skin(bodies, weights, G, t, joints))


@pytest.fixture
def tube_poser() -> RegistrationPoser:
    vertices, faces = tube()
    segment = TwistSegment("elbow", "wrist", carries_far=True)
    return make_poser(ARM, faces, arm_weights(vertices), vertices, ARM_JOINTS, segments=[segment], iterations=6)


# Shape spaces


def test_principal_components_recover_the_space_and_order_it(generator: torch.Generator) -> None:
    truth = torch.linalg.qr(torch.randn(90, 3, generator=generator, dtype=torch.float64)).Q
    scales = torch.tensor([0.3, 0.1, 0.03], dtype=torch.float64)
    samples = (torch.randn(500, 3, generator=generator, dtype=torch.float64) * scales) @ truth.T
    space = principal_components(samples.unflatten(1, (30, 3)) + 1.5, 3)
    assert torch.allclose(space.dirs.flatten(0, 1).norm(dim=0), scales, rtol=0.1)
    assert (space.explained.diff() < 0).all()
    torch.testing.assert_close(space.explained.sum(), torch.tensor(1.0, dtype=torch.float64))
    rebuilt = space.mean + torch.einsum("ns,vks->nvk", project(space, samples.unflatten(1, (30, 3)) + 1.5), space.dirs)
    torch.testing.assert_close(rebuilt, samples.unflatten(1, (30, 3)) + 1.5)


def test_coefficients_of_the_registrations_have_unit_variance(generator: torch.Generator) -> None:
    samples = torch.randn(300, 20, 3, generator=generator, dtype=torch.float64)
    coefficients = project(space := principal_components(samples, 5), samples)
    assert space.dirs.shape == (20, 3, 5)
    torch.testing.assert_close(coefficients.std(0), torch.ones(5, dtype=torch.float64))


def test_principal_components_refuse_bad_registrations(generator: torch.Generator) -> None:
    samples = torch.randn(5, 4, 3, generator=generator)
    with pytest.raises(InputError, match="too few registrations"):
        principal_components(samples, 5)
    samples[2, 1, 0] = math.nan
    with pytest.raises(InputError, match="not finite"):
        principal_components(samples, 2)


# Joints


def test_joint_regressor_is_sparse_convex_and_finds_joints_of_new_bodies(generator: torch.Generator) -> None:
    vertices, _ = tube()
    scale = 1 + 0.2 * torch.randn(60, 1, 3, generator=generator, dtype=torch.float64)
    bodies, joints = vertices * scale, ARM_JOINTS * scale
    regressor = fit_joint_regressor(bodies[:40], joints[:40], num_candidates=80)
    assert (regressor >= 0).all()
    torch.testing.assert_close(regressor.sum(1), torch.ones(3, dtype=torch.float64))
    assert ((regressor > 0).sum(1) <= 80).all()
    error = (torch.einsum("jv,nvk->njk", regressor, bodies[40:]) - joints[40:]).norm(dim=-1)
    assert error.max() < 1e-3


def test_joint_regressor_uses_only_allowed_vertices(generator: torch.Generator) -> None:
    vertices, _ = tube()
    bodies = vertices * (1 + 0.2 * torch.randn(30, 1, 3, generator=generator, dtype=torch.float64))
    allowed = torch.zeros(3, len(vertices), dtype=torch.bool)
    allowed[:, ::2] = True
    regressor = fit_joint_regressor(bodies, ARM_JOINTS.expand(30, 3, 3), allowed=allowed)
    assert (regressor[:, 1::2] == 0).all()


# Skinning weights and correctives


def test_skinning_weights_are_recovered_from_posed_meshes(generator: torch.Generator) -> None:
    rest, _ = tube()
    truth = arm_weights(rest)
    batch = skinned(rest, truth, arm_poses(60, generator))
    start = torch.full_like(truth, 1 / 3)
    weights = fit_skinning_weights(ARM, [batch], start, max_bones=3, prior=1e-4, steps=4000)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones_like(weights[:, 0]))
    assert (weights - truth).abs().max() < 0.02


def test_bones_without_initial_weight_stay_without(generator: torch.Generator) -> None:
    rest, _ = tube()
    truth = arm_weights(rest)
    start = truth.clone()
    start[:, 2] = 0
    start /= start.sum(1, keepdim=True).clamp_min(1e-9)
    start[start.sum(1) == 0, 1] = 1
    weights = fit_skinning_weights(ARM, [skinned(rest, truth, arm_poses(20, generator))], start, max_bones=3)
    assert (weights[:, 2] == 0).all()


def test_correctives_are_recovered_and_leave_the_rest_pose(generator: torch.Generator) -> None:
    rest, _ = tube()
    weights = arm_weights(rest)
    R = arm_poses(200, generator)
    truth = 0.01 * torch.randn(len(rest), 2, 3, 9, generator=generator, dtype=torch.float64)
    features = pose_features(R).unflatten(1, (2, 9))
    offsets = torch.einsum("njf,vjkf->nvk", features, truth)
    plain = skinned(rest, weights, R)
    moved = skinned(rest, weights, R).vertices
    G, t = forward_kinematics(ARM, R, plain.rest_joints)
    moved = blend_skin(rest + offsets, weights, G, t, plain.rest_joints)
    batch = PosedRegistrations(plain.rest, plain.rest_joints, R, moved)
    influence = torch.tensor([2, 1]).expand(len(rest), 2)
    learnt = fit_pose_correctives(ARM, [batch], weights, influence, ridge=1e-8)
    rebuilt = torch.einsum("njf,vjkf->nvk", features[:, [1, 0]], learnt.dirs.double())
    # The damping of nearly singular skinning costs a few percent at the bent places.
    assert (rebuilt - offsets).square().mean().sqrt() < 0.1 * offsets.square().mean().sqrt()


def test_rest_offsets_vanish_where_skinning_is_right(generator: torch.Generator) -> None:
    rest, _ = tube()
    batch = skinned(rest, arm_weights(rest), arm_poses(5, generator))
    assert rest_offsets(ARM, batch, arm_weights(rest)).abs().max() < 1e-12


def test_influence_names_the_strongest_joints_without_the_root() -> None:
    weights = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.1, 0.3, 0.6]])
    influence = influence_from_weights(weights, slots=2)
    assert influence.tolist() == [[1, -1], [-1, -1], [2, 1]]
    together = influence_from_weights(weights, always=[[], [2], []], slots=2)
    assert together.tolist() == [[2, 1], [-1, -1], [2, 1]]


# Posing of registrations


def test_identity_leaves_the_registration(tube_poser: RegistrationPoser) -> None:
    rest = tube()[0][None]
    posed = tube_poser.pose(rest, ARM_JOINTS[None], torch.eye(3, dtype=torch.float64).expand(1, 3, 3, 3))
    torch.testing.assert_close(posed, rest, atol=1e-9, rtol=0)


def test_turning_the_root_turns_everything(tube_poser: RegistrationPoser, generator: torch.Generator) -> None:
    rest = tube()[0].expand(4, -1, -1)
    joints = ARM_JOINTS.expand(4, 3, 3)
    R = arm_poses(4, generator)
    Q = axis_turn("y", torch.tensor(0.7, dtype=torch.float64)) @ axis_turn("x", torch.tensor(-0.4, dtype=torch.float64))
    turned = R.clone()
    turned[:, 0] = Q @ R[:, 0]
    expected = tube_poser.pose(rest, joints, R) @ Q.T
    torch.testing.assert_close(tube_poser.pose(rest, joints, turned), expected, atol=1e-9, rtol=0)


def test_twist_is_shared_along_the_bone_and_keeps_the_thickness(tube_poser: RegistrationPoser) -> None:
    rest = tube()[0][None]
    R = torch.eye(3, dtype=torch.float64).repeat(1, 3, 1, 1)
    R[0, 2] = axis_turn("x", torch.tensor(math.radians(80), dtype=torch.float64))
    posed = tube_poser.pose(rest, ARM_JOINTS[None], R)
    middle = (rest[0, :, 0] - 0.45).abs() < 0.02
    turned = torch.atan2(posed[0, middle, 2], posed[0, middle, 1]) - torch.atan2(rest[0, middle, 2], rest[0, middle, 1])
    turned = torch.remainder(turned + math.pi, 2 * math.pi) - math.pi
    assert (turned.rad2deg() - 40).abs().max() < 8
    thickness = posed[0, :, 1:].norm(dim=-1)
    inner = (rest[0, :, 0] > 0.05) & (rest[0, :, 0] < 0.65)
    assert thickness[inner].min() > 0.92 * 0.05


def test_twist_angle_of_swing_and_twist(generator: torch.Generator) -> None:
    axis = torch.nn.functional.normalize(torch.randn(20, 3, generator=generator, dtype=torch.float64), dim=-1)
    angle = (torch.rand(20, generator=generator, dtype=torch.float64) - 0.5) * 5
    from vitruvian.geometry.rotations import axis_angle_to_matrix

    across = torch.linalg.cross(axis, torch.randn(20, 3, generator=generator, dtype=torch.float64), dim=-1)
    swing = axis_angle_to_matrix(torch.nn.functional.normalize(across, dim=-1) * 1.1)
    torch.testing.assert_close(twist_angle(swing @ axis_angle_to_matrix(axis * angle[:, None]), axis), angle)


# Rest pose and training poses


def a_pose() -> tuple[Tensor, Tensor]:
    """Joints of an invented body with lowered, bent arms, and its finger tips."""
    R = pose_of(
        {
            "left_shoulder": (("y", -15), ("z", -48), ("x", 20)),
            "left_elbow": (("y", -30),),
            "left_wrist": (("z", 12), ("x", -25)),
            "left_hip": (("z", 6),),
            **{
                f"left_{finger}{k}": (("z", -15),) for finger in ("index", "middle", "ring", "pinky") for k in (1, 2, 3)
            },
        }
    )
    from vitruvian.bodies.open_body import open_body

    body = open_body()
    posed = body.with_shape().with_pose(R)
    fingers = ("index", "middle", "pinky", "ring", "thumb")
    ids = torch.tensor([body.vertex_ids[f"{side}_{finger}_tip"] for side in ("left", "right") for finger in fingers])
    return posed.joints[None], posed.points(ids)[None]


def test_t_pose_lays_the_arms_along_x_and_the_legs_down() -> None:
    joints, tips = a_pose()
    after = t_pose_joints(joints, t_pose_rotations(joints, tips))[0]
    for side, sign in (("left", 1.0), ("right", -1.0)):
        shoulder, elbow, wrist, middle, hip, ankle = (
            after[SMPLX.index(f"{side}_{name}")] for name in ("shoulder", "elbow", "wrist", "middle1", "hip", "ankle")
        )
        for near, far in ((shoulder, elbow), (elbow, wrist), (wrist, middle)):
            direction = torch.nn.functional.normalize(far - near, dim=0)
            assert direction[0] * sign > 0.9999
        assert torch.nn.functional.normalize(hip - ankle, dim=0)[1] > 0.999


def test_world_rotations_of_the_t_pose_are_rotations() -> None:
    joints, tips = a_pose()
    G = t_pose_rotations(joints, tips)
    torch.testing.assert_close(G @ G.mT, torch.eye(3).expand_as(G), atol=1e-5, rtol=0)
    assert (torch.linalg.det(G) > 0.99).all()
    R = local_rotations(G)
    torch.testing.assert_close(forward_kinematics(SMPLX, R, joints)[0], G, atol=1e-5, rtol=0)


def test_random_poses_bend_the_right_way(generator: torch.Generator) -> None:
    R = random_rotations(50, generator=generator)
    torch.testing.assert_close(R @ R.mT, torch.eye(3).expand_as(R), atol=1e-5, rtol=0)
    knee = R[:, SMPLX.index("left_knee")] @ torch.tensor([0.0, -1.0, 0.0])
    assert knee[:, 2].max() < 0.1  # the shank swings backwards
    elbow = R[:, SMPLX.index("right_elbow")] @ torch.tensor([-1.0, 0.0, 0.0])
    assert elbow[:, 2].min() > -0.1  # the forearm swings forwards


def test_mirror_is_an_involution_and_swaps_turns_about_y() -> None:
    turn = axis_turn("y", torch.tensor(0.3)) @ axis_turn("x", torch.tensor(0.5))
    torch.testing.assert_close(mirror(mirror(turn)), turn)
    torch.testing.assert_close(mirror(turn), axis_turn("y", torch.tensor(-0.3)) @ axis_turn("x", torch.tensor(0.5)))
