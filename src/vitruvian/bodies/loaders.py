"""Loaders of body models from official files: SMPL, SMPL+H, SMPL-X, MANO and FLAME, as npz or pickle."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from vitruvian.assets import SOURCES, border, file_digest, find_added, read_arrays
from vitruvian.bodies.correctives import PoseCorrectives
from vitruvian.bodies.families import FAMILIES, GENDERS, MANO_SKELETONS, NUM_SHAPE_BEFORE_EXPRESSION, SIDES, Family
from vitruvian.bodies.file_entries import FileEntries
from vitruvian.bodies.landmarks import FaceLandmarks
from vitruvian.bodies.model import BodyModel, HandBases
from vitruvian.bodies.skeletons import Skeleton
from vitruvian.errors import InputError, ModelFileError

DEFAULT_COEFFICIENTS = 10
"""Shape and expression coefficients that are kept where nothing else is asked for (as in the SMPL-X paper)."""

FLAME_LANDMARK_FILES = ("landmark_embedding.npy", "flame_static_embedding.pkl", "flame_dynamic_embedding.npy")
"""Files beside a FLAME model that hold its landmarks; the first has both kinds."""

Count = int | Literal["all"] | None


def load_body(
    family: str,
    path: Path | str | None = None,
    *,
    gender: str | None = None,
    side: str | None = None,
    num_shape: Count = None,
    num_expression: Count = None,
    dtype: torch.dtype = torch.float32,
) -> BodyModel:
    """Load a body model from a file, or from what `vitruvian body add` has registered.

    Args:
        family: `smpl`, `smplh`, `smplx`, `mano`, `flame`, or `open` for the body inside the package.
        path: an official `.npz` or `.pkl` file; None takes the registered one. Pickles are read, never executed.
        gender: `neutral`, `female` or `male`; None takes what the file's name says, else neutral.
        side: `left` or `right` for MANO; None takes what the file's name or its geometry says, else right.
        num_shape: shape coefficients to keep: a number, "all", or None for the first ten (of the open body: all).
        num_expression: the same for expression.
        dtype: floating-point type of the model.

    Raises:
        ModelFileError: the file is missing, truncated, of another family, or has an entry of the wrong shape.
        UnsafeFileError: the file asks to run code.
        InputError: an unknown family, gender or side.
    """
    if gender is not None and gender not in GENDERS:
        raise InputError("unknown gender of a body model", seen=gender, expected=", ".join(GENDERS))
    if side is not None and side not in SIDES:
        raise InputError("unknown side of a hand model", seen=side, expected=", ".join(SIDES))
    if family == "open":
        return _open(path, gender, num_shape, num_expression, dtype)
    if family not in FAMILIES:
        raise InputError("unknown body family", seen=family, expected=", ".join((*FAMILIES, "open")))
    variant = (side or "right") if family == "mano" else (gender or "neutral")
    digest = None
    if path is None:
        path, digest = _registered(family, variant)
    path = Path(path)
    with border(ModelFileError, path, what=f"a {FAMILIES[family].title} file"):
        file = FileEntries(read_arrays(path), path.name, FAMILIES[family])
        seen_digest = file_digest(path)
        if digest is not None and seen_digest != digest:
            raise ModelFileError(
                f"{path} has changed since it was added",
                seen=seen_digest[:16],
                expected=digest[:16],
                hint="run `vitruvian body add FILE` again",
            )
        if digest is None:
            variant = (side if family == "mano" else gender) or variant_of(path, family, file)
        return _build(file, path, variant, (num_shape, num_expression), dtype, seen_digest[:16])


def variant_of(path: Path, family: str, entries: Mapping[str, Any]) -> str:
    """Gender, or for MANO the side, that a file's name or its folder's name tells; for MANO else its geometry."""
    for text in (path.stem, path.parent.name):
        words = [w for w in re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text).lower()) if w]
        if family == "mano":
            found = [word for word in words if word in SIDES]
        else:
            short = {"f": "female", "m": "male", "n": "neutral"}
            found = [short.get(word, word) for word in words if short.get(word, word) in GENDERS]
        if len(set(found)) == 1:
            return found[0]
    if family == "mano":
        return _side_by_geometry(FileEntries(entries, path.name, FAMILIES[family]))
    return "neutral"


def _side_by_geometry(entries: FileEntries) -> str:
    """In SMPL's frame the fingers of a left hand lie on the +x side of its wrist."""
    template = entries.array("v_template", ("V", 3))
    weights = entries.array("weights", (len(template), "joint"))
    wrist = weights[:, 0] > 0.5
    if wrist.all() or not wrist.any():
        return "right"
    return "left" if template[~wrist, 0].mean() > template[wrist, 0].mean() else "right"


