"""Meshes: normals and areas obey geometry, whatever the mesh."""

import numpy as np
import pytest
import torch
import trimesh

from vitruvian.geometry.meshes import Mesh, face_normals, vertex_normals
from vitruvian.geometry.rotations import axis_angle_to_matrix


def ball(subdivisions: int = 2) -> Mesh:
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions)
    return Mesh(torch.tensor(np.array(mesh.vertices)), torch.tensor(np.array(mesh.faces)))


@pytest.fixture
def rough(generator: torch.Generator) -> Mesh:
    """A closed surface without symmetry."""
    mesh = ball()
    return Mesh(mesh.vertices + 0.05 * torch.randn(*mesh.vertices.shape, generator=generator).double(), mesh.faces)


def test_normals_of_a_sphere_point_away_from_its_centre() -> None:
    """The finer the sphere, the better: twice as many edges halve the error."""
    balls = [ball(subdivisions) for subdivisions in (2, 3, 4)]
    errors = [float((mesh.vertex_normals() - mesh.vertices).norm(dim=-1).max()) for mesh in balls]
    assert errors[0] < 0.03
    assert errors[1] < 0.52 * errors[0]
    assert errors[2] < 0.52 * errors[1]


def test_face_normals_are_twice_the_area_and_close(rough: Mesh) -> None:
    normals = face_normals(rough.vertices, rough.faces)
    areas = trimesh.Trimesh(rough.vertices.numpy(), rough.faces.numpy(), process=False).area_faces
    torch.testing.assert_close(normals.norm(dim=-1) / 2, torch.tensor(np.array(areas)))
    torch.testing.assert_close(normals.sum(0), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)


def test_normals_turn_with_the_mesh_and_do_not_move(rough: Mesh, generator: torch.Generator) -> None:
    R = axis_angle_to_matrix(torch.randn(3, generator=generator, dtype=torch.float64))
    moved = Mesh(2.5 * rough.vertices @ R.T + 3.0, rough.faces)
    torch.testing.assert_close(moved.vertex_normals(), rough.vertex_normals() @ R.T)
    inside_out = Mesh(rough.vertices, rough.faces.flip(-1))
    torch.testing.assert_close(inside_out.vertex_normals(), -rough.vertex_normals())


def test_each_mesh_of_a_batch_stands_alone(rough: Mesh) -> None:
    other = ball()
    together = vertex_normals(torch.stack((rough.vertices, other.vertices)), rough.faces)
    torch.testing.assert_close(together[0], rough.vertex_normals())
    torch.testing.assert_close(together[1], other.vertex_normals())


def test_vertices_without_faces_have_no_normal() -> None:
    mesh = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5]]), torch.tensor([[0, 1, 2]]))
    expected = torch.tensor([[0.0, 0, 1]] * 3 + [[0, 0, 0]])
    torch.testing.assert_close(mesh.vertex_normals(), expected)


def test_a_mesh_changes_precision_and_keeps_its_faces(rough: Mesh) -> None:
    single = rough.to(dtype=torch.float32)
    assert single.vertices.dtype == torch.float32
    assert torch.equal(single.faces, rough.faces)
    assert rough.vertices.dtype == torch.float64
