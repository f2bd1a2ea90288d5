"""From file names to people with keypoints and cameras; files that cannot be used are set aside with their reason."""

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from vitruvian.apps.failures import Failure, setting_aside
from vitruvian.errors import InputError, MissingPackageError, NoPersonError
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.depth_cues import DepthCues
from vitruvian.keypoints.detectors import Detector, MediaPipeDetector
from vitruvian.keypoints.images import Photograph, read_image
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.openpose import image_stem, keypoint_files, read_people
from vitruvian.keypoints.people import People, join_people
from vitruvian.keypoints.picture_cues import cues_in_picture
from vitruvian.keypoints.picture_files import IMAGE_SUFFIXES, folder_pictures
from vitruvian.keypoints.picture_size import guess_image_size
from vitruvian.progress import Progress, silent

_NAMED = 3
"""Pictures that a remark names; the others are counted."""
_LONGEST_STEM = 120
"""Bytes of the names of output files before their endings; systems allow 255."""


@dataclass(frozen=True, eq=False)
class SourcePicture:
    """One picture of a run.

    Attributes:
        identity: path relative to the inputs of the run; that of its people in `People.picture`.
        name: for people to read.
        stem: name without extension, unique in the run, for the files that are written.
        photograph: the file of the picture; None where there are only keypoints.
        camera: the camera of the picture.
    """

    identity: str
    name: str
    stem: str
    photograph: Path | None
    camera: Camera


