"""The open body that lies inside the package, read from its compact files.

The files in `resources/open_body`: `topology.npz` holds what all genders share (faces, UV, skinning, correctives,
expression, landmarks, hands), `shape_<gender>.npz` the template and shape space of one. Directions are integers with
one scale per direction; skinning weights and correctives name, per vertex, the few joints they belong to.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from vitruvian.assets import OPEN_BODY_LICENCE, read_plain_arrays
from vitruvian.bodies.correctives import PoseCorrectives
from vitruvian.bodies.families import GENDERS, SMPLX_KEYPOINT_VERTICES
from vitruvian.bodies.landmarks import FaceLandmarks
from vitruvian.bodies.model import BodyModel, HandBases
from vitruvian.bodies.skeletons import SMPLX
from vitruvian.errors import InputError, ModelFileError

TOPOLOGY_FILE = "topology.npz"
ROUNDING_M = 1e-5
"""Largest rounding of a stored direction, in metres per standard deviation (or unit of a pose feature)."""


def shape_file(gender: str) -> str:
    return f"shape_{gender}.npz"


def open_body(gender: str = "neutral", *, num_shape: int | None = None, num_expression: int | None = None) -> BodyModel:
    """The open body: SMPL-X skeleton, rest pose, keypoint vertex ids and parameters, float32 on the CPU.

    Args:
        gender: `neutral`, `female` or `male`; one topology.
        num_shape: shape components to keep, in order of variance; None keeps all.
        num_expression: the same for expression.

    Raises:
        InputError: unknown gender, or more components than there are.
        ModelFileError: the files of the package are missing or damaged.
    """
    model = read_open_body(files("vitruvian") / "resources" / "open_body", gender)
    for name, wanted, available in (
        ("shape", num_shape, model.num_shape),
        ("expression", num_expression, model.num_expression),
    ):
        if wanted is not None and not 0 <= wanted <= available:
            raise InputError(f"the open body has fewer {name} components", seen=wanted, expected=f"0 to {available}")
    if num_shape is None and num_expression is None:
        return model
    shape_stop = model.num_shape if num_shape is None else num_shape
    expression_stop = model.num_expression if num_expression is None else num_expression
    return replace(
        model,
        shape_dirs=model.shape_dirs[..., :shape_stop].contiguous(),
        joint_shape_dirs=model.joint_shape_dirs[..., :shape_stop].contiguous(),
        expression_dirs=model.expression_dirs[..., :expression_stop].contiguous(),
        joint_expression_dirs=model.joint_expression_dirs[..., :expression_stop].contiguous(),
    )


def read_open_body(folder: Any, gender: str) -> BodyModel:
    """The body in a folder of files as `open_body_learning` writes them; raises as `open_body` does."""
    if gender not in GENDERS:
        raise InputError("unknown gender of a body model", seen=gender, expected=", ".join(GENDERS))
    topology, digest_a = _read(folder / TOPOLOGY_FILE)
    shape, digest_b = _read(folder / shape_file(gender))
    return _assemble(topology, shape, gender, hashlib.sha256((digest_a + digest_b).encode()).hexdigest()[:16])


@dataclass(frozen=True, eq=False)
class Quantised:
    """Directions stored as integers: `value = integers · scales`, one scale per direction (last axis)."""

    integers: Int[np.ndarray, "... direction"]
    scales: Float[np.ndarray, "direction"]

    @staticmethod
    def of(values: Float[np.ndarray, "... direction"], rounding: float = ROUNDING_M) -> "Quantised":
        """Round to multiples of at most `2 · rounding`; 8 bits where that is enough, else 16."""
        largest = np.abs(values).reshape(-1, values.shape[-1]).max(0)
        steps = np.full(values.shape[-1], 2 * rounding)
        steps = np.maximum(steps, largest / np.iinfo(np.int16).max)
        integers = np.round(values / steps)
        kind = np.int8 if np.abs(integers).max() <= np.iinfo(np.int8).max else np.int16
        return Quantised(integers.astype(kind), steps.astype(np.float32))

    @property
    def values(self) -> Float[np.ndarray, "... direction"]:
        return self.integers.astype(np.float32) * self.scales


def _read(path: Any) -> tuple[dict[str, np.ndarray], str]:
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelFileError(
            "a file of the open body is missing", seen=path.name, hint="reinstall the package vitruvian"
        ) from error
    return read_plain_arrays(path), digest


def _assemble(
    topology: Mapping[str, np.ndarray], shape: Mapping[str, np.ndarray], gender: str, digest: str
) -> BodyModel:
    template = shape["template"].astype(np.float32)
    num_vertices, num_joints = len(template), len(SMPLX)
    shape_dirs = Quantised(shape["shape_dirs"], shape["shape_scales"]).values
    expression_dirs = np.zeros((num_vertices, 3, topology["expression_dirs"].shape[-1]), np.float32)
    expression_dirs[topology["expression_vertices"]] = Quantised(
        topology["expression_dirs"], topology["expression_scales"]
    ).values
    regressor = np.zeros((num_joints, num_vertices), np.float32)
    regressor[topology["regressor_rows"], topology["regressor_columns"]] = topology["regressor_values"]
    regressor /= regressor.sum(1, keepdims=True)
    weights = _dense_weights(topology["skin_joints"], topology["skin_weights"], num_joints)
    tensor = torch.from_numpy
    faces = tensor(topology["faces"].astype(np.int64))

    def joints_of(values: np.ndarray) -> torch.Tensor:
        # In double precision: the sum is over metres, the result is used to the tenth of a millimetre.
        flat = regressor.astype(np.float64) @ values.reshape(num_vertices, -1).astype(np.float64)
        return tensor(flat.reshape(num_joints, *values.shape[1:]).astype(np.float32))

    return BodyModel(
        family="open",
        gender=gender,
        skeleton=SMPLX,
        template=tensor(template),
        shape_dirs=tensor(shape_dirs),
        expression_dirs=tensor(expression_dirs),
        correctives=_correctives(topology, num_vertices),
        joint_template=joints_of(template),
        joint_shape_dirs=joints_of(shape_dirs),
        joint_expression_dirs=joints_of(expression_dirs),
        joint_regressor=tensor(regressor),
        skinning_weights=tensor(weights),
        faces=faces,
        hands=HandBases(
            *(tensor(topology[key]) for key in ("hands_meanl", "hands_componentsl", "hands_meanr", "hands_componentsr"))
        ),
        face_landmarks=FaceLandmarks.from_faces(
            faces,
            tensor(topology["lmk_faces_idx"].astype(np.int64)),
            tensor(topology["lmk_bary_coords"]),
            tensor(topology["dynamic_lmk_faces_idx"].astype(np.int64)),
            tensor(topology["dynamic_lmk_bary_coords"]),
        ),
        vertex_ids=dict(SMPLX_KEYPOINT_VERTICES),
        part_names=tuple(str(name) for name in topology["part_names"]),
        vertex_parts=tensor(topology["vertex_parts"].astype(np.int64)),
        uv=tensor(topology["uv"].astype(np.float32) / np.iinfo(np.uint16).max),
        uv_faces=tensor(topology["uv_faces"].astype(np.int64)),
        digest=digest,
        licence=OPEN_BODY_LICENCE,
    )


def _dense_weights(joints: np.ndarray, weights: np.ndarray, num_joints: int) -> Float[np.ndarray, "vertex joint"]:
    dense = np.zeros((len(joints), num_joints), np.float64)
    np.add.at(dense, (np.arange(len(joints))[:, None], joints), weights.astype(np.float64))
    return (dense / dense.sum(1, keepdims=True)).astype(np.float32)


def _correctives(topology: Mapping[str, np.ndarray], num_vertices: int) -> PoseCorrectives:
    """Entries of the `(3V, 486)` matrix from the joints named per vertex."""
    vertex, joint = topology["corrective_vertices"].astype(np.int64), topology["corrective_joints"].astype(np.int64)
    values = Quantised(topology["corrective_dirs"], topology["corrective_scales"]).values  # (entry, 3, 9)
    entry, coordinate, feature = values.nonzero()
    return PoseCorrectives.from_entries(
        torch.from_numpy(3 * vertex[entry] + coordinate),
        torch.from_numpy(9 * (joint[entry] - 1) + feature),
        torch.from_numpy(values[entry, coordinate, feature]),
        num_vertices=num_vertices,
        num_features=9 * (len(SMPLX) - 1),
    )
