"""Find where the points of MediaPipe's face mesh lie on the open body, from rendered heads (`render_people.py`).

For each mesh point, every vertex of the head is tried: its robust mean distance, across the line of sight, from where
the detector saw the point over all pictures. Around the best vertex the point then moves into one of the triangles.

    python scripts/fit_face_mesh.py --people heads.npz --out src/vitruvian/resources/keypoints/face_mesh.npz
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float, Int

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.open_body import open_body
from vitruvian.keypoints.face_mesh import MESH_OF_FACE_68
from vitruvian.keypoints.formats import get_format
from vitruvian.keypoints.surface_targets import faces_digest

ROBUST_M = 0.006
NUM_MESH = 468
LOWER_INNER_LIP = (95, 88, 178, 87, 14, 317, 402, 318, 324)
"""Mesh points that touch the upper lip when the mouth is closed, and must lie on what the jaw moves."""
BESIDE_M, MIDDLE_M, INSIDE_M = 0.006, 0.035, 0.012
"""Near the middle of the face, a vertex this far behind others beside it lies inside the mouth or nose."""
TEST_SHARE = 4


@dataclass(frozen=True)
class Arguments:
    """What to learn from."""

    people: tuple[Path, ...]
    """Files of render_people.py."""
    out: Path
    """File to write, .npz; its card is written beside it."""


@dataclass(frozen=True, eq=False)
class Heads:
    """Head vertices in the camera frame, and the slopes (u − c)/f of the mesh points."""

    vertices: Float[np.ndarray, "picture vertex 3"]
    slopes: Float[np.ndarray, "picture point 2"]
    px_per_m: Float[np.ndarray, "picture"]

    def subset(self, rows: Int[np.ndarray, "kept"]) -> "Heads":
        return Heads(self.vertices[rows], self.slopes[rows], self.px_per_m[rows])


def head_vertices(body: BodyModel) -> Int[np.ndarray, "vertex"]:
    """Vertices that move mostly with head or jaw, in the front half of the head, outside; no eyeballs, no palate."""
    names = np.array(body.skeleton.names)[body.skinning_weights.argmax(-1).numpy()]
    ears = body.template[[body.vertex_ids["left_ear"], body.vertex_ids["right_ear"]]].numpy()
    front = body.template[:, 2].numpy() > ears[:, 2].mean() - 0.03
    chosen = np.flatnonzero(np.isin(names, ("head", "jaw", "neck")) & front)
    points = body.template.numpy()[chosen]
    beside = np.linalg.norm(points[:, None, :2] - points[None, :, :2], axis=-1) < BESIDE_M
    depth = np.where(beside, points[None, :, 2], -np.inf).max(1) - points[:, 2]
    middle = np.abs(points[:, 0] - ears[:, 0].mean()) < MIDDLE_M
    return chosen[~(middle & (depth > INSIDE_M))]


def load_heads(paths: tuple[Path, ...], kept: Int[np.ndarray, "vertex"]) -> Heads:
    first = get_format("mediapipe-holistic").groups["face"][0]
    vertices, slopes, scale = [], [], []
    for path in paths:
        with np.load(path) as stored:
            data = {key: stored[key] for key in stored.files}
        mesh = data["keypoints"][:, first : first + NUM_MESH]
        for row in np.flatnonzero(data["found"] & (mesh[:, :, 2].max(1) > 0.9)):
            vertices.append(data["posed"][row, kept].astype(np.float64) + data["transl"][row])
            slopes.append((mesh[row, :, :2] - data["image_size"][row] / 2) / data["focal_px"][row])
            scale.append(data["focal_px"][row, 0] / vertices[-1][:, 2].mean())
    return Heads(np.stack(vertices), np.stack(slopes), np.array(scale))


def distances(heads: Heads, point: int, columns: Int[np.ndarray, "vertex"]) -> Float[np.ndarray, "picture vertex 2"]:
    """Where vertices lie from the seen point, across the line of sight, in metres."""
    chosen = heads.vertices[:, columns]
    return chosen[..., :2] - heads.slopes[:, point, None, :] * chosen[..., 2:]


def best_vertex(heads: Heads, point: int, candidates: Int[np.ndarray, "vertex"]) -> int:
    squared = (distances(heads, point, candidates) ** 2).sum(-1)
    return int(candidates[(squared / (squared + ROBUST_M**2)).mean(0).argmin()])


def refine(
    heads: Heads, point: int, triangles: Int[np.ndarray, "triangle 3"]
) -> tuple[Int[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """The triangle and barycentric coordinates with the least robust distance."""
    best, least = (triangles[0], np.array([1.0, 0.0, 0.0])), np.inf
    for triangle in triangles:
        rows = distances(heads, point, triangle).transpose(0, 2, 1)  # (picture, 2, corner)
        weights = np.full(3, 1 / 3)
        for _ in range(12):
            error = rows @ weights
            robust = (ROBUST_M**2 / (ROBUST_M**2 + (error**2).sum(-1))) ** 2
            gram = np.einsum("nis,nit,n->st", rows, rows, robust) / robust.sum() + 1e-8 * np.eye(3)
            system = np.block([[gram, np.ones((3, 1))], [np.ones((1, 3)), np.zeros((1, 1))]])
            weights = np.linalg.solve(system, np.array([0.0, 0.0, 0.0, 1.0]))[:3].clip(0, None)
            weights = weights / weights.sum()
        squared = ((rows @ weights) ** 2).sum(-1)
        cost = float((squared / (squared + ROBUST_M**2)).mean())
        if cost < least:
            best, least = (triangle, weights), cost
    return best


def median_errors(heads: Heads, corners: np.ndarray, weights: np.ndarray) -> Float[np.ndarray, "point"]:
    """Median over pictures of the distance of each mesh point from its place on the body, metres."""
    out = []
    for point in range(len(corners)):
        offsets = (distances(heads, point, corners[point]) * weights[point][:, None]).sum(1)
        out.append(np.median(np.linalg.norm(offsets, axis=-1)))
    return np.array(out)


def plain_landmarks(body: BodyModel, row_of: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The 51 inner landmarks of the body as the places of their mesh points: what is used without this fit."""
    assert body.face_landmarks is not None
    corners = np.vectorize(lambda v: row_of.get(int(v), 0))(body.face_landmarks.corners.numpy())
    return corners, body.face_landmarks.barycentric.numpy().astype(np.float64)


