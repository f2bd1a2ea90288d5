"""Augmented crops, mixtures of sources, annotated photographs, and rendered people."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitruvian.bodies.open_body import open_body
from vitruvian.data.augmentation import Augmentation, random_crops, recolored
from vitruvian.data.cropped_people import CroppedPeople, MixedPeople
from vitruvian.data.photographs import PhotographConfig, PhotographedPeople
from vitruvian.data.rendered import RenderedConfig, RenderedPeople
from vitruvian.data.synthetic import PoseLibrary
from vitruvian.errors import InputError
from vitruvian.geometry.rotations import exp_so3
from vitruvian.keypoints.canonical import CANONICAL
from vitruvian.keypoints.crops import crop_of_box
from vitruvian.keypoints.observations import Keypoints


def standing(people: int) -> Keypoints:
    """Every canonical keypoint somewhere in a tall box."""
    generator = torch.Generator().manual_seed(0)
    confidence = torch.ones(people, len(Keypoints.empty(CANONICAL).definition))
    positions = torch.rand(*confidence.shape, 2, generator=generator) * torch.tensor([100.0, 300.0]) + 50
    return Keypoints(positions, confidence, CANONICAL)


def test_without_augmentation_the_crop_is_that_of_the_box(generator: torch.Generator) -> None:
    keypoints = standing(6)
    box = keypoints.bounding_box()
    crop, plain = random_crops(keypoints, box, Augmentation.none(), generator), crop_of_box(box)
    torch.testing.assert_close(crop.center_px, plain.center_px)
    torch.testing.assert_close(crop.side_px, plain.side_px)
    assert not crop.angle.any()


def test_crops_vary_as_published(generator: torch.Generator) -> None:
    keypoints, config = standing(4000), replace(Augmentation(), extreme_crop=0.0)
    box = keypoints.bounding_box()
    crop, plain = random_crops(keypoints, box, config, generator), crop_of_box(box)
    scale = crop.side_px / plain.side_px
    assert 0.7 - 1e-4 <= float(scale.min()) < 0.75
    assert 1.25 < float(scale.max()) <= 1.3 + 1e-4
    assert float((crop.angle != 0).float().mean()) == pytest.approx(0.6, abs=0.03)
    assert 0.8 < float(crop.angle.abs().max()) <= math.radians(60) + 1e-4
    shift = (crop.center_px - plain.center_px) / plain.side_px[:, None]
    assert 0.015 < float(shift.abs().max()) <= 0.02 + 1e-4


def test_extreme_crops_show_less(generator: torch.Generator) -> None:
    keypoints = standing(300)
    box = keypoints.bounding_box()
    config = replace(Augmentation.none(), extreme_crop=1.0)
    crop, plain = random_crops(keypoints, box, config, generator), crop_of_box(box)
    assert float((crop.side_px < plain.side_px).float().mean()) > 0.8
    assert float(crop.side_px.min()) >= 0.2 * float(plain.side_px.min())


def test_colours_change_by_a_factor_each(generator: torch.Generator) -> None:
    pixels = torch.full((50, 3, 2, 2), 100, dtype=torch.uint8)
    out = recolored(pixels, Augmentation(), generator)
    assert (out.flatten(2).amax(-1) == out.flatten(2).amin(-1)).all()
    assert 80 <= int(out.min()) < 90 < 110 < int(out.max()) <= 120
    assert torch.equal(recolored(pixels, Augmentation.none(), generator), pixels)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people: of the first only keypoints are known, of the second everything."""
    folder = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(folder / name)
    arrays = {
        "image": np.array(["a.png", "b.png"]),
        "keypoints": np.concatenate((rng.uniform(10, 50, (2, 25, 2)), np.ones((2, 25, 1))), -1),
        "format": np.array("openpose-body25"),
        "pose": rng.normal(size=(2, 24, 3)) * 0.2,
        "has_pose": np.array([False, True]),
        "betas": rng.normal(size=(2, 10)),
        "has_shape": np.array([False, True]),
        "joints": np.stack((np.zeros((22, 4)), np.ones((22, 4)))),
        "focal_px": np.array([0.0, 123.0]),
    }
    np.savez(folder / "people.npz", **arrays)
    return folder / "people.npz"


