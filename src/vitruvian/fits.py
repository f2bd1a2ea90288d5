"""The fitted people of one run as one record, and the file `fits.npz` that keeps them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from vitruvian.errors import InputError, ModelFileError
from vitruvian.geometry.cameras import Camera
from vitruvian.output import replacing
from vitruvian.tensors import TensorRecord

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


@dataclass(frozen=True, eq=False, repr=False)
class Fit(TensorRecord):
    """One fitted person; the attributes are those of `Fits`, for one row."""

    params: BodyParams
    camera: Camera
    cost: Float[Tensor, ""]
    reprojection_px: Float[Tensor, ""]
    status: str
    image: str
    person: int
    frame: int

    @property
    def usable(self) -> bool:
        return self.status not in UNUSABLE

    def __repr__(self) -> str:
        return f"Fit({self.image}, person {self.person}: {self.status}, {float(self.reprojection_px):.1f} px)"


@dataclass(frozen=True, eq=False, repr=False)
class Fits(TensorRecord):
    """People fitted in one run, one row each; `fits[i]` is one person, slices, lists and masks give several.

    Attributes:
        params: rotations, shape, expression and translation; the translation places the person in the camera frame.
        camera: the camera that took the picture of each person.
        cost: value of the objective at the end.
        reprojection_px: root mean square distance between seen and projected keypoints, weighted by confidence.
        status: how each fit ended: `converged`, `iteration_limit`, `stalled` (usable), `failed`, `no_evidence`.
        image: name of the picture or keypoint file.
        person: number of the person within the picture.
        frame: number of the picture within a sequence; 0 where there is none.
        skeleton: joints that the rotations belong to.
        body: family of the body and digest of its file, `family:digest`.
        gender: gender of the body model.
        config: the configuration of the run, as JSON.
        version: version of the package that made the fits.
    """

    params: BodyParams
    camera: Camera
    cost: Float[Tensor, "person"]
    reprojection_px: Float[Tensor, "person"]
    status: tuple[str, ...]
    image: tuple[str, ...]
    person: tuple[int, ...]
    frame: tuple[int, ...]
    skeleton: Skeleton
    body: str
    gender: str = "neutral"
    config: str = "{}"
    version: str = ""

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
        if isinstance(index, int):
            row = range(len(self))[index]
            tensors = (self.params[row], self.camera[row], self.cost[row], self.reprojection_px[row])
            return Fit(*tensors, self.status[row], self.image[row], self.person[row], self.frame[row])
        kept = torch.arange(len(self))[index].tolist()
        return replace(
            self.map(lambda x: x[kept]),
            status=tuple(self.status[row] for row in kept),
            image=tuple(self.image[row] for row in kept),
            person=tuple(self.person[row] for row in kept),
            frame=tuple(self.frame[row] for row in kept),
        )

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
            InputError: the body is not of the family that was fitted.
        """
        if body.skeleton != self.skeleton:
            raise InputError("these people were fitted with another body", seen=body.family, expected=self.family)
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
        **words,
    )


_TENSORS: Mapping[str, tuple[int | None, ...]] = {
    "betas": (None,), "expression": (None,), "transl": (3,), "focal_px": (2,), "center_px": (2,), "image_size": (2,),
    "cost": (), "reprojection_px": (),
}  # fmt: skip
"""Shape of the values of one person; None is any size."""
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