def _open(
    path: Path | str | None, gender: str | None, num_shape: Count, num_expression: Count, dtype: torch.dtype
) -> BodyModel:
    from vitruvian.bodies.open_body import open_body

    if path is not None:
        raise InputError("the open body is inside the package and takes no file", seen=path)
    shape, expression = (None if count == "all" else count for count in (num_shape, num_expression))
    return open_body(gender or "neutral", num_shape=shape, num_expression=expression).to(dtype=dtype)


def _registered(family: str, variant: str) -> tuple[Path, str]:
    entry = find_added(family, variant)
    if entry is None or not entry.path.is_file():
        source = SOURCES[family]
        raise ModelFileError(f"no {variant} {source.title} file has been added", hint=source.hint(family))
    return entry.path, entry.digest


def _build(
    file: FileEntries, path: Path, variant: str, counts: tuple[Count, Count], dtype: torch.dtype, digest: str
) -> BodyModel:
    family = file.family
    skeleton = MANO_SKELETONS[variant] if family.name == "mano" else family.skeleton
    template = file.array("v_template", ("V", 3))
    num_vertices, num_joints = len(template), len(skeleton)
    weights = file.shares("weights", (num_vertices, num_joints))
    regressor = file.array("J_regressor", (num_joints, num_vertices))
    faces = file.indices("f", ("F", 3), num_vertices)
    shape, expression = _split_directions(file, num_vertices, counts)
    pose = file.directions("posedirs", num_vertices, 9 * (num_joints - 1))
    file.check_tree(skeleton)

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(dtype)

    def joints_of(directions: np.ndarray) -> torch.Tensor:
        return tensor((regressor @ directions.reshape(num_vertices, -1)).reshape(num_joints, *directions.shape[1:]))

    uv, uv_faces = _uv(file, len(faces))
    return BodyModel(
        family=family.name,
        gender="neutral" if family.name == "mano" else variant,
        skeleton=skeleton,
        template=tensor(template),
        shape_dirs=tensor(shape),
        expression_dirs=tensor(expression),
        correctives=PoseCorrectives.from_dense(tensor(pose)),
        joint_template=joints_of(template),
        joint_shape_dirs=joints_of(shape),
        joint_expression_dirs=joints_of(expression),
        joint_regressor=tensor(regressor),
        skinning_weights=tensor(weights),
        faces=torch.from_numpy(faces),
        hands=_hands(file, skeleton, tensor),
        face_landmarks=_landmarks(file, path, faces, tensor),
        vertex_ids=dict(family.keypoint_vertices) if num_vertices >= family.least_vertices else {},
        uv=None if uv is None else tensor(uv),
        uv_faces=None if uv_faces is None else torch.from_numpy(uv_faces),
        digest=digest,
        licence=file.text("licence"),
    )


def _split_directions(
    file: FileEntries, num_vertices: int, counts: tuple[Count, Count]
) -> tuple[np.ndarray, np.ndarray]:
    """Shape directions, then expression directions, of the one array that holds both."""
    directions = file.directions("shapedirs", num_vertices, None)
    total = directions.shape[-1]
    start, shape_stop, stop = _layout(file, total)
    shape, expression = directions[..., :shape_stop], directions[..., start:stop]
    kept_shape = _count(counts[0], shape.shape[-1], "shape", file.name)
    kept_expression = _count(counts[1], expression.shape[-1], "expression", file.name)
    return shape[..., :kept_shape], expression[..., :kept_expression]


