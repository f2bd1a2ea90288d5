"""What `vitruvian body info` and `vitruvian body add` do: describe a body model, and register a licensed file."""

from dataclasses import dataclass
from pathlib import Path

from vitruvian.assets import SOURCES, border, read_arrays, register
from vitruvian.bodies.families import FAMILIES
from vitruvian.bodies.file_entries import family_of
from vitruvian.bodies.loaders import FLAME_LANDMARK_FILES, load_body, variant_of
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.saving import licence_of
from vitruvian.errors import InputError, ModelFileError


@dataclass(frozen=True)
class BodyDescription:
    """Facts about a body model.

    Attributes:
        title: the family's own name.
        variant: gender, or the side of a hand.
        file: name of the file, empty for a model in memory.
        licence: what the licence allows; where to read it.
        num_shape, num_expression: coefficients that the model has.
        pose_blocks: names of the pose blocks and their number of joints.
        size_m: extent of the template along x, y and z in metres.
        num_landmarks: face landmarks, contour included.
        keypoints: names of the keypoints that are vertices.
    """

    family: str
    title: str
    variant: str
    file: str
    licence: str
    digest: str
    num_vertices: int
    num_faces: int
    num_joints: int
    num_shape: int
    num_expression: int
    num_hand_components: int
    num_landmarks: int
    pose_blocks: tuple[tuple[str, int], ...]
    keypoints: tuple[str, ...]
    has_pose_correctives: bool
    has_uv: bool
    size_m: tuple[float, float, float]


@dataclass(frozen=True)
class AddedBody:
    """A licensed file that `load_body(family)` now finds without a path."""

    family: str
    variant: str
    path: Path
    digest: str
    description: BodyDescription


def describe_body(body: BodyModel | Path | str) -> BodyDescription:
    """Describe a model, or a file with all of its coefficients.

    Raises:
        ModelFileError: the file is missing, truncated or of no known family.
        UnsafeFileError: the file asks to run code.
    """
    file = ""
    if not isinstance(body, BodyModel):
        path = Path(body)
        file = path.name
        body = load_body(recognise_family(path), path, num_shape="all", num_expression="all")
    landmarks = body.face_landmarks
    num_landmarks = 0
    if landmarks is not None:
        num_landmarks = len(landmarks.corners) + (0 if landmarks.contour_corners is None else 17)
    source = SOURCES.get(body.family)
    size = (body.template.amax(0) - body.template.amin(0)).tolist()
    hands = body.hands
    return BodyDescription(
        family=body.family,
        title=source.title if source and not body.licence else f"{body.family} layout" if source else body.family,
        variant=body.skeleton.names[0].split("_")[0] if body.family == "mano" else body.gender,
        file=file,
        licence=licence_of(body),
        digest=body.digest,
        num_vertices=body.num_vertices,
        num_faces=len(body.faces),
        num_joints=body.num_joints,
        num_shape=body.num_shape,
        num_expression=body.num_expression,
        num_hand_components=0 if hands is None else max(len(hands.left_components), len(hands.right_components)),
        num_landmarks=num_landmarks,
        pose_blocks=tuple((block.name, len(block)) for block in body.skeleton.blocks),
        keypoints=tuple(body.vertex_ids),
        has_pose_correctives=body.correctives is not None,
        has_uv=body.uv is not None,
        size_m=(size[0], size[1], size[2]),
    )


def recognise_family(path: Path | str) -> str:
    """The family of a model file, by its number of joints.

    Raises:
        ModelFileError: the file is missing, truncated or of no known family.
    """
    path = Path(path)
    with border(ModelFileError, path, what="a body model"):
        entries = read_arrays(path)
        family = family_of(entries)
    if family is None:
        raise ModelFileError(
            f"{path.name} is no body model of a known family",
            seen=", ".join(sorted(entries)[:20]) or "no entries",
            expected="an official file of " + ", ".join(f.title for f in FAMILIES.values()),
        )
    return family.name


def add_body(
    path: Path | str, *, family: str | None = None, gender: str | None = None, side: str | None = None
) -> AddedBody:
    """Check a licensed file and copy it to where `load_body(family)` finds it.

    Family, gender and side are read from the file where they are not given; landmark files beside a FLAME model are
    copied with it.

    Raises:
        ModelFileError: the file is missing, truncated or of another family.
        UnsafeFileError: the file asks to run code.
        OutputError: the registry cannot be written.
    """
    path = Path(path)
    family = family or recognise_family(path)
    if family not in FAMILIES:
        raise InputError("unknown body family", seen=family, expected=", ".join(FAMILIES))
    body = load_body(family, path, gender=gender, side=side, num_shape="all", num_expression="all")
    variant = (side if family == "mano" else gender) or variant_of(path, family, read_arrays(path))
    beside = [path.with_name(name) for name in FLAME_LANDMARK_FILES] if family == "flame" else []
    entry = register(path, family=family, variant=variant, companions=[file for file in beside if file.is_file()])
    return AddedBody(entry.family, entry.variant, entry.path, entry.digest, describe_body(body))
