"""glTF: an independent reader of the file poses the same mesh as the body model."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from tests.exports.gltf_reader import GltfReader
from tests.fitted_people import fitted_people
from tests.tube_body import tube_body
from vitruvian.bodies.model import BodyModel
from vitruvian.errors import InputError, OutputError
from vitruvian.exports.gltf import SurfaceLayout, gltf_bytes, strongest_influences, write_gltf


@pytest.fixture
def body() -> BodyModel:
    return tube_body()


@pytest.mark.parametrize("people", [1, 3])
def test_posed_mesh_is_that_of_the_body_model(body: BodyModel, people: int) -> None:
    fits = fitted_people(body, people)
    posed = fits.pose(body)
    reader = GltfReader(gltf_bytes(posed, [f"p{k}" for k in range(people)]))
    expected = posed.vertices.double().numpy() * [1, -1, -1]
    expected[..., 1] -= expected[..., 1].min()
    for row, node in enumerate(reader.mesh_nodes()):
        error = np.linalg.norm(reader.posed(node) - expected[row], axis=-1)
        assert error.max() < 2e-5


def test_people_stand_upright_on_the_ground(body: BodyModel) -> None:
    fits = fitted_people(body, 2, upright=True)
    reader = GltfReader(gltf_bytes(fits.pose(body), ["a", "b"]))
    points = np.concatenate([reader.posed(node) for node in reader.mesh_nodes()])
    assert points[:, 1].min() == pytest.approx(0, abs=1e-5)
    names = {node.get("name"): matrix for node, matrix in zip(reader.json["nodes"], reader.world(), strict=True)}
    assert names["a_head"][1, 3] > names["a_pelvis"][1, 3] + 0.4 > names["a_left_foot"][1, 3] + 1.0


def test_camera_of_the_photograph_sees_what_the_camera_saw(body: BodyModel) -> None:
    fits = fitted_people(body, 1)
    posed = fits.pose(body)
    reader = GltfReader(gltf_bytes(posed, ["p"], camera=fits[0].camera))
    index = next(i for i, node in enumerate(reader.json["nodes"]) if "camera" in node)
    to_camera = np.linalg.inv(reader.world()[index])
    points = reader.posed(reader.mesh_nodes()[0]) @ to_camera[:3, :3].T + to_camera[:3, 3]
    lens = reader.json["cameras"][0]["perspective"]
    half = np.tan(lens["yfov"] / 2)
    x = points[:, 0] / -points[:, 2] / half / lens["aspectRatio"]
    y = points[:, 1] / -points[:, 2] / half
    width, height = fits[0].camera.image_size.tolist()
    pixels = np.stack(((x + 1) / 2 * width, (1 - y) / 2 * height), axis=-1)
    expected = fits[0].camera.project(posed.vertices[0]).numpy()
    assert np.abs(pixels - expected).max() < 0.05


def test_only_the_strongest_influences_remain_and_sum_to_one(body: BodyModel) -> None:
    weights = torch.rand(body.num_vertices, body.num_joints, generator=torch.Generator().manual_seed(0))
    many = replace(body, skinning_weights=weights / weights.sum(-1, keepdim=True))
    for count, columns in ((4, 4), (6, 8)):
        joints, kept = strongest_influences(many, count)
        assert joints.shape == kept.shape == (body.num_vertices, columns)
        assert (kept > 0).sum(-1).max() == count
        np.testing.assert_allclose(kept.sum(-1), 1, atol=1e-12)
        ratio = kept[:, 0] / kept[:, 1]
        row = np.arange(body.num_vertices)
        original = many.skinning_weights.numpy()
        np.testing.assert_allclose(ratio, original[row, joints[:, 0]] / original[row, joints[:, 1]], rtol=1e-5)


def test_more_influences_come_closer(body: BodyModel) -> None:
    weights = torch.rand(body.num_vertices, body.num_joints, generator=torch.Generator().manual_seed(0)) ** 30
    many = replace(body, skinning_weights=weights / weights.sum(-1, keepdim=True))
    posed = fitted_people(many, 1).pose(many)
    expected = posed.vertices[0].double().numpy() * [1, -1, -1]
    expected[..., 1] -= expected[..., 1].min()
    errors = []
    for count in (4, 8):
        reader = GltfReader(gltf_bytes(posed, ["p"], max_influences=count))
        errors.append(np.linalg.norm(reader.posed(reader.mesh_nodes()[0]) - expected, axis=-1).mean())
    assert errors[1] < errors[0] / 2


def test_expressions_are_blend_shapes(body: BodyModel) -> None:
    fits = fitted_people(body, 1)
    reader = GltfReader(gltf_bytes(fits.pose(body), ["p"]))
    mesh = reader.json["meshes"][0]
    np.testing.assert_allclose(mesh["weights"], fits.params.expression[0].tolist(), atol=1e-7)
    assert mesh["extras"]["targetNames"][0] == "expression_00"
    for k, target in enumerate(mesh["primitives"][0]["targets"]):
        np.testing.assert_allclose(reader.accessor(target["POSITION"]), body.expression_dirs[..., k].numpy(), atol=2e-6)


def test_texture_seams_split_vertices(body: BodyModel) -> None:
    corners = body.faces.numel()
    uv = torch.rand(corners, 2, generator=torch.Generator().manual_seed(0))
    textured = replace(body, uv=uv, uv_faces=torch.arange(corners).reshape(-1, 3))
    layout = SurfaceLayout.of(textured, 4)
    np.testing.assert_array_equal(layout.vertex_of[layout.faces], body.faces.numpy())
    assert layout.uv is not None
    np.testing.assert_allclose(layout.uv[layout.faces].reshape(-1, 2), uv.numpy() * [1, -1] + [0, 1], atol=1e-7)


def test_other_readers_open_the_file(body: BodyModel, tmp_path: Path) -> None:
    path = write_gltf(fitted_people(body, 2), body, tmp_path / "two.glb")
    scene = trimesh.load(io.BytesIO(path.read_bytes()), file_type="glb")
    assert sum(len(mesh.faces) for mesh in scene.geometry.values()) == 2 * len(body.faces)


def test_people_without_a_fit_are_left_out(body: BodyModel, tmp_path: Path) -> None:
    fits = replace(fitted_people(body, 3), status=("converged", "failed", "stalled"))
    reader = GltfReader(write_gltf(fits, body, tmp_path / "a.glb").read_bytes())
    assert [reader.json["nodes"][n]["name"] for n in reader.mesh_nodes()] == ["person_0_mesh", "person_2_mesh"]
    with pytest.raises(InputError, match="no fit is usable"):
        write_gltf(replace(fits, status=("failed",) * 3), body, tmp_path / "b.glb")
    assert not (tmp_path / "b.glb").exists()


def test_unwritable_place(body: BodyModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_gltf(fitted_people(body, 1), body, tmp_path / "file" / "a.glb")
