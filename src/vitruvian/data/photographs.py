"""Annotated photographs: a file of what is known of each person beside the pictures, whatever part of it is known.

The file is an `.npz` with one row a person; no pickle. `image` and (`box` or `keypoints` with `format`) must be there:

    image      (N,) file names relative to the file
    box        (N, 4) left, top, right, bottom, pixels
    keypoints  (N, K, 3) pixels and confidence; format: the name of the registered format that orders them
    focal_px   (N,) focal lengths; without it, or where not positive, the diagonal of the picture
    pose       (N, J, 3) axis-angle of the first J ≥ 22 joints of SMPL, the root in the camera frame, radians
    has_pose   (N,) whether the pose is known; all are, without it
    betas      (N, S) shape; has_shape (N,) whether it is known
    joints     (N, 22, 4) the body joints in the camera frame, metres, and confidence
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.assets.arrays import read_arrays
from vitruvian.bodies.skeletons import BODY_JOINTS
from vitruvian.data.augmentation import Augmentation, random_crops, recolored
from vitruvian.data.cropped_people import CroppedPeople
from vitruvian.data.pose_selection import mirror_pose
from vitruvian.data.synthetic import NUM_BODY_JOINTS
from vitruvian.errors import InputError
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.rotations import exp_so3
from vitruvian.keypoints.canonical import CANONICAL
from vitruvian.keypoints.crops import Crop, crop_pixels
from vitruvian.keypoints.images import read_image
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.places import mirror_place
from vitruvian.tensors import concatenate_records, stack_records

_KEYS = ("image", "box", "keypoints", "format", "focal_px", "pose", "has_pose", "betas", "has_shape", "joints")


@dataclass(frozen=True)
class PhotographConfig:
    """How crops are taken from photographs."""

    augmentation: Augmentation = field(default_factory=Augmentation)
    size_px: int = 224
    """Side of the crops."""
    num_shape: int = 10
    """Shape coefficients that are kept."""


class PhotographedPeople:
    """A source of people in annotated photographs.

    Args:
        file: the file of annotations.
        config: see `PhotographConfig`.

    Raises:
        InputError: keys that are unknown or missing, or arrays of the wrong shape.
        ModelFileError: the file cannot be read.
    """

    def __init__(self, file: Path, config: PhotographConfig | None = None) -> None:
        self.config = config = config or PhotographConfig()
        self._folder = file.parent
        arrays = {key: np.asarray(value) for key, value in read_arrays(file).items()}
        unknown = sorted(set(arrays) - set(_KEYS))
        if unknown or "image" not in arrays or not ({"box", "keypoints"} & set(arrays)):
            raise InputError(
                f"{file.name} does not describe people in photographs",
                seen=f"unknown {', '.join(unknown)}" if unknown else ", ".join(sorted(arrays)),
                expected=f"image, box or keypoints, and some of {', '.join(_KEYS)}",
            )
        self.images = [str(name) for name in arrays["image"]]
        count, shapes = len(self.images), config.num_shape

        def values(key: str, *shape: int) -> Tensor:
            array = arrays.get(key)
            if array is None:
                return torch.zeros(count, *shape)
            if len(array) != count or array.ndim != 1 + len(shape) or array.shape[2:] != shape[1:]:
                raise InputError(f"'{key}' has the wrong shape", seen=array.shape, expected=(count, *shape))
            return torch.from_numpy(array.astype(np.float32))

        def known(key: str, of: str) -> Tensor:
            return values(key).bool() if key in arrays else torch.full((count,), of in arrays)

        self._keypoints = _canonical(arrays, count)
        box = values("box", 4) if "box" in arrays else self._keypoints.bounding_box()
        self._box, self._focal = box, values("focal_px")
        pose = values("pose", NUM_BODY_JOINTS, 3)[:, :NUM_BODY_JOINTS]
        self._rotations, self._has_pose = exp_so3(pose), known("has_pose", "pose")
        betas = values("betas", shapes)[:, :shapes]
        self._betas = torch.nn.functional.pad(betas, (0, shapes - betas.shape[1]))
        self._has_shape = known("has_shape", "betas")
        self._joints = values("joints", NUM_BODY_JOINTS, 4)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, size: int, *, seed: int, number: int = 0) -> CroppedPeople:
        """People drawn with replacement.

        Raises:
            InputError: a photograph is missing or cannot be read.
        """
        generator = torch.Generator().manual_seed((seed * 7_368_787 + number) % (1 << 63))
        rows = torch.randint(len(self), (size,), generator=generator).tolist()
        mirrored = (torch.rand(size, generator=generator) < self.config.augmentation.flip).tolist()
        people = [
            self.person(row, mirrored=flip, generator=generator) for row, flip in zip(rows, mirrored, strict=True)
        ]
        return concatenate_records(people)

    def person(self, row: int, *, mirrored: bool, generator: torch.Generator) -> CroppedPeople:
        """One person, as a batch of one, in the mirror where asked for."""
        photograph = read_image(self._folder / self.images[row])
        width, height = photograph.image_size
        focal = float(self._focal[row])
        camera = Camera.from_image_size(width, height, focal_px=focal if focal > 0 else None)
        keypoints = self._keypoints[row : row + 1]
        box, rotations, joints = (x[row : row + 1] for x in (self._box, self._rotations, self._joints))
        pixels = photograph.pixels
        if mirrored:
            pixels, camera, keypoints = pixels[:, ::-1], camera.flip(), keypoints.flip(width)
            box = torch.stack((width - box[:, 2], box[:, 1], width - box[:, 0], box[:, 3]), dim=-1)
            rotations, joints = mirror_pose(rotations), _mirrored_joints(joints)
        crop = random_crops(keypoints, box, self.config.augmentation, generator)
        scale = photograph.scale[0]  # very large files are held smaller
        window = Crop(crop.center_px[0] * scale, crop.side_px[0] * scale, crop.angle[0])
        cut = crop_pixels(pixels, window, self.config.size_px)[None]
        return CroppedPeople(
            pixels=recolored(cut, self.config.augmentation, generator),
            crop=crop,
            camera=stack_records([camera]),
            keypoints=keypoints,
            rotations=rotations,
            has_pose=self._has_pose[row : row + 1],
            betas=self._betas[row : row + 1],
            has_shape=self._has_shape[row : row + 1],
            joints=joints[..., :3],
            joints_confidence=joints[..., 3],
        )


def _canonical(arrays: dict[str, np.ndarray], count: int) -> Keypoints:
    if "keypoints" not in arrays:
        return Keypoints.empty(CANONICAL, people=count)
    if "format" not in arrays:
        raise InputError("the format of the keypoints is not named", expected="an entry 'format'")
    values = torch.from_numpy(arrays["keypoints"].astype(np.float32))
    return Keypoints(values[..., :2], values[..., 2], str(arrays["format"])).sanitized().to_format(CANONICAL)


def _mirrored_joints(joints: Float[Tensor, "batch 22 4"]) -> Float[Tensor, "batch 22 4"]:
    order = [BODY_JOINTS.index(mirror_place(name)) for name in BODY_JOINTS]
    return joints[:, order] * joints.new_tensor([-1.0, 1.0, 1.0, 1.0])
