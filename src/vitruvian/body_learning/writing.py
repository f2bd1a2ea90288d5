"""Writes a learnt open body as the compact files that `open_body` reads."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.open_body import TOPOLOGY_FILE, Quantised, shape_file
from vitruvian.bodies.skeletons import SMPLX
from vitruvian.body_learning.hand_bases import synergy_hand_basis
from vitruvian.body_learning.landmark_tables import LandmarkTables
from vitruvian.body_learning.learning import LinearSpace, LocalCorrectives
from vitruvian.body_learning.people import Topology
from vitruvian.errors import OutputError


@dataclass(frozen=True, eq=False)
class LearntBody:
    """All parts of the open body, unrounded."""

    topology: Topology
    shapes: dict[str, LinearSpace]
    expression: LinearSpace
    regressor: Float[Tensor, "joint vertex"]
    weights: Float[Tensor, "vertex joint"]
    correctives: LocalCorrectives
    landmarks: LandmarkTables


def write_body(body: LearntBody, folder: Path) -> None:
    """Write `topology.npz` and the three `shape_<gender>.npz`.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(folder / TOPOLOGY_FILE, **_topology_arrays(body))
        for gender, space in body.shapes.items():
            dirs = Quantised.of(space.dirs.numpy())
            np.savez_compressed(
                folder / shape_file(gender),
                template=space.mean.numpy().astype(np.float32),
                shape_dirs=dirs.integers,
                shape_scales=dirs.scales,
                explained=space.explained.numpy().astype(np.float32),
            )
    except OSError as error:
        raise OutputError("the body cannot be written", seen=str(error), expected=f"a writable {folder}") from error


def _topology_arrays(body: LearntBody) -> dict[str, np.ndarray]:
    topology = body.topology
    expression = body.expression.dirs.numpy()
    moved = np.abs(expression).max((1, 2)) > 1e-6
    expression_dirs = Quantised.of(expression[moved])
    joints = body.correctives.joints
    vertex, slot = (joints > 0).nonzero(as_tuple=True)
    dirs = body.correctives.dirs[vertex, slot]
    felt = dirs.abs().amax((1, 2)) > 5e-5
    corrective = Quantised.of(dirs[felt].numpy())
    rows, columns = body.regressor.nonzero(as_tuple=True)
    skin, bones = body.weights.topk(6, dim=1)
    hands = {}
    for side in ("left", "right"):
        mean, components = synergy_hand_basis(side)
        hands[f"hands_mean{side[0]}"] = mean.astype(np.float32)
        hands[f"hands_components{side[0]}"] = components.astype(np.float32)
    return {
        "faces": topology.faces.numpy().astype(np.uint16),
        "uv": np.round(topology.uv.numpy().clip(0, 1) * np.iinfo(np.uint16).max).astype(np.uint16),
        "uv_faces": topology.uv_faces.numpy().astype(np.uint16),
        "skin_joints": bones.numpy().astype(np.uint8),
        "skin_weights": np.round(skin.numpy() * np.iinfo(np.uint16).max).astype(np.uint16),
        "regressor_rows": rows.numpy().astype(np.uint8),
        "regressor_columns": columns.numpy().astype(np.uint16),
        "regressor_values": body.regressor[rows, columns].numpy().astype(np.float32),
        "expression_vertices": moved.nonzero()[0].astype(np.uint16),
        "expression_dirs": expression_dirs.integers,
        "expression_scales": expression_dirs.scales,
        "expression_explained": body.expression.explained.numpy().astype(np.float32),
        "corrective_vertices": vertex[felt].numpy().astype(np.uint16),
        "corrective_joints": joints[vertex, slot][felt].numpy().astype(np.uint8),
        "corrective_dirs": corrective.integers,
        "corrective_scales": corrective.scales,
        "lmk_faces_idx": body.landmarks.lmk_faces_idx.astype(np.uint16),
        "lmk_bary_coords": body.landmarks.lmk_bary_coords.astype(np.float32),
        "dynamic_lmk_faces_idx": body.landmarks.dynamic_lmk_faces_idx.astype(np.uint16),
        "dynamic_lmk_bary_coords": body.landmarks.dynamic_lmk_bary_coords.astype(np.float32),
        "part_names": np.array(SMPLX.names),
        "vertex_parts": body.weights.argmax(1).numpy().astype(np.uint8),
        **hands,
    }