def main(arguments: Arguments) -> None:
    body = open_body("neutral")
    kept = head_vertices(body)
    row_of = {int(vertex): row for row, vertex in enumerate(kept)}
    heads = load_heads(arguments.people, kept)
    test = np.arange(len(heads.px_per_m)) % TEST_SHARE == 0
    learn, held_out = heads.subset(np.flatnonzero(~test)), heads.subset(np.flatnonzero(test))
    faces = np.array([[row_of[v] for v in face] for face in body.faces.tolist() if all(v in row_of for v in face)])
    on_jaw = body.skinning_weights[kept, body.skeleton.index("jaw")].numpy() > 0.2
    corners, weights = np.zeros((NUM_MESH, 3), dtype=int), np.zeros((NUM_MESH, 3))
    for point in range(NUM_MESH):
        allowed = on_jaw if point in LOWER_INNER_LIP else np.ones(len(kept), dtype=bool)
        vertex = best_vertex(learn, point, np.flatnonzero(allowed))
        around = faces[(faces == vertex).any(1) & allowed[faces].all(1)]
        corners[point], weights[point] = refine(learn, point, around)
    after = median_errors(held_out, corners, weights)
    inner = list(MESH_OF_FACE_68[17:])
    plain = median_errors_of(held_out, inner, *plain_landmarks(body, row_of))
    figures = {
        "pictures": len(heads.px_per_m),
        "held_out": int(test.sum()),
        "inner_landmarks_before_mm": round(1e3 * float(plain.mean()), 2),
        "inner_landmarks_after_mm": round(1e3 * float(after[inner].mean()), 2),
        "all_points_mm": round(1e3 * float(after.mean()), 2),
        "worst_point_mm": round(1e3 * float(after.max()), 2),
        "px_per_mm": round(float(np.median(held_out.px_per_m)) / 1e3, 3),
    }
    print(json.dumps(figures, indent=1))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        arguments.out,
        corners=kept[corners].astype(np.int32),
        barycentric=weights.astype(np.float32),
        faces_digest=np.array(faces_digest(body.faces)),
    )
    arguments.out.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")


def median_errors_of(heads: Heads, points: list[int], corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    chosen = Heads(heads.vertices, heads.slopes[:, points], heads.px_per_m)
    return median_errors(chosen, corners, weights)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
