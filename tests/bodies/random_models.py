"""Random body models in the layouts of the official files, and the papers' formulas in slow, obvious form."""

import pickle
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitruvian.bodies.families import FAMILIES
from vitruvian.bodies.skeletons import Skeleton

OFFICIAL_SIZES = {
    "smpl": (6890, 13776, 10),
    "smplh": (6890, 13776, 16),
    "smplx": (10475, 20908, 400),
    "mano": (778, 1538, 10),
    "flame": (5023, 9976, 400),
}
"""Vertices, triangles, and shape (with expression) directions."""


def random_entries(
    family: str, *, num_vertices: int | None = None, num_directions: int | None = None, seed: int = 0
) -> dict[str, np.ndarray]:
    """The arrays of an official file with random content; of the official size unless told otherwise.

    All values are exact in float32. Every vertex hangs on four bones.
    """
    rng = np.random.default_rng(seed)
    skeleton = FAMILIES[family].skeleton
    vertices, triangles, directions = OFFICIAL_SIZES[family]
    if num_vertices is not None:
        vertices, triangles = num_vertices, 2 * num_vertices
    directions = num_directions or directions
    joints = len(skeleton)

    def normal(*shape: int, scale: float) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)

    weights = np.zeros((vertices, joints), np.float32)
    bones = np.argsort(rng.random((vertices, joints)), axis=1)[:, :4]
    np.put_along_axis(weights, bones, rng.dirichlet(np.ones(4), vertices).astype(np.float32), axis=1)
    regressor = np.zeros((joints, vertices), np.float32)
    chosen = np.argsort(rng.random((joints, vertices)), axis=1)[:, :10]
    np.put_along_axis(regressor, chosen, np.float32(1 / chosen.shape[1]), axis=1)
    parents = np.array(skeleton.parents)
    parents[0] = 2**32 - 1
    entries = {
        "v_template": normal(vertices, 3, scale=0.3),
        "shapedirs": normal(vertices, 3, directions, scale=0.01),
        "posedirs": normal(vertices, 3, 9 * (joints - 1), scale=0.002),
        "J_regressor": regressor,
        "weights": weights,
        "kintree_table": np.stack((parents, np.arange(joints))),
        "f": random_faces(rng, vertices, triangles),
    }
    if family in ("smplh", "smplx"):
        for side in "lr":
            entries[f"hands_mean{side}"] = normal(45, scale=0.1)
            entries[f"hands_components{side}"] = normal(45, 45, scale=0.2)
    if family == "mano":
        entries["hands_mean"], entries["hands_components"] = normal(45, scale=0.1), normal(45, 45, scale=0.2)
    if family == "smplx":
        entries |= random_landmarks(rng, triangles)
    return entries


def random_faces(rng: np.random.Generator, vertices: int, triangles: int) -> np.ndarray:
    """Different triangles of three different vertices."""
    corners = np.unique(rng.integers(0, vertices, (3 * triangles, 3)), axis=0)
    a, b, c = corners.T
    return rng.permutation(corners[(a != b) & (b != c) & (c != a)])[:triangles].astype(np.uint32)


def random_landmarks(rng: np.random.Generator, triangles: int) -> dict[str, np.ndarray]:
    return {
        "lmk_faces_idx": rng.integers(0, triangles, 51),
        "lmk_bary_coords": rng.dirichlet(np.ones(3), 51),
        "dynamic_lmk_faces_idx": rng.integers(0, triangles, (79, 17)),
        "dynamic_lmk_bary_coords": rng.dirichlet(np.ones(3), (79, 17)),
    }


