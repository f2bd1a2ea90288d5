"""From file names to people with keypoints and cameras; files that cannot be used are set aside with their reason."""

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vitruvian.errors import InputError, NoPersonError, VitruvianError
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.detectors import Detector, MediaPipeDetector
from vitruvian.keypoints.images import IMAGE_SUFFIXES, Photograph, image_files, read_image
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.openpose import image_stem, keypoint_files, read_keypoints
from vitruvian.keypoints.people import People, join_people
from vitruvian.progress import Progress, silent

_MARGIN = 1.05


@dataclass(frozen=True)
class Failure:
    """An input, or a person in it, that could not be used, and why."""

    name: str
    error: VitruvianError

    @property
    def reason(self) -> str:
        """What is wrong and what was seen, without the hint."""
        seen = f" ({self.error.seen})" if self.error.seen is not None else ""
        return f"{self.error.message}{seen}"

    @property
    def unreadable(self) -> bool:
        """Whether the input could not even be read, as against read but holding nobody."""
        return not isinstance(self.error, NoPersonError)


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
    """

    keypoints: Path | None = None
    focal_px: float | None = None
    image_size: tuple[int, int] | None = None


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
    found: list[tuple[SourcePicture, Keypoints]] = []
    for count, file in enumerate(everything):
        progress(step, count, len(everything))
        try:
            found.append(reader.keypoints_alone(file) if file in json_files else reader.photograph(file))
        except InputError as error:
            failures.append(Failure(reader.name(file), error))
    progress(step, len(everything), len(everything))
    found, notes = _with_guessed_sizes(found, options)
    groups = [
        People.in_picture(
            keypoints,
            picture.camera,
            picture=picture.identity,
            name=picture.name,
            source=reader.source(picture),
        )
        for picture, keypoints in found
    ]
    people = join_people(groups) if groups else People.nobody("openpose-body25")
    return Gathered(people, tuple(picture for picture, _ in found), tuple(failures), tuple(notes))


def identities(files: Sequence[Path]) -> dict[Path, str]:
    """Each file by its path below the folder that all of them share, with slashes; no two are the same."""
    absolute = {file: Path(os.path.abspath(file)) for file in files}
    if not absolute:
        return {}
    base = os.path.commonpath([str(path.parent) for path in absolute.values()])
    return {file: path.relative_to(base).as_posix() for file, path in absolute.items()}


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
        return file.name if self._times[file.name] < 2 else self._identity[file]

    def source(self, picture: SourcePicture) -> str:
        """Where the keypoints of a picture came from, in words."""
        if picture.photograph is None or self.by_stem is not None:
            return "keypoint file"
        return "detected"

    def photograph(self, file: Path) -> tuple[SourcePicture, Keypoints]:
        photograph = read_image(file)
        keypoints = self._of_file(file) if self.by_stem is not None else self._detected(photograph)
        width, height = photograph.image_size
        keypoints = keypoints.sanitized((float(width), float(height)))
        camera = photograph.camera(focal_px=self.options.focal_px)
        return self._picture(file, self._stem(file.stem), file, camera), keypoints

    def keypoints_alone(self, file: Path) -> tuple[SourcePicture, Keypoints]:
        keypoints = _read_people(file)
        if self.options.image_size is not None:
            width, height = self.options.image_size
            camera = Camera.from_image_size(width, height, focal_px=self.options.focal_px)
            keypoints = keypoints.sanitized((float(width), float(height)))
        else:  # guessed from all files together, in `_with_guessed_sizes`
            camera = Camera(torch.ones(2), torch.zeros(2), torch.zeros(2))
        return self._picture(file, self._stem(image_stem(file)), None, camera), keypoints

    def _picture(self, file: Path, stem: str, photograph: Path | None, camera: Camera) -> SourcePicture:
        return SourcePicture(self._identity[file], self.name(file), stem, photograph, camera)

    def _of_file(self, file: Path) -> Keypoints:
        assert self.by_stem is not None
        if file.stem not in self.by_stem:
            raise InputError(
                "no keypoint file belongs to the photograph",
                expected=f"{file.stem}_keypoints.json in {self.options.keypoints}",
            )
        return _read_people(self.by_stem[file.stem])

    def _detected(self, photograph: Photograph) -> Keypoints:
        if self._detector is None:
            self._detector = MediaPipeDetector()
        keypoints = self._detector.detect(photograph)
        if not len(keypoints.confidence):
            raise NoPersonError(
                "nobody was found in the picture", hint="give keypoints of your own with --keypoints FOLDER"
            )
        return keypoints

    def _stem(self, stem: str) -> str:
        """A name for output files: that of the input, numbered where it is taken."""
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
        found = image_files(path)
        if found:
            files += found
            continue
        kinds = ", ".join(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES[:6])
        hint = "for keypoint files: vitruvian fit --keypoints FOLDER" if any(path.glob("*.json")) else None
        failures.append(
            Failure(path.name or str(path), InputError("the folder holds no photographs", expected=kinds, hint=hint))
        )
    return list(dict.fromkeys(files)), failures


def _read_people(file: Path) -> Keypoints:
    keypoints = read_keypoints(file)
    if not len(keypoints.confidence):
        raise NoPersonError("the keypoint file holds nobody", seen=file.name)
    return keypoints


def _with_guessed_sizes(
    found: list[tuple[SourcePicture, Keypoints]], options: InputOptions
) -> tuple[list[tuple[SourcePicture, Keypoints]], list[str]]:
    """Cameras of keypoints that came without photographs and without a size: as large as all keypoints of the run."""
    unknown = [keypoints for picture, keypoints in found if float(picture.camera.image_size[0]) == 0]
    if not unknown:
        return found, []
    corners = [keypoints.bounding_box()[..., 2:].reshape(-1, 2) for keypoints in unknown]
    extent = torch.cat(corners).clamp_min(0).amax(0)
    width, height = (max(64, math.ceil(float(side) * _MARGIN)) for side in extent)
    camera = Camera.from_image_size(width, height, focal_px=options.focal_px)
    known = [
        (replace(picture, camera=camera) if float(picture.camera.image_size[0]) == 0 else picture, keypoints)
        for picture, keypoints in found
    ]
    note = (
        f"The size of the pictures was not given; {width} × {height} pixels was guessed from the keypoints. "
        "Say --image-size WIDTH HEIGHT for true depth and perspective."
    )
    return known, [note]
