"""Triangle meshes: the record, and pure functions of vertices and faces."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitruvian.tensors import TensorRecord


@dataclass(frozen=True, eq=False)
class Mesh(TensorRecord):
    """Vertices `(*batch, V, 3)` in metres and one set of faces `(F, 3)`, counter-clockwise seen from outside."""

    vertices: Float[Tensor, "*batch vertex 3"]
    faces: Int[Tensor, "face 3"]

    def vertex_normals(self) -> Float[Tensor, "*batch vertex 3"]:
        """Unit normals, weighted by face area."""
        return vertex_normals(self.vertices, self.faces)


def face_normals(
    vertices: Float[Tensor, "*batch vertex 3"], faces: Int[Tensor, "face 3"]
) -> Float[Tensor, "*batch face 3"]:
    """Normals of the faces; their length is twice the area of the face."""
    a, b, c = (vertices[..., faces[:, k], :] for k in range(3))
    return torch.linalg.cross(b - a, c - a, dim=-1)


def vertex_normals(
    vertices: Float[Tensor, "*batch vertex 3"], faces: Int[Tensor, "face 3"]
) -> Float[Tensor, "*batch vertex 3"]:
    """Unit normals of the vertices, weighted by face area; zero where a vertex has no face."""
    normals = face_normals(vertices, faces)
    total = torch.zeros_like(vertices)
    for corner in range(3):
        total = total.index_add(-2, faces[:, corner], normals)
    eps = torch.finfo(vertices.dtype).tiny ** 0.5
    return total / total.norm(dim=-1, keepdim=True).clamp_min(eps)