def official_file(family: str, entries: Mapping[str, np.ndarray], folder: Path) -> Path:
    """Write entries as they are distributed: SMPL-X and SMPL+H as npz (with object arrays), the others as pickle with
    chumpy arrays and a SciPy sparse matrix."""
    folder.mkdir(parents=True, exist_ok=True)
    if family in ("smplh", "smplx"):
        path = folder / f"{family.upper()}_NEUTRAL.npz"
        names = {name: row for row, name in enumerate(FAMILIES[family].skeleton.names)}
        np.savez(path, **entries, joint2num=np.array(names, dtype=object), allow_pickle=np.array(True))
        return path
    path = folder / ("MANO_RIGHT.pkl" if family == "mano" else f"{family.upper()}_NEUTRAL.pkl")
    with fake_classes({"chumpy.ch": ("Ch",), "scipy.sparse.csc": ("csc_matrix",)}) as made:
        content: dict[str, Any] = dict(entries)
        for key in ("shapedirs", "posedirs", "v_template", "weights"):
            content[key] = instance(made["chumpy.ch.Ch"], {"x": entries[key], "_dirty_vars": set(), "_itr": None})
        content["J_regressor"] = instance(made["scipy.sparse.csc.csc_matrix"], by_column(entries["J_regressor"]))
        content["bs_type"] = "lrotmin"
        path.write_bytes(pickle.dumps(content, protocol=2))
    return path


def by_column(dense: np.ndarray) -> dict[str, Any]:
    """What a `scipy.sparse.csc_matrix` keeps."""
    columns, rows = dense.T.nonzero()
    pointers = np.r_[0, np.bincount(columns, minlength=dense.shape[1]).cumsum()]
    return {
        "_shape": dense.shape,
        "maxprint": 50,
        "indices": rows.astype(np.int32),
        "indptr": pointers.astype(np.int32),
        "data": dense[rows, columns],
    }


@contextmanager
def fake_classes(modules: Mapping[str, tuple[str, ...]]) -> Iterator[dict[str, type]]:
    """Classes under the names of packages that are absent, for as long as a pickle is being written."""
    parts = [name.split(".") for name in modules]
    names = {".".join(part[:end]) for part in parts for end in range(1, len(part) + 1)}
    before = {name: sys.modules.get(name) for name in names}
    made = {}
    for name in sorted(names):
        sys.modules[name] = types.ModuleType(name)
        for noun in modules.get(name, ()):
            made[f"{name}.{noun}"] = type(noun, (), {"__module__": name})
            setattr(sys.modules[name], noun, made[f"{name}.{noun}"])
    try:
        yield made
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def instance(cls: type, state: Mapping[str, Any]) -> Any:
    made = cls()
    made.__dict__.update(state)
    return made


@dataclass(frozen=True)
class Reference:
    vertices: np.ndarray
    joints: np.ndarray


def reference(
    entries: Mapping[str, np.ndarray],
    skeleton: Skeleton,
    *,
    betas: np.ndarray,
    expression: np.ndarray,
    rotations: np.ndarray,
    transl: np.ndarray,
    expression_start: int,
) -> Reference:
    """One person by SMPL's equations 2 to 4 and 6 to 10 (SMPL-X eq. 2), in float64, with 4×4 matrices."""
    array = {key: np.asarray(value, dtype=np.float64) for key, value in entries.items() if key != "kintree_table"}
    weights = array["weights"] / array["weights"].sum(1, keepdims=True)
    shape = array["shapedirs"][..., : len(betas)]
    faces = array["shapedirs"][..., expression_start : expression_start + len(expression)]
    rest = array["v_template"] + shape @ betas + faces @ expression
    joints = array["J_regressor"] @ rest
    features = np.concatenate([(rotation - np.eye(3)).ravel() for rotation in rotations[1:]])
    rest = rest + array["posedirs"] @ features
    world: list[np.ndarray] = []
    for joint, parent in enumerate(skeleton.parents):
        local = np.eye(4)
        local[:3, :3] = rotations[joint]
        local[:3, 3] = joints[joint] - (joints[parent] if parent >= 0 else 0)
        world.append(world[parent] @ local if parent >= 0 else local)
    positions = np.stack([matrix[:3, 3] for matrix in world])
    vertices = np.zeros_like(rest)
    for joint, matrix in enumerate(world):
        away = np.eye(4)
        away[:3, 3] = -joints[joint]
        moved = np.c_[rest, np.ones(len(rest))] @ (matrix @ away).T
        vertices += weights[:, joint, None] * moved[:, :3]
    return Reference(vertices + transl, positions + transl)