def _layout(file: FileEntries, total: int) -> tuple[int, int, int]:
    """First expression direction, and the ends of the shape and of the expression directions.

    Files of 400 have 300 of shape first; short ones (20, 40) have as many of each. Files written by `save_smplx_npz`
    say how many of the 300 and of the 100 are in use.
    """
    if not file.family.has_expression:
        return total, total, total
    if total > NUM_SHAPE_BEFORE_EXPRESSION:
        start = NUM_SHAPE_BEFORE_EXPRESSION
        shape = file.count("num_shape_coefficients", start)
        expression = file.count("num_expression_coefficients", total - start)
        if not (0 <= shape <= start and 0 <= expression <= total - start):
            raise ModelFileError(
                f"{file.name} says that it has more coefficients than directions",
                seen=(shape, expression),
                expected=f"at most {(start, total - start)}",
            )
        return start, shape, start + expression
    half = total if total == NUM_SHAPE_BEFORE_EXPRESSION or total % 2 else total // 2
    return half, half, total


def _count(wanted: Count, available: int, kind: str, name: str) -> int:
    if wanted is None:
        return min(DEFAULT_COEFFICIENTS, available)
    if wanted == "all":
        return available
    if not 0 <= wanted <= available:
        raise ModelFileError(f"{name} has too few {kind} coefficients", seen=available, expected=wanted)
    return wanted


def _hands(file: FileEntries, skeleton: Skeleton, tensor: Any) -> HandBases | None:
    if file.family.hands == "both" and "hands_componentsl" in file:
        parts = [
            tensor(file.array(f"hands_{what}{side}", shape))
            for side in "lr"
            for what, shape in (("mean", (45,)), ("components", ("K", 45)))
        ]
        return HandBases(*parts)
    if file.family.hands == "one" and "hands_components" in file:
        mean, components = file.array("hands_mean", (45,)), file.array("hands_components", ("K", 45))
        own = (tensor(mean), tensor(components))
        other = (tensor(np.zeros_like(mean)), tensor(components[:0]))
        return HandBases(*own, *other) if skeleton is MANO_SKELETONS["left"] else HandBases(*other, *own)
    return None


def _uv(file: FileEntries, num_faces: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    if "vt" not in file or "ft" not in file:
        return None, None
    uv = file.array("vt", ("T", 2))
    return uv, file.indices("ft", (num_faces, 3), len(uv))


def _landmarks(file: FileEntries, path: Path, faces: np.ndarray, tensor: Any) -> FaceLandmarks | None:
    """Landmarks in the file itself (SMPL-X), or in the files that FLAME is distributed with."""
    static = contour = None
    if "lmk_faces_idx" in file:
        static = (file, "lmk_faces_idx", "lmk_bary_coords")
    if "dynamic_lmk_faces_idx" in file:
        contour = (file, "dynamic_lmk_faces_idx", "dynamic_lmk_bary_coords")
    if static is None and file.family.name == "flame":
        static, contour = _flame_landmark_files(path, file.family)
    if static is None:
        return None
    static_arrays = _embedding(*static, ("L",), len(faces))
    contour_arrays = (None, None) if contour is None else _embedding(*contour, (79, 17), len(faces))
    return FaceLandmarks.from_faces(
        torch.from_numpy(faces),
        torch.from_numpy(static_arrays[0]),
        tensor(static_arrays[1]),
        None if contour_arrays[0] is None else torch.from_numpy(contour_arrays[0]),
        None if contour_arrays[1] is None else tensor(contour_arrays[1]),
    )


_Embedding = tuple[FileEntries, str, str] | None


def _flame_landmark_files(path: Path, family: Family) -> tuple[_Embedding, _Embedding]:
    both, static, contour = (
        FileEntries(read_arrays(beside), name, family) if (beside := path.with_name(name)).is_file() else None
        for name in FLAME_LANDMARK_FILES
    )
    if both is not None:
        return (
            (both, "static_lmk_faces_idx", "static_lmk_bary_coords"),
            (both, "dynamic_lmk_faces_idx", "dynamic_lmk_bary_coords"),
        )
    return (
        None if static is None else (static, "lmk_face_idx", "lmk_b_coords"),
        None if contour is None else (contour, "lmk_face_idx", "lmk_b_coords"),
    )


def _embedding(
    file: FileEntries, face_key: str, barycentric_key: str, shape: tuple[int | str, ...], num_faces: int
) -> tuple[np.ndarray, np.ndarray]:
    face_ids = file.indices(face_key, shape, num_faces)
    return face_ids, file.array(barycentric_key, (*face_ids.shape, 3))
