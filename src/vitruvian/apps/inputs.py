"""From file names to people with keypoints and cameras; files that cannot be used are set aside with their reason."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from vitruvian.apps.progress import Progress, silent
from vitruvian.errors import InputError, MissingPackageError, NoPersonError, VitruvianError
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.depth_cues import DepthCues
from vitruvian.keypoints.detectors import Detector, MediaPipeDetector
from vitruvian.keypoints.images import IMAGE_SUFFIXES, Photograph, image_files, read_image
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.openpose import image_stem, keypoint_files, read_keypoints
from vitruvian.keypoints.picture_cues import cues_in_picture
from vitruvian.tensors import concatenate_records

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
    """One picture and the people seen in it.

    Attributes:
        name: file name, for people to read.
        stem: name without extension, unique in the run, for the files that are written.
        photograph: the file of the picture; None where there are only keypoints.
        keypoints: `(person, K)`, pixels of the picture.
        camera: the camera of the picture.
        cues: which way the bones of each person point; None where the picture was not asked.
    """

    name: str
    stem: str
    photograph: Path | None
    keypoints: Keypoints
    camera: Camera
    cues: DepthCues | None = None


@dataclass(frozen=True, eq=False)
class Gathered:
    """What could be read, what could not, and remarks about guesses that were made."""

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
    """

    keypoints: Path | None = None
    focal_px: float | None = None
    image_size: tuple[int, int] | None = None
    depth_cues: bool = False


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
    stems = _Stems()
    pictures: list[SourcePicture] = []
    total = len(photographs) + len(json_files)
    for count, file in enumerate([*photographs, *json_files]):
        progress("find people" if by_stem is None and file in photographs else "read keypoints", count, total)
        try:
            if file in json_files:
                pictures.append(_keypoints_alone(file, options, stems))
            elif by_stem is not None:
                pictures.append(_with_given_keypoints(file, by_stem, options, stems))
            else:
                detector = detector or MediaPipeDetector()
                pictures.append(_with_detected_keypoints(file, detector, options, stems))
        except InputError as error:
            failures.append(Failure(file.name, error))
    progress("find people" if by_stem is None and photographs else "read keypoints", total, total)
    pictures, notes = _with_guessed_sizes(pictures, options)
    return Gathered(tuple(pictures), tuple(failures), tuple(notes))


class _Stems:
    """Names for output files: those of the inputs, numbered where two are equal."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def unique(self, stem: str) -> str:
        name, number = stem, 2
        while name.casefold() in self._used:
            name, number = f"{stem}_{number}", number + 1
        self._used.add(name.casefold())
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


def _with_detected_keypoints(file: Path, detector: Detector, options: InputOptions, stems: _Stems) -> SourcePicture:
    photograph = read_image(file)
    cues = None
    if options.depth_cues and isinstance(detector, MediaPipeDetector):
        seen = detector.detect_with_cues(photograph, photograph.camera(focal_px=options.focal_px))
        keypoints, cues = seen.keypoints, seen.cues
    else:
        keypoints = detector.detect(photograph)
    if not len(keypoints.confidence):
        raise NoPersonError(
            "nobody was found in the picture", hint="give keypoints of your own with --keypoints FOLDER"
        )
    return _picture(file, photograph, keypoints, options, stems, cues)


def _with_given_keypoints(file: Path, by_stem: dict[str, Path], options: InputOptions, stems: _Stems) -> SourcePicture:
    photograph = read_image(file)
    if file.stem not in by_stem:
        raise InputError(
            "no keypoint file belongs to the photograph", expected=f"{file.stem}_keypoints.json in {options.keypoints}"
        )
    keypoints = _read_people(by_stem[file.stem])
    return _picture(file, photograph, keypoints, options, stems)


def _keypoints_alone(file: Path, options: InputOptions, stems: _Stems) -> SourcePicture:
    keypoints = _read_people(file)
    size = options.image_size or (0, 0)
    if options.image_size is not None:
        camera = Camera.from_image_size(*size, focal_px=options.focal_px)
        keypoints = keypoints.sanitized((float(size[0]), float(size[1])))
    else:  # guessed from all files together, in `_with_guessed_sizes`
        camera = Camera(torch.ones(2), torch.zeros(2), torch.zeros(2))
    return SourcePicture(file.name, stems.unique(image_stem(file)), None, keypoints, camera)


def _read_people(file: Path) -> Keypoints:
    keypoints = read_keypoints(file)
    if not len(keypoints.confidence):
        raise NoPersonError("the keypoint file holds nobody", seen=file.name)
    return keypoints


def _picture(
    file: Path,
    photograph: Photograph,
    keypoints: Keypoints,
    options: InputOptions,
    stems: _Stems,
    cues: DepthCues | None = None,
) -> SourcePicture:
    width, height = photograph.image_size
    keypoints = keypoints.sanitized((float(width), float(height)))
    camera = photograph.camera(focal_px=options.focal_px)
    if options.depth_cues and cues is None:
        # Without the packages of the extra `detect` keypoints alone must do, as for keypoints without photographs.
        with suppress(MissingPackageError):
            cues = cues_in_picture(photograph, keypoints, camera)
    return SourcePicture(file.name, stems.unique(file.stem), file, keypoints, camera, cues)


def cues_of(pictures: Sequence[SourcePicture]) -> DepthCues | None:
    """The depth cues of everyone in some pictures, absent where a picture has none; None if no picture has any."""
    if not any(picture.cues is not None for picture in pictures):
        return None
    dtype = pictures[0].keypoints.confidence.dtype
    rows = [
        DepthCues.absent(len(p.keypoints.confidence), dtype=dtype) if p.cues is None else p.cues.to(dtype=dtype)
        for p in pictures
    ]
    return concatenate_records(rows)


def _with_guessed_sizes(pictures: list[SourcePicture], options: InputOptions) -> tuple[list[SourcePicture], list[str]]:
    """Cameras of keypoints that came without photographs and without a size: as large as all keypoints of the run."""
    unknown = [picture for picture in pictures if float(picture.camera.image_size[0]) == 0]
    if not unknown:
        return pictures, []
    corners = [picture.keypoints.bounding_box()[..., 2:].reshape(-1, 2) for picture in unknown]
    extent = torch.cat(corners).clamp_min(0).amax(0)
    width, height = (max(64, math.ceil(float(side) * _MARGIN)) for side in extent)
    camera = Camera.from_image_size(width, height, focal_px=options.focal_px)
    known = [SourcePicture(p.name, p.stem, p.photograph, p.keypoints, camera) if p in unknown else p for p in pictures]
    note = (
        f"The size of the pictures was not given; {width} × {height} pixels was guessed from the keypoints. "
        "Say --image-size WIDTH HEIGHT for true depth and perspective."
    )
    return known, [note]
