"""Writer of body models as files of the SMPL-X schema, which any tool for SMPL-X reads."""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vitruvian.assets import SOURCES
from vitruvian.bodies.families import NUM_SHAPE_BEFORE_EXPRESSION
from vitruvian.bodies.landmarks import FaceLandmarks
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.skeletons import SMPLX
from vitruvian.errors import InputError, OutputError

NUM_EXPRESSIONS = 100


def save_smplx_npz(model: BodyModel, path: Path | str) -> None:
    """Write a model with SMPL-X's joints as a full SMPL-X `.npz` file: plain arrays, no pickle inside.

    Shape directions fill the first of 300 columns and expressions the first of the 100 after them, the rest is zero, so
    that readers which split at 300 find them; `num_shape_coefficients` and `num_expression_coefficients` say how many
    are in use. `licence` says in words what may be done with the file. Pose correctives are written densely.

    Raises:
        InputError: the model has other joints than SMPL-X, or too many coefficients.
        OutputError: the file cannot be written.
    """
    if model.skeleton != SMPLX:
        raise InputError(
            "only models with SMPL-X's joints have its schema",
            seen=f"{model.family}, {model.num_joints} joints",
            expected=f"{len(SMPLX)} joints",
        )
    path = Path(path)
    arrays = smplx_arrays(model)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=".npz")
        try:
            with os.fdopen(handle, "wb") as stream:
                np.savez_compressed(stream, **arrays)
            os.chmod(name, 0o644)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {path}", seen=error.strerror or error) from None


def smplx_arrays(model: BodyModel) -> dict[str, np.ndarray]:
    """The arrays of the SMPL-X schema by key, in the model's own floating-point type."""
    arrays = {
        "v_template": _numpy(model.template),
        "shapedirs": _directions(model),
        "posedirs": _pose_directions(model),
        "J_regressor": _numpy(model.joint_regressor),
        "weights": _numpy(model.skinning_weights),
        "kintree_table": _tree(model),
        "f": _numpy(model.faces).astype(np.uint32),
        "num_shape_coefficients": np.array(model.num_shape),
        "num_expression_coefficients": np.array(model.num_expression),
        "licence": np.array(licence_of(model)),
    }
    if model.hands is not None:
        for side, mean, components in (
            ("l", model.hands.left_mean, model.hands.left_components),
            ("r", model.hands.right_mean, model.hands.right_components),
        ):
            arrays[f"hands_mean{side}"] = _numpy(mean)
            arrays[f"hands_components{side}"] = _numpy(components)
    if model.face_landmarks is not None:
        arrays.update(_landmark_arrays(model.face_landmarks, model.faces))
    if model.uv is not None and model.uv_faces is not None:
        arrays["vt"], arrays["ft"] = _numpy(model.uv), _numpy(model.uv_faces).astype(np.uint32)
    return arrays


def licence_of(model: BodyModel) -> str:
    """What the licence of a model allows, for files that are made of it."""
    if model.licence or model.family not in SOURCES:
        return model.licence
    source = SOURCES[model.family]
    return f"{source.title}: {source.licence}; {source.site}"


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().contiguous().numpy()


def _directions(model: BodyModel) -> np.ndarray:
    if model.num_shape > NUM_SHAPE_BEFORE_EXPRESSION or model.num_expression > NUM_EXPRESSIONS:
        raise InputError(
            "too many coefficients for the SMPL-X schema",
            seen=(model.num_shape, model.num_expression),
            expected=f"at most {(NUM_SHAPE_BEFORE_EXPRESSION, NUM_EXPRESSIONS)}",
        )
    shape, expression = _numpy(model.shape_dirs), _numpy(model.expression_dirs)
    out = np.zeros((*shape.shape[:2], NUM_SHAPE_BEFORE_EXPRESSION + NUM_EXPRESSIONS), shape.dtype)
    out[..., : shape.shape[-1]] = shape
    out[..., NUM_SHAPE_BEFORE_EXPRESSION : NUM_SHAPE_BEFORE_EXPRESSION + expression.shape[-1]] = expression
    return out


def _pose_directions(model: BodyModel) -> np.ndarray:
    if model.correctives is None:
        return np.zeros((model.num_vertices, 3, 9 * (model.num_joints - 1)), _numpy(model.template).dtype)
    return _numpy(model.correctives.rows(torch.arange(model.num_vertices, device=model.device)))


def _tree(model: BodyModel) -> np.ndarray:
    parents = np.array(model.skeleton.parents, dtype=np.int64)
    parents[0] = 2**32 - 1
    return np.stack((parents, np.arange(len(parents))))


def _landmark_arrays(landmarks: FaceLandmarks, faces: Tensor) -> dict[str, np.ndarray]:
    triangles = _numpy(faces)
    arrays = {
        "lmk_faces_idx": _face_ids(_numpy(landmarks.corners), triangles),
        "lmk_bary_coords": _numpy(landmarks.barycentric),
    }
    if landmarks.contour_corners is not None and landmarks.contour_barycentric is not None:
        arrays["dynamic_lmk_faces_idx"] = _face_ids(_numpy(landmarks.contour_corners), triangles)
        arrays["dynamic_lmk_bary_coords"] = _numpy(landmarks.contour_barycentric)
    return arrays


def _face_ids(corners: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """The face whose corners, in this order, each landmark lies on."""
    row_of = {tuple(triangle): row for row, triangle in enumerate(triangles.tolist())}
    flat = corners.reshape(-1, 3).tolist()
    if any(tuple(triangle) not in row_of for triangle in flat):
        raise InputError("a face landmark lies on no face of the mesh")
    return np.array([row_of[tuple(triangle)] for triangle in flat]).reshape(corners.shape[:-1])
