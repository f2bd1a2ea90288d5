"""Depth cues on their way from pictures to the fit: who has some, who has none, and when pictures are not asked."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from vitruvian.apps.multiview import views_of_one

import vitruvian as vt
from tests.apps.people_files import true_keypoints, write_person
from vitruvian.apps import inputs
from vitruvian.apps.demo import IMAGE_SIZE
from vitruvian.apps.inputs import InputOptions, SourcePicture, cues_of, gather
from vitruvian.errors import MissingPackageError
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.depth_cues import BONES, DepthCues
from vitruvian.keypoints.images import Photograph
from vitruvian.keypoints.observations import Keypoints


def picture(people: int, *, seed: int, with_cues: bool) -> SourcePicture:
    """People of growing size, side by side."""
    generator = torch.Generator().manual_seed(seed)
    shape = torch.rand(1, 17, 2, generator=generator)
    size = 20.0 * torch.arange(1, people + 1)[:, None, None]
    keypoints = Keypoints(10 + size * shape, torch.ones(people, 17), "coco17")
    directions = torch.nn.functional.normalize(torch.randn(people, len(BONES), 3, generator=generator), dim=-1)
    cues = DepthCues(directions, torch.ones(people, len(BONES))) if with_cues else None
    return SourcePicture("a.jpg", "a", None, keypoints, Camera.from_image_size(200, 200), cues)


def test_pictures_without_cues_leave_their_people_without() -> None:
    asked, silent = picture(2, seed=0, with_cues=True), picture(3, seed=1, with_cues=False)
    together = cues_of([silent, asked])
    assert together is not None
    assert asked.cues is not None
    assert together.confidence.shape == (5, len(BONES))
    assert not together[:3].present
    assert torch.equal(together[3:].directions, asked.cues.directions)
    assert cues_of([silent, silent]) is None


def test_the_largest_person_keeps_their_own_cues_in_several_views() -> None:
    views = [picture(3, seed=0, with_cues=True), picture(2, seed=1, with_cues=False)]
    first, second = views_of_one(views)
    assert views[0].cues is not None
    assert first.cues is not None
    assert torch.equal(first.cues.directions, views[0].cues.directions[2:])
    assert second.cues is None


@pytest.mark.parametrize("asked", [False, True])
def test_keypoint_files_alone_have_no_cues(tmp_path: Path, asked: bool) -> None:
    body = vt.open_body(num_shape=10, num_expression=10)
    file = write_person(tmp_path, "walker", true_keypoints(body))
    gathered = gather([file], InputOptions(image_size=IMAGE_SIZE, depth_cues=asked))
    assert gathered.pictures[0].cues is None


def test_given_keypoints_do_without_the_picture_where_its_network_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = vt.open_body(num_shape=10, num_expression=10)
    write_person(tmp_path / "keypoints", "walker", true_keypoints(body))
    pixels = torch.zeros(IMAGE_SIZE[1], IMAGE_SIZE[0], 3, dtype=torch.uint8).numpy()
    photo = tmp_path / "walker.png"
    Image.fromarray(pixels).save(photo)
    calls: list[Photograph] = []

    def missing(photograph: Photograph, *_: object) -> DepthCues:
        calls.append(photograph)
        raise MissingPackageError("detecting people needs the package mediapipe")

    monkeypatch.setattr(inputs, "cues_in_picture", missing)
    for asked, expected in ((False, 0), (True, 1)):
        gathered = gather([photo], InputOptions(tmp_path / "keypoints", depth_cues=asked))
        assert not gathered.failures
        assert gathered.pictures[0].cues is None
        assert len(calls) == expected
