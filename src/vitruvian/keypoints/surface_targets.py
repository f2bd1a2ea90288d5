"""Where the points of MediaPipe's face mesh lie on the open body, as regressed from rendered heads."""

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from jaxtyping import Int
from torch import Tensor

from vitruvian.assets import packaged_arrays
from vitruvian.keypoints.face_mesh import BODY_POINTS_ON_MESH
from vitruvian.keypoints.formats import get_format

SurfacePoint = tuple[tuple[int, float], ...]
"""Vertices and their weights."""


def faces_digest(faces: Int[Tensor, "face 3"]) -> str:
    """First characters of the SHA-256 of a mesh's triangles: tells whether vertex numbers mean the same."""
    return hashlib.sha256(faces.cpu().numpy().astype("<i4").tobytes()).hexdigest()[:16]


def face_mesh_points(faces: Int[Tensor, "face 3"]) -> Mapping[str, SurfacePoint]:
    """The points of the face mesh, and the body's points on it, by keypoint name.

    Known for the body with these triangles; empty for any other body.
    """
    digest, points = _stored_points()
    return points if digest and digest == faces_digest(faces) else {}


@cache
def _stored_points() -> tuple[str, Mapping[str, SurfacePoint]]:
    if not (files("vitruvian") / "resources" / "keypoints" / "face_mesh.npz").is_file():
        return "", {}
    stored = packaged_arrays("keypoints", "face_mesh.npz")
    corners, weights = stored["corners"].tolist(), stored["barycentric"].tolist()
    digest = str(stored["faces_digest"])
    names = get_format("mediapipe-face468").names
    points = [tuple(zip(corner, weight, strict=True)) for corner, weight in zip(corners, weights, strict=True)]
    named = dict(zip(names, points, strict=True))
    for place, mesh in BODY_POINTS_ON_MESH.items():
        named[f"mediapipe:{place}"] = tuple((vertex, w / len(mesh)) for k in mesh for vertex, w in points[k])
    return digest, named
