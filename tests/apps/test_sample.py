"""Sampling from keypoint files: what the file of samples holds, and that it agrees with itself."""

from pathlib import Path

import numpy as np
import pytest
import torch

import vitruvian as vt
from tests.apps.people_files import true_keypoints, write_person
from vitruvian.apps.demo import IMAGE_SIZE
from vitruvian.apps.distribution_config import LiftKeypoints, SamplePhotographs
from vitruvian.apps.lift import lift_keypoints
from vitruvian.apps.sample import SampledPeople, sample_photographs
from vitruvian.bodies.model import BodyModel
from vitruvian.errors import InputError
from vitruvian.keypoints.canonical import CANONICAL, canonical_points


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return vt.open_body(num_shape=10, num_expression=10)


def _reprojection(people: SampledPeople, body: BodyModel) -> np.ndarray:
    """Mean distance between the first person's keypoints and those of the poses, from scratch."""
    seen = true_keypoints(body).to_format(CANONICAL)
    points = people.pose(body, 0).points(canonical_points(body))
    error = (vt.Camera.from_image_size(*IMAGE_SIZE).project(points) - seen.positions).norm(dim=-1)
    return ((seen.confidence * error).sum(-1) / seen.confidence.sum()).numpy()


def test_samples_are_written_with_the_mode_first(tmp_path: Path, body: BodyModel) -> None:
    file = write_person(tmp_path / "in", "walker", true_keypoints(body))
    config = SamplePhotographs((file,), tmp_path / "out", n=12, image_size=IMAGE_SIZE, pictures=False)
    outcome = sample_photographs(config, body=body)
    assert not outcome.failures
    assert outcome.people is not None
    with np.load(tmp_path / "out" / "samples.npz", allow_pickle=False) as arrays:
        assert arrays["body_pose"].shape == (1, 13, 21, 3)
        assert arrays["transl"].shape == (1, 13, 3)
        assert arrays["vertex_std_mm"].shape == (1, body.num_vertices)
        for name in ("log_prob", "log_prob_hands", "log_prob_shape"):
            densities = arrays[name][0].reshape(13, -1)
            assert (densities[0] > densities[1:].max(0)).all(), name
        np.testing.assert_allclose(arrays["reprojection_px"][0], _reprojection(outcome.people, body), atol=0.05)
        assert str(arrays["body"]).startswith("open:")
        assert arrays["betas"].shape == (1, 13, 10)
    posed = outcome.people.pose(body, 0)
    assert posed.joints.shape == (13, 55, 3)
    assert float(posed.joints[..., 2].min()) > 0.5
    names = {name: body.skeleton.index(name) for name in ("left_hip", "left_wrist")}
    spread = (posed.joints - posed.joints[:, :1]).std(0).norm(dim=-1)
    assert float(spread[names["left_wrist"]]) > float(spread[names["left_hip"]])


def test_the_seed_decides_the_samples(tmp_path: Path, body: BodyModel) -> None:
    file = write_person(tmp_path / "in", "walker", true_keypoints(body))

    def run(seed: int, folder: str) -> torch.Tensor:
        config = SamplePhotographs(
            (file,), tmp_path / folder, n=3, image_size=IMAGE_SIZE, pictures=False, seed=seed, overwrite=True
        )
        people = sample_photographs(config, body=body).people
        assert people is not None
        return people.rotations

    assert torch.equal(run(0, "a"), run(0, "b"))
    assert not torch.equal(run(0, "a"), run(1, "c"))


def test_a_bad_file_does_not_stop_the_others(tmp_path: Path, body: BodyModel) -> None:
    good = write_person(tmp_path / "in", "walker", true_keypoints(body))
    bad = tmp_path / "in" / "broken_keypoints.json"
    bad.write_text("{")
    config = SamplePhotographs((bad, good), tmp_path / "out", n=2, image_size=IMAGE_SIZE, pictures=False)
    outcome = sample_photographs(config, body=body)
    assert [failure.name for failure in outcome.failures] == [bad.name]
    assert outcome.people is not None
    assert len(outcome.people) == 1


@pytest.mark.parametrize("number", [0, -3])
def test_no_samples_are_refused_before_anything_is_read(tmp_path: Path, number: int) -> None:
    gone, out = (tmp_path / "gone.json",), tmp_path / "out"
    with pytest.raises(InputError, match="at least one sample"):
        sample_photographs(SamplePhotographs(gone, out, n=number))
    with pytest.raises(InputError, match="at least one sample"):
        lift_keypoints(LiftKeypoints(gone, out, n=number))
    assert not out.exists()


@pytest.mark.parametrize("skeleton", ["openpose-body25", "h36m17"])
def test_lifted_skeletons_stand_upright_and_hang_together(tmp_path: Path, body: BodyModel, skeleton: str) -> None:
    file = write_person(tmp_path / "in", "walker", true_keypoints(body))
    config = LiftKeypoints((file,), tmp_path / "out", skeleton=skeleton, n=5, image_size=IMAGE_SIZE)  # type: ignore[arg-type]
    outcome = lift_keypoints(config)
    assert outcome.people is not None
    with np.load(tmp_path / "out" / "skeletons.npz", allow_pickle=False) as arrays:
        skeletons, names = arrays["skeletons"], [str(name).split(":")[1] for name in arrays["names"]]
        assert skeletons.shape == (1, 6, len(names), 3)
        assert arrays["log_prob"][0].argmax() == 0
    mode = dict(zip(names, skeletons[0, 0], strict=True))
    assert np.abs(mode["hip_center"]).max() < 1e-5
    assert mode["left_ankle"][1] > 0.5, "y points down in the camera frame"
    assert mode["nose" if "nose" in mode else "neck_nose"][1] < -0.4
    thigh = np.linalg.norm(mode["left_knee"] - mode["left_hip"])
    assert 0.3 < thigh < 0.55
