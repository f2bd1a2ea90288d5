"""The fitted people of one run as one record, and the file `fits.npz` that keeps them."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitruvian.assets import border, read_plain_arrays
from vitruvian.assets.columns import Columns
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
STATUSES = ("converged", "iteration_limit", "stalled", *UNUSABLE)

_SKELETONS = (SMPLX, SMPLH, SMPL, FLAME, MANO_LEFT, MANO_RIGHT)


def package_version() -> str:
    """Version of the installed package."""
    try:
        return version("vitruvian")
    except PackageNotFoundError:
        return "0"


PARTS = ("body", "hands", "face")
"""Parts of a person whose reprojection errors are told apart."""


@dataclass(frozen=True, eq=False, repr=False)
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

    def __repr__(self) -> str:
        return f"Fit({self.image}, person {self.person}: {self.status}, {float(self.reprojection_px):.1f} px)"


@dataclass(frozen=True, eq=False, repr=False)
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

    def __repr__(self) -> str:
        count = {status: self.status.count(status) for status in sorted(set(self.status))}
        usable = self.reprojection_px[self.usable.to(self.reprojection_px.device)]
        error = f"; {float(usable.median()):.1f} px in the median" if len(usable) else ""
        ends = ", ".join(f"{number} {status}" for status, number in count.items())
        people, pictures = len(self), len(set(self.image))
        return f"Fits({people} people in {pictures} pictures, body {self.family}: {ends or 'nobody'}{error})"

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
        ModelFileError: the file is missing, damaged, or holds no fits; or an entry has another shape or type, a status
            that is not known, or, for people who have a fit, values that are not finite. The entry is named.
    """
    with border(ModelFileError, path, what="a fits.npz written by vitruvian"):
        return _load(path)


def _load(path: Path | str) -> Fits:
    arrays = read_plain_arrays(Path(path))
    name = Path(path).name
    columns = Columns(arrays, name, rows_of="status")
    words = {key: columns.word(key) for key in _WORDS}
    columns.check_known("status", STATUSES)
    status = tuple(columns.texts("status").tolist())
    usable = ~np.isin(columns.texts("status"), UNUSABLE)

    def tensor(key: str, shape: tuple[int | None, ...]) -> Tensor:
        return torch.from_numpy(columns.numbers(key, shape, finite=usable))

    tensors = {key: tensor(key, shape) for key, shape in _TENSORS.items()}
    person, frame = (tuple(map(int, columns.whole(key))) for key in ("person", "frame"))
    skeleton = _skeleton_of(arrays, words["body"], name)
    blocks = {b.name: tensor(b.name, (3,) if len(b) == 1 else (len(b), 3)) for b in skeleton.blocks}
    params = BodyParams.from_axis_angle_blocks(
        skeleton, betas=tensors["betas"], expression=tensors["expression"], transl=tensors["transl"], **blocks
    )
    return Fits(
        params=params,
        camera=Camera(tensors["focal_px"], tensors["center_px"], tensors["image_size"]),
        cost=tensors["cost"],
        reprojection_px=tensors["reprojection_px"],
        status=status,
        image=tuple(columns.texts("image").tolist()),
        person=person,
        frame=frame,
        skeleton=skeleton,
        body=words["body"],
        gender=words["gender"],
        config=words["config"],
        version=words["version"],
        reprojection_parts_px=_parts(columns),
        **{key: _optional_column(columns, key) for key in _FILLINGS},
    )


def _parts(columns: Columns) -> Tensor | None:
    keys = [f"reprojection_{part}_px" for part in PARTS]
    if not all(columns.has(key) for key in keys):
        return None
    nobody = np.zeros(columns.count, dtype=bool)  # NaN is right where nothing of a part was seen
    return torch.stack([torch.from_numpy(columns.numbers(key, (), finite=nobody)) for key in keys], dim=-1)


def _optional_column(columns: Columns, key: str) -> tuple[Any, ...]:
    if not columns.has(key):
        return ()
    if isinstance(_FILLINGS[key], int):
        return tuple(map(int, columns.whole(key)))
    return tuple(columns.texts(key).tolist())


def _kind(filling: Any) -> type:
    return np.int64 if isinstance(filling, int) else np.str_


_FILLINGS: dict[str, Any] = {
    "picture": "", "track": NO_TRACK, "person_gender": "", "source": "", "prior": "", "verdict": "", "reason": "",
}  # fmt: skip
"""Columns that files of earlier versions lack, with what says that nothing is known."""
_TENSORS: Mapping[str, tuple[int | None, ...]] = {
    "betas": (None,), "expression": (None,), "transl": (3,), "focal_px": (2,), "center_px": (2,), "image_size": (2,),
    "cost": (), "reprojection_px": (),
}  # fmt: skip
"""Shape of the values of one person; None is any size."""
_COLUMNS = ("image", "person", "frame", "status")
_WORDS = ("body", "gender", "version", "config")


def _skeleton_of(arrays: Any, body: str, name: str) -> Skeleton:
    """The skeleton whose pose blocks the file holds, each with its number of joints."""
    present = {b.name for skeleton in _SKELETONS for b in skeleton.blocks if b.name in arrays}
    for skeleton in _SKELETONS:
        if skeleton is MANO_RIGHT or skeleton is MANO_LEFT:
            side = "left" if "left" in body.partition(":")[0] else "right"
            if not skeleton.names[0].startswith(side):
                continue
        blocks = skeleton.blocks
        # All of them and no more: without its jaw, an SMPL-X pose looks like one of SMPL+H.
        if present == {b.name for b in blocks} and all(arrays[b.name][0:1].size in (0, 3 * len(b)) for b in blocks):
            return skeleton
    raise _no_fits(name, f"no known set of pose blocks for the body {body}: {', '.join(sorted(present))}")


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
