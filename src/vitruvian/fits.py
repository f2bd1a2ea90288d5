"""The fitted people of one run as one record, and the file `fits.npz` that keeps them."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitruvian.assets import read_arrays
from vitruvian.bodies.model import BodyModel, PosedBody
from vitruvian.bodies.params import BodyParams
from vitruvian.bodies.skeletons import FLAME, MANO_LEFT, MANO_RIGHT, SMPL, SMPLH, SMPLX, Skeleton
from vitruvian.errors import InputError, ModelFileError, ShapeError
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.people import NO_TRACK
from vitruvian.output import replacing
from vitruvian.tensors import BatchRecord, column, shared

UNUSABLE = ("failed", "no_evidence")
"""Statuses of people who have no fit; every other status means a usable one."""

_SKELETONS = (SMPLX, SMPLH, SMPL, FLAME, MANO_LEFT, MANO_RIGHT)


def package_version() -> str:
    """Version of the installed package."""
    try:
        return version("vitruvian")
    except PackageNotFoundError:
        return "0"


PARTS = ("body", "hands", "face")
"""Parts of a person whose reprojection errors are told apart."""


@dataclass(frozen=True, eq=False)
class Fit(BatchRecord):
    """One fitted person; the attributes are those of `Fits`, for one row."""

    params: BodyParams
    camera: Camera
    cost: Float[Tensor, ""]
    reprojection_px: Float[Tensor, ""]
    reprojection_parts_px: Float[Tensor, "part"]
    status: str
    image: str
    picture: str
    person: int
    frame: int
    track: int
    person_gender: str
    source: str
    prior: str
    verdict: str
    reason: str

    @property
    def usable(self) -> bool:
        return self.status not in UNUSABLE


@dataclass(frozen=True, eq=False)
class Fits(BatchRecord):
    """People fitted in one run, one row each; `fits[i]` is one person, slices, lists and masks give several.

    The columns from `image` to `source` are those of `People`. Where a column is not given, it is filled with what
    nothing is known of.

    Attributes:
        params: rotations, shape, expression and translation; the translation places the person in the camera frame.
        camera: the camera that took the picture of each person.
        cost: value of the objective at the end.
        reprojection_px: mean distance between seen and projected keypoints, weighted by confidence.
        status: how each fit ended: `converged`, `iteration_limit`, `stalled` (usable), `failed`, `no_evidence`.
        image: name of the picture or keypoint file, for people to read.
        person: number of the person within the picture.
        frame: number of the picture within a sequence; 0 where there is none.
        skeleton: joints that the rotations belong to.
        body: family of the body and digest of its file, `family:digest`.
        gender: gender of the body model.
        config: the configuration of the run, as JSON.
        version: version of the package that made the fits.
        reprojection_parts_px: `(N, 3)`, the same distance over the keypoints of body, hands and face alone; NaN where
            none of a part was seen.
        picture: identity of the picture: its path relative to the inputs of the run.
        track: number of the person within a sequence; -1 where nobody was followed.
        person_gender: what is known of the person's shape space; "" for nothing.
        source: where the keypoints came from.
        prior: the belief under which the row was fitted.
        verdict: `good`, `doubtful` or `bad`, from what can be seen of the fit; "" where it was not judged.
        reason: why, in words.
    """

    params: BodyParams
    camera: Camera
    cost: Float[Tensor, "person"]
    reprojection_px: Float[Tensor, "person"]
    status: tuple[str, ...] = column()
    image: tuple[str, ...] = column()
    person: tuple[int, ...] = column()
    frame: tuple[int, ...] = column()
    skeleton: Skeleton = shared()
    body: str = shared()
    gender: str = shared(default="neutral")
    config: str = shared(default="{}")
    version: str = shared(default="")
    reprojection_parts_px: Float[Tensor, "person part"] | None = None
    picture: tuple[str, ...] = column(default=())
    track: tuple[int, ...] = column(default=())
    person_gender: tuple[str, ...] = column(default=())
    source: tuple[str, ...] = column(default=())
    prior: tuple[str, ...] = column(default=())
    verdict: tuple[str, ...] = column(default=())
    reason: tuple[str, ...] = column(default=())

    def __post_init__(self) -> None:
        count = len(self.status)
        for name, filling in _FILLINGS.items():
            if not getattr(self, name):
                object.__setattr__(self, name, (filling,) * count)
        if not any(self.picture):
            object.__setattr__(self, "picture", self.image)
        if self.reprojection_parts_px is None:
            parts = torch.full_like(self.reprojection_px, math.nan)[:, None].repeat(1, len(PARTS))
            object.__setattr__(self, "reprojection_parts_px", parts)
        lengths = {name: len(getattr(self, name)) for name in (*_COLUMNS, *_FILLINGS)}
        if any(length != count for length in lengths.values()):
            raise ShapeError("columns of different lengths", seen=lengths, expected=f"{count} rows")

    def __len__(self) -> int:
        return len(self.status)

    @overload
    def __getitem__(self, index: int) -> Fit: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | Tensor) -> "Fits": ...
    def __getitem__(self, index: Any) -> "Fit | Fits":
        if not isinstance(index, int):
            return super().__getitem__(index)
        row = range(len(self))[index]
        values = {f.name: getattr(self, f.name) for f in fields(Fit)}
        return Fit(**{name: value[row] for name, value in values.items()})

    def __iter__(self) -> Iterator[Fit]:
        return (self[row] for row in range(len(self)))

    @property
    def usable(self) -> Bool[Tensor, "person"]:
        """Which people have a fit."""
        return torch.tensor([status not in UNUSABLE for status in self.status], dtype=torch.bool)

    @property
    def family(self) -> str:
        """Family of the body: `open`, `smplx`, ..."""
        return self.body.partition(":")[0]

    def pose(self, body: BodyModel) -> PosedBody:
        """The fitted people, posed, in their camera frames.

        Raises:
            InputError: the body is not of the family that was fitted, or its shape space is another.
        """
        if body.skeleton != self.skeleton:
            raise InputError("these people were fitted with another body", seen=body.family, expected=self.family)
        if body_name(body) != self.body:
            raise InputError(
                "shapes of one body mean other shapes on another",
                seen=f"{body_name(body)}, {body.gender}",
                expected=f"{self.body}, {self.gender}",
                hint="load_body(family, gender=fits.gender), with the file that was fitted",
            )
        params = self.params.to(dtype=body.dtype, device=body.device)
        return body.with_shape(params.betas, params.expression).with_pose(params.rotations, params.transl)

    def save(self, path: Path | str) -> Path:
        """Write `fits.npz`: float32 arrays that NumPy reads without pickle (`docs/fitting.md` lists them).

        Raises:
            OutputError: the file cannot be written.
        """
        path = Path(path)
        if path.suffix != ".npz":
            path = path.with_name(path.name + ".npz")
        with replacing(path) as temporary:
            np.savez_compressed(temporary, **self._arrays())
        return path

    def _arrays(self) -> dict[str, Any]:
        def plain(values: Tensor) -> np.ndarray:
            return values.detach().cpu().to(torch.float32).numpy()

        parts = self.reprojection_parts_px
        assert parts is not None
        blocks = self.params.axis_angle_blocks(self.skeleton)
        return {
            **{name: plain(values) for name, values in blocks.items()},
            "betas": plain(self.params.betas),
            "expression": plain(self.params.expression),
            "transl": plain(self.params.transl),
            "focal_px": plain(self.camera.focal_px),
            "center_px": plain(self.camera.center_px),
            "image_size": plain(self.camera.image_size),
            "image": np.array(self.image, dtype=np.str_),
            "person": np.array(self.person, dtype=np.int64),
            "frame": np.array(self.frame, dtype=np.int64),
            "status": np.array(self.status, dtype=np.str_),
            "cost": plain(self.cost),
            "reprojection_px": plain(self.reprojection_px),
            **{f"reprojection_{part}_px": plain(parts[:, k]) for k, part in enumerate(PARTS)},
            **{name: np.array(getattr(self, name), dtype=_kind(filling)) for name, filling in _FILLINGS.items()},
            "body": np.array(self.body),
            "gender": np.array(self.gender),
            "version": np.array(self.version or package_version()),
            "config": np.array(self.config),
        }


def load_fits(path: Path | str) -> Fits:
    """Read what `Fits.save` wrote.

    Raises:
        ModelFileError: the file is missing, damaged, or holds no fits.
    """
    arrays = read_arrays(path)
    name = Path(path).name
    try:
        tensors = {key: torch.from_numpy(np.asarray(arrays[key], dtype=np.float32)) for key in _TENSORS}
        words = {key: np.asarray(arrays[key]) for key in (*_COLUMNS, *_SCALARS)}
    except KeyError as error:
        raise _no_fits(name, f"no entry {error}") from None
    except (TypeError, ValueError) as error:
        raise _no_fits(name, error) from None
    count = len(tensors["cost"])
    lengths = {key: tuple(tensors[key].shape[:1]) for key in _TENSORS}
    lengths |= {key: tuple(words[key].shape[:1]) for key in _COLUMNS}
    if any(length != (count,) for length in lengths.values()):
        raise _no_fits(name, f"entries of different lengths: {lengths}")
    body = str(words["body"])
    skeleton = _skeleton_of(arrays, body, name)
    blocks = {b.name: torch.from_numpy(np.asarray(arrays[b.name], dtype=np.float32)) for b in skeleton.blocks}
    params = BodyParams.from_axis_angle_blocks(
        skeleton, betas=tensors["betas"], expression=tensors["expression"], transl=tensors["transl"], **blocks
    )
    return Fits(
        params=params,
        camera=Camera(tensors["focal_px"], tensors["center_px"], tensors["image_size"]),
        cost=tensors["cost"],
        reprojection_px=tensors["reprojection_px"],
        status=tuple(map(str, words["status"])),
        image=tuple(map(str, words["image"])),
        person=tuple(map(int, words["person"])),
        frame=tuple(map(int, words["frame"])),
        skeleton=skeleton,
        body=body,
        gender=str(words["gender"]),
        config=str(words["config"]),
        version=str(words["version"]),
        reprojection_parts_px=_parts(arrays, count, name),
        **{key: _optional_column(arrays, key, count, name) for key in _FILLINGS},
    )


def _parts(arrays: Any, count: int, name: str) -> Tensor | None:
    keys = [f"reprojection_{part}_px" for part in PARTS]
    if not all(key in arrays for key in keys):
        return None
    columns = [torch.from_numpy(np.asarray(arrays[key], dtype=np.float32)) for key in keys]
    if any(tuple(column.shape) != (count,) for column in columns):
        raise _no_fits(name, f"{', '.join(keys)} of other lengths than cost")
    return torch.stack(columns, dim=-1)


def _optional_column(arrays: Any, key: str, count: int, name: str) -> tuple[Any, ...]:
    if key not in arrays:
        return ()
    values = np.asarray(arrays[key])
    if values.shape != (count,):
        raise _no_fits(name, f"{key} of shape {values.shape}, expected ({count},)")
    return tuple(type(_FILLINGS[key])(value) for value in values)


def _kind(filling: Any) -> type:
    return np.int64 if isinstance(filling, int) else np.str_


_FILLINGS: dict[str, Any] = {
    "picture": "", "track": NO_TRACK, "person_gender": "", "source": "", "prior": "", "verdict": "", "reason": "",
}  # fmt: skip
"""Columns that files of earlier versions lack, with what says that nothing is known."""
_TENSORS = ("betas", "expression", "transl", "focal_px", "center_px", "image_size", "cost", "reprojection_px")
_COLUMNS = ("image", "person", "frame", "status")
_SCALARS = ("body", "gender", "version", "config")


def _skeleton_of(arrays: Any, body: str, name: str) -> Skeleton:
    """The skeleton whose pose blocks the file holds, each with its number of joints."""
    for skeleton in _SKELETONS:
        if skeleton is MANO_RIGHT or skeleton is MANO_LEFT:
            side = "left" if "left" in body.partition(":")[0] else "right"
            if not skeleton.names[0].startswith(side):
                continue
        blocks = skeleton.blocks
        if all(b.name in arrays and np.asarray(arrays[b.name])[0:1].size in (0, 3 * len(b)) for b in blocks):
            return skeleton
    raise _no_fits(name, f"no known set of pose blocks for the body {body}")


def _no_fits(name: str, seen: object) -> ModelFileError:
    return ModelFileError(
        f"{name} holds no fitted people",
        seen=seen,
        expected="a fits.npz written by vitruvian",
        hint="vitruvian fit -o OUT",
    )


def config_json(config: Any) -> str:
    """A configuration record as JSON, paths as text."""
    return json.dumps(config, default=str, sort_keys=True)


def body_name(body: BodyModel) -> str:
    """`family:digest` of a body model, as it is saved with fits."""
    family = body.family
    if family == "mano":
        family = "mano_left" if body.skeleton == MANO_LEFT else "mano_right"
    return f"{family}:{body.digest}"
