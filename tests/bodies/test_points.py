"""Points that follow the body without its mesh equal the rows and combinations of the mesh."""

from collections.abc import Callable

import pytest
import torch

from tests.bodies.test_model import every_family, random_params
from vitruvian.bodies.model import BodyModel

Small = Callable[[str], BodyModel]


@every_family
@pytest.mark.parametrize("batch", [(), (4,), (2, 3), (0,)])
def test_points_are_rows_of_the_mesh(small: Small, family: str, batch: tuple[int, ...]) -> None:
    body = small(family)
    posed = body.pose(random_params(body, *batch))
    ids = torch.tensor([39, 0, 5, 5, 17])
    torch.testing.assert_close(posed.points(ids), posed.vertices[..., ids, :], rtol=0, atol=1e-13)
    torch.testing.assert_close(posed.points(body.points(ids)), posed.vertices[..., ids, :], rtol=0, atol=1e-13)


@every_family
def test_regressed_points_are_combinations_of_vertices_and_joints(small: Small, family: str) -> None:
    body = small(family)
    posed = body.pose(random_params(body, 3))
    generator = torch.Generator().manual_seed(5)
    of_vertices = torch.rand(6, 40, generator=generator, dtype=torch.float64)
    of_vertices[of_vertices < 0.8] = 0
    of_joints = torch.rand(6, body.num_joints, generator=generator, dtype=torch.float64)
    of_joints[of_joints < 0.5] = 0
    of_vertices[0], of_joints[0] = 0, 0
    of_joints[0, 2] = 1  # a joint alone
    of_joints[1] = 0  # vertices alone
    expected = of_vertices @ posed.vertices + of_joints @ posed.joints
    for weights in (of_vertices, of_vertices.to_sparse()):
        points = body.regressed_points(weights, of_joints)
        torch.testing.assert_close(posed.points(points), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(posed.points(points)[:, 0], posed.joints[:, 2])
    without_joints = body.regressed_points(of_vertices[1:])
    torch.testing.assert_close(posed.points(without_joints), of_vertices[1:] @ posed.vertices, rtol=0, atol=1e-12)


def test_a_point_of_no_vertex_and_no_joint_stays_at_the_origin(small: Small) -> None:
    body = small("mano")
    posed = body.pose(random_params(body, 2))
    nothing = body.regressed_points(torch.zeros(3, 40, dtype=torch.float64))
    assert posed.points(nothing).shape == (2, 3, 3)
    assert not posed.points(nothing).any()


def test_selected_points_keep_their_order(small: Small) -> None:
    body = small("smplx")
    posed = body.pose(random_params(body, 2))
    ids = torch.tensor([9, 2, 30, 11])
    chosen = torch.tensor([3, 0])
    torch.testing.assert_close(posed.points(body.points(ids).select(chosen)), posed.vertices[:, ids[chosen]])


def test_points_and_mesh_have_the_same_derivatives(small: Small) -> None:
    body = small("smplx")
    params = random_params(body, 2)
    ids = torch.tensor([1, 8, 33])
    gradients = []
    for way in ("points", "mesh"):
        inputs = [x.clone().requires_grad_() for x in (params.rotations, params.betas, params.expression)]
        posed = body.with_shape(inputs[1], inputs[2]).with_pose(inputs[0], params.transl)
        found = posed.points(ids) if way == "points" else posed.vertices[:, ids]
        gradients.append(torch.autograd.grad(found.pow(2).sum(), inputs))
    torch.testing.assert_close(gradients[0], gradients[1])


def test_shape_may_have_fewer_coefficients_than_the_points(small: Small) -> None:
    body = small("smplx")
    posed = body.with_shape(torch.tensor([0.7, -1.0], dtype=torch.float64)).with_pose()
    ids = torch.arange(40)
    torch.testing.assert_close(posed.points(ids), posed.vertices, rtol=0, atol=1e-13)
