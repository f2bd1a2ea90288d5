"""Fitted people as binary glTF 2.0: skinned meshes with a named skeleton, expressions as blend shapes.

What is in the file and what was baked. Each person is a mesh in the rest pose of the fitted shape, skinned to the
joints of the family with inverse bind matrices; the fitted pose is on the joint nodes, so the person stands posed when
the file opens and can be posed again. Expressions are morph targets, with the fitted coefficients as weights. The pose
correctives of the fitted pose, which glTF cannot drive, are baked into the rest mesh: the posed mesh is that of the
body model; after posing again they stay those of the fit. Shape is baked, because it moves the joints.

Axes. glTF is y-up, right-handed, in metres, and its cameras look along −z; the camera frame here (OpenCV) is y-down and
looks along +z. A turn of 180° about x takes one to the other, is put on the node above all people, and leaves the
camera of the photograph where glTF cameras stand. People who stand upright in the picture stand upright in the file;
the node is raised so that the lowest point of all people lies on the ground, y = 0.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from vitruvian.bodies.colours import body_colour
from vitruvian.bodies.model import BodyModel, PosedBody
from vitruvian.bodies.saving import licence_of
from vitruvian.bodies.skinning import pose_features
from vitruvian.errors import InputError
from vitruvian.exports.gltf_buffer import ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER, GltfBuffer
from vitruvian.fits import Fits, package_version
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.meshes import vertex_normals
from vitruvian.geometry.rotations import matrix_to_quaternion
from vitruvian.output import replacing

_HALF_TURN_ABOUT_X = [1.0, 0.0, 0.0, 0.0]
_SMALLEST_MORPH_M = 2e-6


def write_gltf(
    fits: Fits, body: BodyModel, path: Path | str, *, names: Sequence[str] | None = None, max_influences: int = 4
) -> Path:
    """Write the usable people of `fits` to one `.glb`.

    Args:
        names: one name per row of `fits`; `person_0`, ... if None.
        max_influences: joints per vertex: 4, which every program reads, or 8, which Blender reads too.

    Raises:
        InputError: nobody in `fits` is usable, or the body is of another family.
        OutputError: the file cannot be written.
    """
    rows = [row for row, usable in enumerate(fits.usable.tolist()) if usable]
    if not rows:
        raise InputError("nobody to export: no fit is usable", seen=", ".join(sorted(set(fits.status))) or "no people")
    all_names = names or [f"person_{row}" for row in range(len(fits))]
    posed = fits[rows].pose(body)
    camera = fits[rows[0]].camera
    data = gltf_bytes(posed, [all_names[row] for row in rows], camera=camera, max_influences=max_influences)
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def gltf_bytes(
    people: PosedBody, names: Sequence[str], *, camera: Camera | None = None, max_influences: int = 4
) -> bytes:
    """The `.glb` of posed people `(person, ...)` in a camera frame; `camera` adds the camera of the photograph."""
    model = people.model
    buffer = GltfBuffer()
    document: dict[str, Any] = {
        "asset": {
            "version": "2.0",
            "generator": f"vitruvian {package_version()}",
            "copyright": licence_of(model) or "unknown",
        },
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{}],
        "meshes": [],
        "skins": [],
        "materials": [_material(model)],
    }
    nodes: list[dict[str, Any]] = document["nodes"]
    layout = SurfaceLayout.of(model, max_influences)
    shared = layout.store(buffer)
    children = []
    for row, name in enumerate(names):
        person = people[row]
        first = len(nodes)
        document["skins"].append(_skin(person, first, buffer))
        nodes.extend(_joint_nodes(person, name, first))
        document["meshes"].append(_mesh(person, name, layout, shared, buffer))
        nodes.append({"name": name, "children": [first], "extras": _coefficients(person)})
        children.append(len(nodes) - 1)
        # Skinned meshes are placed by their joints alone and belong at the top of the scene.
        nodes.append({"name": f"{name}_mesh", "mesh": row, "skin": row})
        document["scenes"][0]["nodes"].append(len(nodes) - 1)
    if camera is not None:
        document["cameras"] = [_camera(camera)]
        nodes.append({"name": "photograph", "camera": 0, "rotation": _HALF_TURN_ABOUT_X})
        children.append(len(nodes) - 1)
    lowest = float(people.vertices[..., 1].max())  # y points down in the camera frame
    nodes[0] = {
        "name": "camera_frame",
        "rotation": _HALF_TURN_ABOUT_X,
        "translation": [0.0, lowest, 0.0],
        "children": children,
    }
    return buffer.container(document)


class SurfaceLayout:
    """What all people of one body share: faces, texture coordinates, and skinning weights, per corner of the surface.

    Where texture seams cut the surface, a vertex appears once on either side; `vertex_of` names the vertex of the body
    that each row of the file is.
    """

    def __init__(
        self,
        vertex_of: Int[np.ndarray, "row"],
        faces: Int[np.ndarray, "face 3"],
        uv: Float[np.ndarray, "row 2"] | None,
        joints: Int[np.ndarray, "row influence"],
        weights: Float[np.ndarray, "row influence"],
    ) -> None:
        self.vertex_of = vertex_of
        self.faces = faces
        self.uv = uv
        self.joints = joints
        self.weights = weights

    @staticmethod
    def of(model: BodyModel, max_influences: int) -> "SurfaceLayout":
        faces = model.faces.cpu().numpy()
        uv = None
        vertex_of = np.arange(model.num_vertices)
        if model.uv is not None and model.uv_faces is not None:
            corners = np.stack((faces.ravel(), model.uv_faces.cpu().numpy().ravel()), axis=1)
            pairs, rows = np.unique(corners, axis=0, return_inverse=True)
            vertex_of, faces = pairs[:, 0], rows.reshape(faces.shape)
            uv = model.uv.cpu().double().numpy()[pairs[:, 1]] * [1.0, -1.0] + [0.0, 1.0]  # glTF: v = 0 at the top
        joints, weights = strongest_influences(model, max_influences)
        return SurfaceLayout(vertex_of, faces, uv, joints[vertex_of], weights[vertex_of])

    def store(self, buffer: GltfBuffer) -> tuple[dict[str, int], int]:
        """Write the shared arrays; returns the attributes of every primitive, and the accessor of the faces."""
        attributes = {}
        if self.uv is not None:
            attributes["TEXCOORD_0"] = buffer.add(self.uv.astype(np.float32), target=ARRAY_BUFFER)
        for k in range(self.joints.shape[1] // 4):
            four = slice(4 * k, 4 * k + 4)
            attributes[f"JOINTS_{k}"] = buffer.add(self.joints[:, four].astype(np.uint8), target=ARRAY_BUFFER)
            attributes[f"WEIGHTS_{k}"] = buffer.add(self.weights[:, four].astype(np.float32), target=ARRAY_BUFFER)
        kind = np.uint16 if len(self.vertex_of) <= 65535 else np.uint32
        return attributes, buffer.add(self.faces.astype(kind).reshape(-1), target=ELEMENT_ARRAY_BUFFER)


def strongest_influences(
    model: BodyModel, count: int
) -> tuple[Int[np.ndarray, "vertex influence"], Float[np.ndarray, "vertex influence"]]:
    """The `count` joints with the largest skinning weights per vertex, weights scaled to sum to one."""
    weights, joints = model.skinning_weights.double().topk(min(count, model.num_joints), dim=-1)
    weights = weights / weights.sum(-1, keepdim=True)
    joints = torch.where(weights > 0, joints, 0)
    missing = (-weights.shape[1]) % 4
    pad = (0, missing)
    return (
        torch.nn.functional.pad(joints, pad).cpu().numpy(),
        torch.nn.functional.pad(weights, pad).cpu().numpy(),
    )


def _skin(person: PosedBody, first: int, buffer: GltfBuffer) -> dict[str, Any]:
    rest = person.shaped.joints.double().cpu().numpy()
    bind = np.tile(np.eye(4), (len(rest), 1, 1))
    bind[:, 3, :3] = -rest  # column-major, as glTF stores matrices
    accessor = buffer.add(bind.astype(np.float32).reshape(-1, 16))
    return {"joints": list(range(first, first + len(rest))), "inverseBindMatrices": accessor, "skeleton": first}


def _joint_nodes(person: PosedBody, name: str, first: int) -> list[dict[str, Any]]:
    skeleton = person.model.skeleton
    rest = person.shaped.joints.double().cpu()
    rotations = matrix_to_quaternion(person.rotations.double().cpu())
    nodes = []
    for joint, parent in enumerate(skeleton.parents):
        offset = rest[joint] if parent < 0 else rest[joint] - rest[parent]
        if parent < 0 and person.transl is not None:
            offset = offset + person.transl.double().cpu()
        node: dict[str, Any] = {
            "name": skeleton.names[joint] if name == "person_0" else f"{name}_{skeleton.names[joint]}",
            "translation": offset.tolist(),
            "rotation": rotations[joint].tolist(),
        }
        if skeleton.children[joint]:
            node["children"] = [first + child for child in skeleton.children[joint]]
        nodes.append(node)
    return nodes


def _mesh(
    person: PosedBody, name: str, layout: SurfaceLayout, shared: tuple[dict[str, int], int], buffer: GltfBuffer
) -> dict[str, Any]:
    model = person.model
    expression = person.shaped.expression
    targets = model.expression_dirs.cpu().numpy()
    rest = _rest_vertices(person).detach().cpu()
    without = rest - torch.einsum(
        "vke,e->vk", model.expression_dirs[..., : expression.shape[-1]].cpu(), expression.detach().cpu()
    )
    normals = vertex_normals(rest, model.faces.cpu()).numpy()
    rows = layout.vertex_of
    attributes = {
        "POSITION": buffer.add(without.float().numpy()[rows], target=ARRAY_BUFFER, bounds=True),
        "NORMAL": buffer.add(_unit(normals)[rows].astype(np.float32), target=ARRAY_BUFFER),
        **shared[0],
    }
    primitive: dict[str, Any] = {"attributes": attributes, "indices": shared[1], "material": 0}
    mesh: dict[str, Any] = {"name": name, "primitives": [primitive]}
    if targets.shape[-1]:
        primitive["targets"] = []
        for k in range(targets.shape[-1]):
            offsets = targets[..., k].astype(np.float32)[rows]
            moved = np.flatnonzero(np.abs(offsets).max(axis=1) > _SMALLEST_MORPH_M)
            primitive["targets"].append({"POSITION": buffer.add_sparse(offsets, moved)})
        weights = expression.detach().cpu().double().tolist()
        mesh["weights"] = weights + [0.0] * (targets.shape[-1] - len(weights))
        mesh["extras"] = {"targetNames": [f"expression_{k:02d}" for k in range(targets.shape[-1])]}
    return mesh


def _rest_vertices(person: PosedBody) -> Float[torch.Tensor, "vertex 3"]:
    """The mesh before skinning: shape, expression, and the correctives of the pose."""
    rest = person.shaped.vertices
    if person.model.correctives is None:
        return rest
    return rest + person.model.correctives.offsets(pose_features(person.rotations))


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Unit vectors; glTF wants length one even where a vertex has no face."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(length > 0.5, vectors / np.maximum(length, 1e-9), [0.0, 1.0, 0.0])


def _coefficients(person: PosedBody) -> dict[str, list[float]]:
    return {
        "betas": person.shaped.betas.detach().cpu().double().tolist(),
        "expression": person.shaped.expression.detach().cpu().double().tolist(),
    }


def _material(model: BodyModel) -> dict[str, Any]:
    srgb = np.array(body_colour(model.gender))
    linear = ((srgb + 0.055) / 1.055) ** 2.4
    return {
        "name": "skin",
        "pbrMetallicRoughness": {
            "baseColorFactor": [*linear.tolist(), 1.0],
            "metallicFactor": 0.0,
            "roughnessFactor": 0.6,
        },
    }


def _camera(camera: Camera) -> dict[str, Any]:
    """The camera of the photograph; glTF has no principal point, so one off the middle is left out."""
    width, height = camera.image_size.tolist()
    focal_y = float(camera.focal_px[1])
    return {
        "name": "photograph",
        "type": "perspective",
        "perspective": {"aspectRatio": width / height, "yfov": 2 * math.atan(height / 2 / focal_y), "znear": 0.01},
    }
