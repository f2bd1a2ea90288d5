"""Training of the image network: it learns, resumes, shares work among processes, and overfits rendered people."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.tube_body import tube_body
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.open_body import open_body
from vitruvian.data.augmentation import Augmentation
from vitruvian.data.cropped_people import CroppedPeople
from vitruvian.data.rendered import RenderedConfig, RenderedPeople
from vitruvian.data.synthetic import PoseLibrary
from vitruvian.flows import FlowConfig
from vitruvian.priors.pose_bank import PoseBank
from vitruvian.recovery.image_losses import ImageLossWeights
from vitruvian.recovery.image_network import ImageNetwork, ImageNetworkConfig
from vitruvian.recovery.image_weights import read_image_network
from vitruvian.training import image
from vitruvian.training.checkpoints import read_run
from vitruvian.training.image import ImageData, ImageTraining, train_image
from vitruvian.training.image_batch import viewed_crops

pytest.importorskip("lightning")
TINY = ImageNetworkConfig(
    encoder="resnet18",
    width=4,
    coordinates="chart",
    head_hidden=8,
    flow=FlowConfig(66, 1, num_layers=2, hidden=8, num_blocks=1, scale_hidden=8),
    crop_px=32,
    body="open",
)
SHORT = ImageTraining(
    network=TINY,
    steps=4,
    batch_size=4,
    learning_rate=1e-3,
    half_precision=False,
    accelerator="cpu",
    log_every=2,
    save_every=2,
    validate_every=4,
    validation_people=4,
)


class Same:
    """The same people in every batch."""

    def __init__(self, people: CroppedPeople) -> None:
        self.people = people

    def batch(self, size: int, *, seed: int, number: int = 0) -> CroppedPeople:
        return self.people


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing the log takes seconds: one test and the slow ones do it."""
    if "drawn" not in request.node.name and request.node.get_closest_marker("slow") is None:
        monkeypatch.setattr(image, "plot_log", lambda *paths, names: None)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return tube_body(num_shape=10)


@pytest.fixture(scope="module")
def people(body: BodyModel) -> Same:
    """Four people as noise on a plain picture: what is learnt here is that everything fits together."""
    from tests.recovery.test_image_losses import cropped_people

    return Same(cropped_people(body, 4, size_px=32))


def test_a_stopped_run_goes_on_where_it_was(body: BodyModel, people: Same, tmp_path: Path) -> None:
    data = ImageData(people)
    whole = train_image(SHORT, body, data, tmp_path / "whole")
    train_image(replace(SHORT, steps=2), body, data, tmp_path / "parts")
    assert read_run(tmp_path / "parts" / "run.pt")["number"] == 2
    parts = train_image(SHORT, body, data, tmp_path / "parts")
    assert parts.steps == 4
    for name, tensor in whole.network.state_dict().items():
        torch.testing.assert_close(parts.network.state_dict()[name], tensor, msg=name)
    lines = [json.loads(line) for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [2, 4]
    assert lines[-1]["mode_mm"] > 0


def test_the_log_is_drawn_and_the_file_of_weights_is_the_network(body: BodyModel, people: Same, tmp_path: Path) -> None:
    result = train_image(replace(SHORT, steps=2), body, ImageData(people), tmp_path)
    network = read_image_network(tmp_path / "image.safetensors")
    assert network.config == TINY
    assert (tmp_path / "log.png").stat().st_size > 1000
    batch = viewed_crops(people.people, num_joints=22)
    own, read = result.network(batch.view, batch.normalized()), network(batch.view, batch.normalized())
    torch.testing.assert_close(own.flow.mode, read.flow.mode)


@pytest.mark.parametrize("coordinates", ["six-d", "chart"])
def test_the_loss_falls(body: BodyModel, people: Same, tmp_path: Path, coordinates: str) -> None:
    flow = TINY.flow if coordinates == "chart" else replace(TINY.flow, context_scales=False, coupling="normalized")
    network = replace(TINY, coordinates=coordinates, num_joints=22, flow=flow)
    config = replace(SHORT, network=network, steps=16, learning_rate=3e-3, losses=ImageLossWeights(keypoints_3d=1.0))
    seen: list[float] = []
    train_image(config, body, ImageData(people), tmp_path, report=lambda s, p, values: seen.append(values["loss"]))
    assert seen[-1] < seen[0]


def test_keypoints_too_can_be_the_context(body: BodyModel, people: Same, tmp_path: Path) -> None:
    config = replace(SHORT, network=replace(TINY, encoder="keypoints"), steps=2, num_samples=1, half_precision=True)
    poses = PoseLibrary(PoseBank.learnt().rotations[:8], torch.ones(8))
    result = train_image(config, body, ImageData(people, people, poses), tmp_path)
    assert result.scores is not None
    assert all(value == value for value in result.scores.values().values())


@pytest.mark.slow
def test_processes_that_train_together_end_with_one_network(tmp_path: Path) -> None:
    """Two processes under torchrun, each with batches of its own; every rank writes down its weights."""
    script = tmp_path / "run.py"
    script.write_text(
        "import os, torch\n"
        "from pathlib import Path\n"
        "from dataclasses import replace\n"
        "from tests.training.test_image import SHORT, tube_body, ImageData, train_image\n"
        "from tests.recovery.test_image_losses import Drawn\n"
        "body = tube_body(num_shape=10)\n"
        "result = train_image(replace(SHORT, devices=2), body, ImageData(Drawn(body)), Path('run'))\n"
        "torch.save(result.network.state_dict(), f'rank{os.environ[\"RANK\"]}.pt')\n"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'src'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=500)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name, tensor in ranks[0].items():
        if "running" not in name:  # statistics of normalisation are those of each process' own batches
            torch.testing.assert_close(ranks[1][name], tensor, msg=name)
    assert read_image_network(tmp_path / "run" / "image.safetensors").config == TINY


OVERFIT = ImageTraining(
    network=replace(TINY, width=16, head_hidden=128, flow=replace(TINY.flow, hidden=64, scale_hidden=32), crop_px=96),
    losses=ImageLossWeights(keypoints_3d=1.0, keypoints_2d=0.2, pose=0.1, shape=0.01),
    steps=100,
    batch_size=32,
    learning_rate=2e-3,
    decay=True,
    half_precision=False,
    accelerator="cpu",
    log_every=10,
    save_every=100,
    validate_every=20,
    validation_people=32,
)
"""For one processor core: a narrow ResNet-18 on small crops, factors that weigh joints more than the paper's."""


@pytest.mark.slow
def test_it_overfits_32_rendered_pictures(tmp_path: Path) -> None:
    body = open_body(num_shape=10, num_expression=10)
    poses = PoseBank.learnt().rotations
    config = RenderedConfig(size_px=96, augmentation=Augmentation.none(), occluder=0.0)
    people = Same(RenderedPeople(body, PoseLibrary(poses, torch.ones(len(poses))), config).batch(32, seed=5))
    result = train_image(OVERFIT, body, ImageData(people, people), tmp_path / "overfit")
    assert result.scores is not None
    assert float(result.scores.mode_mm) <= 30
    assert isinstance(result.network, ImageNetwork)