def test_what_is_known_of_photographed_people(file: Path, generator: torch.Generator) -> None:
    source = PhotographedPeople(file, PhotographConfig(Augmentation.none(), size_px=16))
    first, second = (source.person(row, mirrored=False, generator=generator) for row in (0, 1))
    assert not first.has_pose.any()
    assert second.has_pose.all()
    assert not first.joints_confidence.any()
    assert float(first.camera.focal_px[0, 0]) == pytest.approx(100.0)  # the diagonal of 60 × 80
    assert float(second.camera.focal_px[0, 0]) == pytest.approx(123.0)
    assert first.pixels.shape == (1, 3, 16, 16)
    again = source.batch(5, seed=3, number=7)
    assert torch.equal(again.pixels, source.batch(5, seed=3, number=7).pixels)


def test_the_mirror_image_of_the_mirror_image_is_the_person(file: Path, generator: torch.Generator) -> None:
    source = PhotographedPeople(file, PhotographConfig(Augmentation.none(), size_px=16))
    plain, mirrored = (source.person(1, mirrored=flag, generator=generator) for flag in (False, True))
    assert torch.equal(mirrored.pixels.flip(-1), plain.pixels)
    left, right = (plain.keypoints.select(f"{side}_knee")[0] for side in ("left", "right"))
    turned = mirrored.keypoints.select("right_knee")[0]
    torch.testing.assert_close(turned, torch.stack((80 - left[:, 0], left[:, 1]), -1))
    assert not torch.allclose(left, right)
    reflection = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    torch.testing.assert_close(mirrored.rotations[:, 0], reflection @ plain.rotations[:, 0] @ reflection)
    torch.testing.assert_close(mirrored.rotations[:, 5], reflection @ plain.rotations[:, 4] @ reflection)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", image=np.array(["x.png"]), surprise=np.zeros(1))
    with pytest.raises(InputError, match="does not describe people"):
        PhotographedPeople(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", image=np.array(["x.png"]), box=np.zeros((2, 4)))
    with pytest.raises(InputError, match="'box' has the wrong shape"):
        PhotographedPeople(tmp_path / "b.npz")


def test_sources_are_mixed_by_weight(file: Path) -> None:
    class Marked:
        def __init__(self, mark: float, source: PhotographedPeople) -> None:
            self.mark, self.source = mark, source

        def batch(self, size: int, *, seed: int, number: int = 0) -> CroppedPeople:
            people = self.source.batch(size, seed=seed, number=number)
            return replace(people, betas=torch.full_like(people.betas, self.mark))

    source = PhotographedPeople(file, PhotographConfig(Augmentation.none(), size_px=4))
    mixed = MixedPeople([Marked(0.0, source), Marked(1.0, source)], [3.0, 1.0])
    people = mixed.batch(400, seed=0)
    assert len(people) == 400
    assert float(people.betas.mean()) == pytest.approx(0.25, abs=0.07)
    with pytest.raises(InputError, match="positive weight"):
        MixedPeople([source], [0.0])


def test_rendered_people_stand_where_their_truth_says() -> None:
    body = open_body(num_shape=10, num_expression=10)
    poses = exp_so3(0.2 * torch.randn(4, 22, 3, generator=torch.Generator().manual_seed(0)))
    config = RenderedConfig(size_px=48, augmentation=Augmentation.none(), occluder=0.0, noise=0.0)
    source = RenderedPeople(body, PoseLibrary(poses, torch.ones(4)), config)
    a, b = (source.batch(2, seed=1, number=3) for _ in range(2))
    assert torch.equal(a.pixels, b.pixels)
    shaped = body.with_shape(a.betas)
    pelvis = a.joints[:, 0] - shaped.joints[:, 0]
    rest = torch.eye(3).expand(2, 33, 3, 3)
    posed = shaped.with_pose(torch.cat((a.rotations, rest), 1), pelvis)
    torch.testing.assert_close(posed.joints[:, :22], a.joints, rtol=0, atol=5e-3)
    at = Keypoints(a.camera.project(a.joints[:, :22][:, [0] * 25]), torch.ones(2, 25), "openpose-body25")
    inside = at.transform(a.crop.matrix(48)).positions[:, 0]
    assert ((inside > 0) & (inside < 48)).all()
    # The person covers the pixels around the pelvis: another background there would show otherwise.
    other = RenderedPeople(body, PoseLibrary(poses, torch.ones(4)), replace(config, cloth_m=0.0)).batch(
        2, seed=1, number=3
    )
    assert not torch.equal(other.pixels, a.pixels)
