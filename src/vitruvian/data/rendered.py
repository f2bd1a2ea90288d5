"""Rendered people with known truth: painted, lit, before procedural backgrounds, behind occluders."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vitruvian.bodies.model import BodyModel
from vitruvian.data.appearance import Painter, shade
from vitruvian.data.augmentation import Augmentation, random_crops, recolored
from vitruvian.data.cropped_people import CroppedPeople
from vitruvian.data.synthetic import NUM_BODY_JOINTS, PoseLibrary, SyntheticBatch, SyntheticConfig, SyntheticPeople
from vitruvian.geometry.meshes import vertex_normals
from vitruvian.geometry.raster import rasterize
from vitruvian.keypoints.canonical import CANONICAL
from vitruvian.keypoints.observations import Keypoints


@dataclass(frozen=True)
class RenderedConfig:
    """How people are drawn."""

    people: SyntheticConfig = field(default_factory=SyntheticConfig)
    """Poses, shapes and cameras. Cameras are always known, and crops come from `augmentation`."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    size_px: int = 224
    """Side of the crops."""
    supersampling: int = 2
    """Rays a pixel along each axis."""
    occluder: float = 0.3
    """Probability of something before the person."""
    cloth_m: float = 0.012
    """Largest distance of clothes from the body."""
    noise: float = 4.0
    """Largest standard deviation of the noise of the picture, of 255."""


class RenderedPeople:
    """A source of rendered people on one body.

    Args:
        body: a body with face and hands.
        library: poses.
        config: see `RenderedConfig`.
    """

    def __init__(self, body: BodyModel, library: PoseLibrary, config: RenderedConfig | None = None) -> None:
        self.config = config = config or RenderedConfig()
        self.people = SyntheticPeople(body, library, replace(config.people, known_focal=1.0, crops=0.0))
        self._painter = Painter(body)

    @torch.no_grad()
    def batch(self, size: int, *, seed: int, number: int = 0) -> CroppedPeople:
        config = self.config
        batch = self.people.batch(size, seed=seed, number=number)
        generator = torch.Generator().manual_seed((seed * 7_368_787 + number) % (1 << 63))
        keypoints = Keypoints(batch.pixels, torch.ones(batch.pixels.shape[:2]), CANONICAL)
        crop = random_crops(keypoints, keypoints.bounding_box(), config.augmentation, generator)
        pictures = np.random.default_rng((seed, number))
        people, coverage = self._drawn(batch, crop.matrix(config.size_px * config.supersampling), pictures)
        backgrounds = torch.stack([_backdrop(config.size_px, pictures) for _ in range(size)])
        pixels = people + (1 - coverage) * backgrounds
        for row in range(size):
            if pictures.random() < config.occluder:
                pixels[row] = _occluded(pixels[row], pictures)
        level = config.noise * torch.rand(size, 1, 1, 1, generator=generator)
        noisy = pixels * 255 + level * torch.randn(pixels.shape, generator=generator)
        known = torch.ones(size, dtype=torch.bool)
        return CroppedPeople(
            pixels=recolored(noisy.round().clamp(0, 255).to(torch.uint8), config.augmentation, generator),
            crop=crop,
            camera=batch.camera,
            keypoints=keypoints,
            rotations=batch.rotations[:, :NUM_BODY_JOINTS],
            has_pose=known,
            betas=batch.betas,
            has_shape=known,
            joints=batch.joints[:, :NUM_BODY_JOINTS],
            joints_confidence=torch.ones(size, NUM_BODY_JOINTS),
        )

    def _drawn(
        self, batch: SyntheticBatch, matrix: Float[Tensor, "batch 2 3"], pictures: np.random.Generator
    ) -> tuple[Float[Tensor, "batch 3 size size"], Float[Tensor, "batch 1 size size"]]:
        """The people, black around, and the share of each pixel that they cover."""
        config, body = self.config, self.people.body
        posed = body.with_shape(batch.betas, batch.expression).with_pose(batch.rotations, batch.transl)
        vertices, faces = posed.vertices, body.faces
        normals = vertex_normals(vertices, faces)
        stand_off = [self._painter.stand_off(pictures.uniform(0, config.cloth_m)) for _ in range(len(vertices))]
        vertices = vertices + torch.stack(stand_off)[..., None] * normals
        lit = [shade(normal.numpy(), self._painter.colors(pictures, patterns=True), pictures) for normal in normals]
        at = batch.camera.project(vertices)
        at = at @ matrix[..., :2].transpose(-1, -2) + matrix[:, None, :, 2]
        fine = config.size_px * config.supersampling
        seen = rasterize(at, vertices[..., 2], faces, width=fine, height=fine)
        colors = torch.from_numpy(np.stack(lit)).to(vertices)
        layers = torch.cat((colors, torch.ones_like(colors[..., :1])), dim=-1)
        drawn = F.avg_pool2d(seen.interpolate(layers, faces).movedim(-1, 1), config.supersampling)
        return drawn[:, :3], drawn[:, 3:]


def _backdrop(size: int, generator: np.random.Generator) -> Float[Tensor, "3 size size"]:
    """A background: colours that change slowly, finer mottles on top, and some boxes and bars."""
    image = np.zeros((size, size, 3), dtype=np.float32)
    for cells, strength in ((2, 1.0), (int(generator.integers(3, 9)), 0.5), (int(generator.integers(10, 60)), 0.25)):
        coarse = (generator.uniform(0, 1, (cells + 1, cells + 1, 3)) * 255).astype(np.uint8)
        resampling = Image.Resampling.NEAREST if generator.random() < 0.2 else Image.Resampling.BICUBIC
        layer = np.asarray(Image.fromarray(coarse).resize((size, size), resampling), dtype=np.float32) / 255
        image += strength * generator.uniform(0.3, 1) * (layer - 0.5)
    image = image * generator.uniform(0.2, 1) + generator.uniform(0.15, 0.85, 3).astype(np.float32)
    for _ in range(int(generator.integers(0, 6))):
        left, top = generator.integers(-size // 4, size, 2)
        width, height = (generator.uniform(0.03, 0.6, 2) * size).astype(int)
        image[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = generator.uniform(0, 1, 3)
    return torch.from_numpy(image.clip(0, 1)).permute(2, 0, 1)


def _occluded(picture: Float[Tensor, "3 size size"], generator: np.random.Generator) -> Float[Tensor, "3 size size"]:
    """The picture with something before it: a turned box or ellipse with a texture of its own."""
    size = picture.shape[-1]
    y, x = np.mgrid[:size, :size].astype(np.float32) / size - generator.uniform(0.05, 0.95, 2)[:, None, None]
    angle, (a, b) = generator.uniform(0, np.pi), generator.uniform(0.05, 0.3, 2)
    u = (x * np.cos(angle) + y * np.sin(angle)) / a
    v = (y * np.cos(angle) - x * np.sin(angle)) / b
    inside = u * u + v * v < 1 if generator.random() < 0.5 else np.maximum(np.abs(u), np.abs(v)) < 1
    return torch.where(torch.from_numpy(inside), _backdrop(size, generator), picture)
