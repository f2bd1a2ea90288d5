"""Fitting and sampling with an image network: on SMPL's tree and on SMPL-X's, from files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.apps.people_files import true_keypoints, write_person, write_photo
from tests.recovery.published_prohmr import SMALL
from tests.recovery.test_image_posterior import smpl_of
from tests.tube_body import tube_body
from vitruvian.apps.distribution_config import SamplePhotographs
from vitruvian.apps.fit import fit_photographs
from vitruvian.apps.fit_config import FitPhotographs
from vitruvian.apps.sample import sample_photographs
from vitruvian.bodies.model import BodyModel
from vitruvian.errors import InputError, WeightsError
from vitruvian.recovery.image_network import ImageNetwork
from vitruvian.recovery.image_weights import read_image_network
from vitruvian.training.checkpoints import save_weights


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = ImageNetwork(replace(SMALL, crop_px=32))
    path = tmp_path_factory.mktemp("network") / "image.safetensors"
    save_weights(network.state_dict(), path, metadata={"image_network": network.config.to_json()})
    return path


@pytest.fixture(params=["smpl", "smplx"])
def body(request: pytest.FixtureRequest) -> BodyModel:
    body = tube_body(num_shape=10)
    return smpl_of(body) if request.param == "smpl" else body


def test_a_fit_in_the_latent_of_the_pixels(tmp_path: Path, file: Path, body: BodyModel) -> None:
    photo = write_photo(tmp_path / "in" / "walker.png")
    write_person(tmp_path / "keypoints", "walker", true_keypoints(tube_body(num_shape=10)))
    config = FitPhotographs((photo,), tmp_path / "out", keypoints=tmp_path / "keypoints", network=file, pictures=False)
    outcome = fit_photographs(config, body=body)
    assert outcome.fits.prior == ("image",)
    assert outcome.fits.params.rotations.shape == (1, body.num_joints, 3, 3)
    assert outcome.fits.params.rotations.isfinite().all()
    assert outcome.fits.usable.all()
    with pytest.raises(InputError, match="prior of its own"):
        fit_photographs(replace(config, prior="vposer", overwrite=True), body=body)
    nothing = replace(config, inputs=(), keypoints=tmp_path / "keypoints", image_size=(640, 480))
    with pytest.raises(InputError, match="no photograph"):
        fit_photographs(nothing, body=body)


def test_samples_of_the_pixels(tmp_path: Path, file: Path, body: BodyModel) -> None:
    photo = write_photo(tmp_path / "in" / "walker.png")
    write_person(tmp_path / "keypoints", "walker", true_keypoints(tube_body(num_shape=10)))
    config = SamplePhotographs(
        (photo,), tmp_path / "out", n=3, keypoints=tmp_path / "keypoints", network=file, pictures=False
    )
    sample_photographs(config, body=body)
    with np.load(tmp_path / "out" / "samples.npz", allow_pickle=False) as arrays:
        assert arrays["body_pose"].shape == (1, 4, 23 if body.family == "smpl" else 21, 3)
        assert arrays["log_prob"][0, 0] == arrays["log_prob"].max()


def test_files_of_networks_are_read_strictly(tmp_path: Path, file: Path) -> None:
    assert read_image_network(file).config.crop_px == 32
    with pytest.raises(WeightsError, match="missing"):
        read_image_network(tmp_path / "none.safetensors")
    save_weights({"a": torch.zeros(1)}, tmp_path / "other.safetensors", metadata={})
    with pytest.raises(WeightsError, match="does not describe"):
        read_image_network(tmp_path / "other.safetensors")