@dataclass(frozen=True, eq=False)
class Gathered:
    """The people that could be read and their pictures, what could not be read, and remarks about guesses."""

    people: People
    pictures: tuple[SourcePicture, ...]
    failures: tuple[Failure, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class InputOptions:
    """What is known about the pictures from elsewhere.

    Attributes:
        keypoints: folder of OpenPose files, or one such file; None detects people in the photographs.
        focal_px: focal length in pixels; None takes the metadata of each photograph, else the image diagonal.
        image_size: width and height of the pictures that keypoints without photographs belong to; None guesses.
        depth_cues: ask photographs for depth cues too.
        keypoint_format: what the numbers of keypoint files mean; None tells it from the numbers.
    """

    keypoints: Path | None = None
    focal_px: float | None = None
    image_size: tuple[int, int] | None = None
    depth_cues: bool = False
    keypoint_format: str | None = None


@dataclass(frozen=True, eq=False)
class _Found:
    """What was read of one picture."""

    picture: SourcePicture
    keypoints: Keypoints
    cues: DepthCues | None = None
    notes: tuple[str, ...] = ()


def gather(
    inputs: Sequence[Path], options: InputOptions, *, detector: Detector | None = None, progress: Progress = silent
) -> Gathered:
    """Read photographs and keypoint files, and find people where keypoints are not given.

    A file that cannot be read, or holds nobody, becomes a `Failure`; the others go on.

    Args:
        inputs: photographs, OpenPose files, and folders of photographs; may be empty where keypoints are given.
        detector: finds people; None makes the MediaPipe one where it is needed.

    Raises:
        InputError: nothing was given at all, or the keypoint folder does not exist or is empty.
        MissingPackageError: people must be detected and the packages for it are missing.
    """
    files, failures = _expand(inputs)
    json_files = [file for file in files if file.suffix.lower() == ".json"]
    photographs = [file for file in files if file.suffix.lower() != ".json"]
    by_stem: dict[str, Path] | None = None
    if options.keypoints is not None:
        if not options.keypoints.exists():
            raise InputError("the keypoint folder does not exist", seen=options.keypoints)
        given = keypoint_files(options.keypoints) if options.keypoints.is_dir() else (options.keypoints,)
        if not given:
            raise InputError("no keypoint files in the folder", seen=options.keypoints, expected="*_keypoints.json")
        by_stem = {image_stem(file): file for file in given}
        if not photographs and not inputs:
            json_files += given
    if not (photographs or json_files or failures):
        raise InputError(
            "nothing to fit",
            expected="photographs, folders of photographs, or --keypoints FOLDER",
            hint="vitruvian demo",
        )
    everything = [*photographs, *json_files]
    reader = _Reader(options, detector, by_stem, identities(everything))
    step = "find people" if by_stem is None and photographs else "read keypoints"
    found: list[_Found] = []
    for count, file in enumerate(everything):
        progress(step, count, len(everything))
        with setting_aside(reader.name(file), failures, while_doing="reading this input"):
            found.append(reader.keypoints_alone(file) if file in json_files else reader.photograph(file))
    progress(step, len(everything), len(everything))
    groups = [
        People.in_picture(
            one.keypoints,
            one.picture.camera,
            picture=one.picture.identity,
            name=one.picture.name,
            source=reader.source(one.picture),
            cues=one.cues,
        )
        for one in found
    ]
    people = join_people(groups) if groups else People.nobody("openpose-body25")
    remarks = [(one.picture.name, note) for one in found for note in one.notes]
    return Gathered(people, tuple(one.picture for one in found), tuple(failures), tuple(_together(remarks)))


def identities(files: Sequence[Path]) -> dict[Path, str]:
    """Each file by its path below the folder that all of them share, with slashes; no two are the same."""
    absolute = {file: Path(os.path.abspath(file)) for file in files}
    if not absolute:
        return {}
    base = os.path.commonpath([str(path.parent) for path in absolute.values()])
    return {file: readable(path.relative_to(base).as_posix()) for file, path in absolute.items()}


def readable(name: str) -> str:
    """A file name as text that can be written anywhere: bytes that are not UTF-8 become question marks."""
    return name.encode("utf-8", "replace").decode()


class _Reader:
    """Reads the files of one run, each to its picture and the keypoints of everyone in it."""

    def __init__(
        self,
        options: InputOptions,
        detector: Detector | None,
        by_stem: dict[str, Path] | None,
        identity: dict[Path, str],
    ) -> None:
        self.options = options
        self.by_stem = by_stem
        self._detector = detector
        self._identity = identity
        self._times = Counter(file.name for file in identity)
        self._stems: set[str] = set()

    def name(self, file: Path) -> str:
        """The file's name, with its folders where another file of the run has the same."""
        return readable(file.name if self._times[file.name] < 2 else self._identity[file])

    def source(self, picture: SourcePicture) -> str:
        """Where the keypoints of a picture came from, in words."""
        if picture.photograph is None or self.by_stem is not None:
            return "keypoint file"
        return "detected"

    def photograph(self, file: Path) -> _Found:
        photograph = read_image(file)
        camera = photograph.camera(focal_px=self.options.focal_px)
        cues = None
        if self.by_stem is None:
            keypoints, cues = self._detected(photograph, camera)
        else:
            keypoints = self._of_file(file, photograph.image_size)
        keypoints, notes = _inside(keypoints, photograph.image_size)
        if cues is None and self.options.depth_cues:
            # Without the packages of the extra `detect` keypoints alone must do, as for keypoints without photographs.
            with suppress(MissingPackageError):
                cues = cues_in_picture(photograph, keypoints, camera)
        return _Found(self._picture(file, self._stem(file.stem), file, camera), keypoints, cues, notes)

    def keypoints_alone(self, file: Path) -> _Found:
        seen = self._read(file, self.options.image_size)
        size = self.options.image_size
        notes: tuple[str, ...] = ()
        if size is None and seen.camera is not None:
            width, height = (round(side) for side in seen.known_camera.image_size[0].tolist())
            size = (width, height)
        if size is None:
            guess = guess_image_size(seen.keypoints)
            size, notes = (guess.width, guess.height), (f"{guess.note} Say --image-size WIDTH HEIGHT.",)
        camera = Camera.from_image_size(*size, focal_px=self.options.focal_px)
        keypoints, dropped = _inside(seen.keypoints, size)
        picture = self._picture(file, self._stem(image_stem(file)), None, camera)
        return _Found(picture, keypoints, None, (*notes, *dropped))

    def _picture(self, file: Path, stem: str, photograph: Path | None, camera: Camera) -> SourcePicture:
        return SourcePicture(self._identity[file], self.name(file), stem, photograph, camera)

    def _of_file(self, file: Path, size: tuple[int, int]) -> Keypoints:
        assert self.by_stem is not None
        if file.stem not in self.by_stem:
            raise InputError(
                "no keypoint file belongs to the photograph",
                expected=f"{file.stem}_keypoints.json or {file.stem}.json in {self.options.keypoints}",
            )
        return self._read(self.by_stem[file.stem], size).keypoints

    def _read(self, file: Path, size: tuple[int, int] | None) -> People:
        people = read_people(file, format=self.options.keypoint_format, image_size=size)
        if not len(people):
            raise NoPersonError("the keypoint file holds nobody", seen=file.name)
        return people

    def _detected(self, photograph: Photograph, camera: Camera) -> tuple[Keypoints, DepthCues | None]:
        if self._detector is None:
            self._detector = MediaPipeDetector()
        cues = None
        if self.options.depth_cues and isinstance(self._detector, MediaPipeDetector):
            seen = self._detector.detect_with_cues(photograph, camera)
            keypoints, cues = seen.keypoints, seen.cues
        else:
            keypoints = self._detector.detect(photograph)
        if not len(keypoints.confidence):
            raise NoPersonError(
                "nobody was found in the picture", hint="give keypoints of your own with --keypoints FOLDER"
            )
        return keypoints, cues

    def _stem(self, stem: str) -> str:
        """A name for output files: that of the input, cut where it is long and numbered where it is taken."""
        stem = readable(stem).encode()[:_LONGEST_STEM].decode(errors="ignore")
        name, number = stem, 2
        while name.casefold() in self._stems:
            name, number = f"{stem}_{number}", number + 1
        self._stems.add(name.casefold())
        return name


def _expand(inputs: Sequence[Path]) -> tuple[list[Path], list[Failure]]:
    """Files in the order given; folders by the pictures in them."""
    files: list[Path] = []
    failures: list[Failure] = []
    for path in inputs:
        if not path.is_dir():
            files.append(path)
            continue
        listed = folder_pictures(path)
        failures += [Failure(readable(s.path.name), InputError("left out", seen=s.reason)) for s in listed.skipped]
        if listed.files:
            files += listed.files
        if listed.files or listed.skipped:
            continue
        kinds = ", ".join(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES[:6])
        hint = "for keypoint files: vitruvian fit --keypoints FOLDER" if any(path.glob("*.json")) else None
        failures.append(
            Failure(path.name or str(path), InputError("the folder holds no photographs", expected=kinds, hint=hint))
        )
    return list(dict.fromkeys(files)), failures


def _inside(keypoints: Keypoints, size: tuple[int, int]) -> tuple[Keypoints, tuple[str, ...]]:
    """The keypoints inside the picture, and what to say of the others and of what the reader guessed."""
    image_size = (float(size[0]), float(size[1]))
    dropped = int(keypoints.outside(image_size).sum())
    notes = list(keypoints.notes)
    if dropped:
        notes.append(f"{dropped} keypoints lie outside the picture of {size[0]} × {size[1]} pixels and are not used.")
    return replace(keypoints.sanitized(image_size), notes=()), tuple(notes)


def _together(remarks: Sequence[tuple[str, str]]) -> list[str]:
    """One line per remark, with the pictures that it concerns."""
    pictures: dict[str, list[str]] = {}
    for name, note in remarks:
        pictures.setdefault(note, []).append(name)
    lines = []
    for note, names in pictures.items():
        shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        lines.append(f"{shown}: {note}")
    return lines
