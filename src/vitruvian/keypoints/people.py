"""The people of some pictures as one record: who is seen, where, in which picture, by which camera."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Bool
from torch import Tensor

from vitruvian.errors import InputError, ShapeError
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.depth_cues import DepthCues
from vitruvian.keypoints.formats import common_format
from vitruvian.keypoints.observations import Keypoints
from vitruvian.tensors import BatchRecord, column, concatenate_records

NO_TRACK = -1
UNKNOWN_GENDER = ""
GENDERS = ("neutral", "female", "male")
_COLUMNS = ("picture", "name", "person", "frame", "track", "gender", "source")


@dataclass(frozen=True, eq=False)
class People(BatchRecord):
    """N people seen in pictures, one row each; made by `detect`, `read_keypoints` and the readers of the commands.

    Attributes:
        keypoints: `(N, K)`, pixels of each person's picture.
        camera: the camera of each person's picture; None where not even the size of the pictures is known.
        picture: identity of the picture: its path relative to the inputs of the run. `x/a.jpg` and `y/a.jpg` are two.
        name: name of the picture for people to read.
        person: number of the person within the picture.
        frame: number of the picture within a sequence; 0 where there is none.
        track: number of the person within a sequence, the same in all its pictures; -1 where nobody was followed.
        gender: "neutral", "female" or "male": the shape space of the person; "" where nothing is known.
        source: where the keypoints came from, in words.
        cues: which way the bones of each person point, where their pictures were asked; None where none was.
    """

    keypoints: Keypoints
    camera: Camera | None
    picture: tuple[str, ...] = column()
    name: tuple[str, ...] = column()
    person: tuple[int, ...] = column()
    frame: tuple[int, ...] = column()
    track: tuple[int, ...] = column()
    gender: tuple[str, ...] = column()
    source: tuple[str, ...] = column()
    cues: DepthCues | None = None

    def __post_init__(self) -> None:
        if self.keypoints.confidence.dim() != 2:
            raise ShapeError(
                "keypoints of people need one person axis",
                seen=tuple(self.keypoints.confidence.shape),
                expected="(person, keypoint)",
            )
        count = self.keypoints.confidence.shape[0]
        if self.camera is not None and tuple(self.camera.focal_px.shape) != (count, 2):
            raise InputError("one camera per person is needed", seen=_num_cameras(self.camera), expected=count)
        if self.cues is not None and tuple(self.cues.confidence.shape[:-1]) != (count,):
            raise InputError(
                "one row of depth cues per person is needed", seen=tuple(self.cues.confidence.shape), expected=count
            )
        for name in _COLUMNS:
            if len(getattr(self, name)) != count:
                raise ShapeError(f"the column {name} does not match", seen=len(getattr(self, name)), expected=count)
        odd = sorted({gender for gender in self.gender if gender not in (*GENDERS, UNKNOWN_GENDER)})
        if odd:
            raise InputError("unknown gender", seen=", ".join(odd), expected=", ".join(GENDERS))

    @staticmethod
    def in_picture(
        keypoints: Keypoints,
        camera: Camera | None = None,
        *,
        picture: str = "",
        name: str | None = None,
        frame: int = 0,
        source: str = "",
        gender: str = UNKNOWN_GENDER,
        cues: DepthCues | None = None,
    ) -> "People":
        """Everyone in one picture.

        Args:
            keypoints: `(N, K)`, or `(K,)` of one person.
            camera: of the picture, or one per person; None where unknown.
            picture: identity of the picture.
            name: for people to read; that of the last part of `picture` if None.
            cues: what the picture tells of their bones.
        """
        if keypoints.confidence.dim() == 1:
            keypoints = keypoints[None]
        count = keypoints.confidence.shape[0] if keypoints.confidence.dim() == 2 else 0
        if camera is not None and camera.focal_px.dim() == 1:
            camera = camera.map(lambda x: x.expand(count, -1))
        shown = picture.rpartition("/")[2] if name is None else name
        return People(
            keypoints,
            camera,
            picture=(picture,) * count,
            name=(shown,) * count,
            person=tuple(range(count)),
            frame=(frame,) * count,
            track=(NO_TRACK,) * count,
            gender=(gender,) * count,
            source=(source,) * count,
            cues=cues,
        )

    @staticmethod
    def nobody(format: str) -> "People":
        """No people, in a keypoint format."""
        return People.in_picture(Keypoints.empty(format), Camera(*(torch.zeros(0, 2) for _ in range(3))))

    def __len__(self) -> int:
        return len(self.picture)

    @property
    def format(self) -> str:
        """Name of the keypoint format."""
        return self.keypoints.format

    @property
    def moments(self) -> tuple[tuple[str, int], ...]:
        """Picture and frame of each person."""
        return tuple(zip(self.picture, self.frame, strict=True))

    def to_format(self, name: str) -> Self:
        """The same people with their keypoints in another format (see `Keypoints.to_format`)."""
        return replace(self, keypoints=self.keypoints.to_format(name))

    def with_camera(self, camera: Camera) -> Self:
        """The same people before another camera, or one camera per person.

        Raises:
            InputError: the number of cameras is not that of the people.
        """
        if camera.focal_px.dim() == 1:
            camera = camera.map(lambda x: x.expand(len(self), -1))
        return replace(self, camera=camera)

    def with_cues_absent(self) -> Self:
        """The same people, of whose bones no picture tells anything."""
        confidence = self.keypoints.confidence
        return replace(self, cues=DepthCues.absent(len(self), dtype=confidence.dtype, device=confidence.device))

    @property
    def known_camera(self) -> Camera:
        """The cameras.

        Raises:
            InputError: not even the size of the pictures is known.
        """
        if self.camera is None:
            raise InputError(
                "the size of the picture is not known",
                expected="a camera",
                hint="pass vitruvian.Camera.from_image_size(width, height)",
            )
        return self.camera

    def rows_of(self, picture: str) -> Bool[Tensor, "person"]:
        """Which people are in a picture."""
        return torch.tensor([name == picture for name in self.picture], dtype=torch.bool)


def join_people(groups: Sequence[People]) -> People:
    """The people of several pictures as one record, in the format that keeps every point that any of them has.

    Raises:
        InputError: nothing to join, or cameras that are known for some people only.
    """
    if not groups:
        raise InputError("no pictures given", expected="the people of at least one picture")
    common = common_format([people.format for people in groups])
    joined = [people.to_format(common) for people in groups]
    known = {people.camera is not None for people in joined if len(people)}
    if len(known) > 1:
        raise InputError(
            "the camera is known for some of the people only", hint="people.with_camera(Camera.from_image_size(...))"
        )
    if known == {True}:
        joined = [people for people in joined if people.camera is not None]
    elif known == {False}:
        joined = [people for people in joined if people.camera is None]
    if any(people.cues is not None for people in joined):
        joined = [people if people.cues is not None else people.with_cues_absent() for people in joined]
    return concatenate_records(joined)


def _num_cameras(camera: Camera) -> int:
    return 1 if camera.focal_px.dim() == 1 else camera.focal_px.shape[0]
