"""Sample the poses that explain each person in photographs: arrays, likelihoods, and pictures of the uncertainty."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from vitruvian.apps.distribution_config import SamplePhotographs
from vitruvian.apps.inputs import Failure, InputOptions, SourcePicture, cues_of, gather
from vitruvian.apps.picture_posterior import PicturePosterior, given_cues
from vitruvian.apps.progress import Progress, silent
from vitruvian.apps.regress import people_and_cameras, repeated
from vitruvian.apps.results import LONGEST_SIDE_PX
from vitruvian.bodies.model import BodyModel, PosedBody
from vitruvian.bodies.open_body import open_body
from vitruvian.bodies.params import BodyParams
from vitruvian.bodies.skeletons import SMPLX
from vitruvian.fits import config_json, package_version
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.meshes import Mesh
from vitruvian.keypoints.detectors import Detector
from vitruvian.keypoints.images import read_image
from vitruvian.metrics import MM
from vitruvian.output import prepare_folder, replacing
from vitruvian.recovery.estimates import place
from vitruvian.recovery.network import PoseNetwork
from vitruvian.recovery.posterior import BodyPosterior, infer
from vitruvian.recovery.weights import pose_network
from vitruvian.tensors import TensorRecord, concatenate_records
from vitruvian.view.drawing import draw_keypoints, fit_within
from vitruvian.view.render import heat_colors, overlay, sheet, turned_view

SCALE_MM = 150.0
"""Standard deviation of a vertex that is drawn in the last colour."""
_DRAWN = 6


@dataclass(frozen=True, eq=False)
class SampledPeople(TensorRecord):
    """Poses of N people: row 0 of the sample axis is the mode, the others are independent samples.

    Attributes:
        rotations: `(N, 1 + n, 55, 3, 3)`, camera frame.
        betas: `(N, 1 + n, …)`; shapes vary too.
        expression: `(N, …)`, the same for all samples of a person.
        transl: `(N, 1 + n, 3)`, added after skinning; each pose stands where it explains the keypoints best.
        log_prob: `(N, 1 + n)`, nats.
        reprojection_px: `(N, 1 + n)`.
        entropy: `(N,)`, nats: how unsure the network is of the body pose.
        vertex_std_mm: `(N, V)`, spread of each vertex about its mean over the samples, pelvis at the origin.
        camera: one per person.
    """

    rotations: Float[Tensor, "person sample 55 3 3"]
    betas: Float[Tensor, "person sample shape"]
    expression: Float[Tensor, "person expression"]
    transl: Float[Tensor, "person sample 3"]
    log_prob: Float[Tensor, "person sample"]
    reprojection_px: Float[Tensor, "person sample"]
    entropy: Float[Tensor, "person"]
    vertex_std_mm: Float[Tensor, "person vertex"]
    camera: Camera

    def __len__(self) -> int:
        return self.rotations.shape[0]

    def pose(self, body: BodyModel, person: int) -> PosedBody:
        """All poses of one person, the mode first."""
        expression = self.expression[person].expand(len(self.betas[person]), -1)
        return body.with_shape(self.betas[person], expression).with_pose(self.rotations[person], self.transl[person])


@dataclass(frozen=True, eq=False)
class SampleOutcome:
    """What a run did: the people, the inputs that could not be used, and the folder."""

    people: SampledPeople | None
    failures: tuple[Failure, ...]
    folder: Path
    notes: tuple[str, ...] = ()


@torch.no_grad()
def sample_people(
    body: BodyModel,
    posterior: BodyPosterior | PicturePosterior,
    pictures: Sequence[SourcePicture],
    *,
    num_samples: int,
    generator: torch.Generator | None = None,
) -> SampledPeople:
    """Mode and samples of everyone in some pictures, each placed where it explains the keypoints best.

    Args:
        body: a body of the SMPL-X tree.
        posterior: of the people of `pictures`, in order.
        pictures: where they were seen.
        num_samples: samples besides the mode.
        generator: source of the samples.
    """
    keypoints, camera = _all_people(pictures)
    mode = posterior.mode()
    together = concatenate_records([mode[None], posterior.sample(num_samples, generator=generator)])
    placed = place(together, body, keypoints, camera)
    params = placed.params
    spreads = []
    for person in range(len(posterior)):
        shaped = body.with_shape(params.betas[1:, person], params.expression[1:, person])
        # The root's rest position is part of the translation, so this puts every pelvis at the origin.
        posed = shaped.with_pose(params.rotations[1:, person], -shaped.joints[:, 0])
        vertices = posed.vertices
        variance = (vertices - vertices.mean(0)).square().sum(-1).mean(0)
        spreads.append(variance.sqrt() * MM)
    return SampledPeople(
        rotations=params.rotations.transpose(0, 1),
        betas=params.betas.transpose(0, 1),
        expression=params.expression[0],
        transl=params.transl.transpose(0, 1),
        log_prob=together.log_prob.T,
        reprojection_px=placed.reprojection_px.T,
        entropy=posterior.entropy,
        vertex_std_mm=torch.stack(spreads),
        camera=camera,
    )


def sample_photographs(
    config: SamplePhotographs,
    *,
    body: BodyModel | None = None,
    network: PoseNetwork | None = None,
    detector: Detector | None = None,
    progress: Progress = silent,
) -> SampleOutcome:
    """Detect people, sample their poses, and write `samples.npz` and `samples/NAME_K.png`.

    Args:
        config: inputs and settings.
        body, network, detector: in place of the open body, the shipped network, the MediaPipe detector.

    Raises:
        OutputError: the output folder cannot be written; found out before anything else.
        InputError: nothing was given, or the keypoint folder is missing.
        MissingPackageError: an optional package is needed.
        WeightsError: the installation lacks the trained network.
    """
    folder = prepare_folder(config.out)
    network = network or pose_network()
    body = body or open_body(
        config.gender, num_shape=network.config.num_shape, num_expression=network.config.num_expression
    )
    asked = config.evidence == "picture"
    options = InputOptions(config.keypoints, config.focal_px, config.image_size, depth_cues=asked)
    gathered = gather(list(config.inputs), options, detector=detector, progress=progress)
    if not gathered.pictures:
        return SampleOutcome(None, gathered.failures, folder, gathered.notes)
    keypoints, camera = _all_people(gathered.pictures)
    of_keypoints = infer(network, keypoints, camera)
    generator = torch.Generator().manual_seed(config.seed)
    cues = cues_of(gathered.pictures)
    posterior: BodyPosterior | PicturePosterior = of_keypoints
    if cues is not None and cues.present:
        posterior = given_cues(of_keypoints, body, cues, generator=generator)
    people = sample_people(body, posterior, gathered.pictures, num_samples=config.n, generator=generator)
    save_samples(people, gathered.pictures, folder / "samples.npz", config=config, body=body)
    if config.pictures:
        _draw(people, body, gathered.pictures, prepare_folder(folder / "samples"), progress)
    return SampleOutcome(people, gathered.failures, folder, gathered.notes)


def save_samples(
    people: SampledPeople,
    pictures: Sequence[SourcePicture],
    path: Path,
    *,
    config: SamplePhotographs,
    body: BodyModel,
) -> None:
    """Write arrays with the key names of `fits.npz`, with a sample axis after that of the people (0 is the mode)."""

    params = BodyParams(
        people.rotations,
        people.betas,
        people.expression[:, None].expand(*people.transl.shape[:2], -1),
        people.transl,
    )
    arrays: dict[str, Any] = {name: _plain(value) for name, value in params.axis_angle_blocks(SMPLX).items()}
    arrays |= {
        name: _plain(getattr(people, name))
        for name in ("betas", "expression", "transl", "log_prob", "reprojection_px", "entropy", "vertex_std_mm")
    }
    arrays |= {name: _plain(getattr(people.camera, name)) for name in ("focal_px", "center_px", "image_size")}
    arrays["image"] = np.array([p.name for p in pictures for _ in range(len(p.keypoints.confidence))], dtype=np.str_)
    arrays["person"] = np.array([k for p in pictures for k in range(len(p.keypoints.confidence))], dtype=np.int64)
    arrays["body"] = np.array(f"{body.family}:{body.digest}")
    arrays["gender"] = np.array(body.gender)
    arrays["version"] = np.array(package_version())
    arrays["config"] = np.array(config_json({**asdict(config), "inputs": "", "out": "", "keypoints": ""}))
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def _plain(values: Tensor) -> np.ndarray:
    return values.detach().cpu().to(torch.float32).numpy()


def _all_people(pictures: Sequence[SourcePicture]) -> tuple[Any, Camera]:
    keypoints = concatenate_records([picture.keypoints.to_format(pictures[0].keypoints.format) for picture in pictures])
    counts = [len(picture.keypoints.confidence) for picture in pictures]
    cameras = [repeated(p.camera, n) for p, n in zip(pictures, counts, strict=True)]
    return people_and_cameras(keypoints, concatenate_records(cameras))


def _draw(
    people: SampledPeople, body: BodyModel, pictures: Sequence[SourcePicture], folder: Path, progress: Progress
) -> None:
    """One sheet per person: what was seen, the mode (pink), samples, the uncertainty, and all of it from the side."""
    row, total = 0, len(people)
    for picture in pictures:
        pixels = _canvas(picture)
        camera = picture.camera.resize(width=pixels.shape[1], height=pixels.shape[0])
        scale = float(camera.image_size[0] / picture.camera.image_size[0])
        for person in range(len(picture.keypoints.confidence)):
            progress("draw", row, total)
            meshes = people.pose(body, row).mesh()
            tiles = person_tiles(pixels, camera, meshes, people.vertex_std_mm[row].numpy())
            seen = picture.keypoints[person : person + 1]
            seen = type(seen)(seen.positions * scale, seen.confidence, seen.format)
            page = sheet([draw_keypoints(pixels, seen), *tiles], columns=4)
            with replacing(folder / f"{picture.stem}_{person}.png") as temporary:
                Image.fromarray(page).save(temporary)
            row += 1
    progress("draw", total, total)


def person_tiles(
    photo: np.ndarray, camera: Camera, meshes: Mesh, std_mm: Float[np.ndarray, "vertex"]
) -> list[np.ndarray]:
    """Pictures of one size: the mode, six samples, the uncertainty on the mode, and mode and samples from the side."""
    height, width = photo.shape[:2]
    mode = Mesh(meshes.vertices[0], meshes.faces)
    drawn = range(1, min(_DRAWN, len(meshes.vertices) - 1) + 1)
    samples = [Mesh(meshes.vertices[k], meshes.faces) for k in drawn]
    heat = heat_colors(std_mm, maximum=SCALE_MM)
    tiles = [overlay(photo, mode, camera, colors="mode", samples=8)]
    tiles += [overlay(photo, mesh, camera, colors="neutral", samples=8) for mesh in samples]
    tiles.append(overlay(photo, mode, camera, colors=[heat], samples=8))

    def aside(mesh: Mesh, colors: str | list[np.ndarray]) -> np.ndarray:
        return turned_view(mesh, size=(width, height), colors=colors, samples=8)[..., :3]

    tiles += [aside(mode, "mode"), aside(mode, [heat])]
    tiles += [aside(mesh, "neutral") for mesh in samples[:1]]
    return tiles


def _canvas(picture: SourcePicture) -> np.ndarray:
    longest = LONGEST_SIDE_PX // 3
    if picture.photograph is not None:
        return fit_within(read_image(picture.photograph).pixels, longest)
    width, height = picture.camera.image_size.tolist()
    scale = min(1.0, longest / max(width, height))
    return np.full((max(1, round(height * scale)), max(1, round(width * scale)), 3), 236, dtype=np.uint8)
