"""Training VPoser: the loss falls, runs resume, weights are read back; and the parts of the loss."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.small_archives import write_small_archives
from vitruvian.data.mocap import load_pose_dataset
from vitruvian.errors import WeightsError
from vitruvian.geometry.rotations import exp_so3, geodesic_angle
from vitruvian.priors.vposer import VPoserSettings, read_vposer
from vitruvian.training.loop import LoopConfig
from vitruvian.training.vposer import (
    VPoserConfig,
    VPoserTask,
    kl_to_unit_gaussian,
    recombined,
    reconstruction,
    train_vposer,
)

LOOP = LoopConfig(steps=60, batch_size=64, learning_rate=2e-3, average=0.9, log_every=20, save_every=20)
SETTINGS = VPoserSettings(latent=8, hidden=64, decoder_hidden=48)


@pytest.fixture(scope="module")
def archives(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory, module_monkeypatch: pytest.MonkeyPatch
) -> Path:
    module_monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    return write_small_archives(shared_data, tmp_path_factory.mktemp("archives"))


@pytest.fixture(scope="module")
def module_monkeypatch() -> pytest.MonkeyPatch:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def test_training_lowers_the_loss_and_writes_weights_that_can_be_read(archives: Path, tmp_path: Path) -> None:
    calls = []
    config = VPoserConfig(archives, tmp_path, loop=LOOP, settings=SETTINGS)
    errors = train_vposer(config, report=lambda step, progress, values: calls.append((step, progress, values["loss"])))
    assert [step for step, _, _ in calls] == [20, 40, 60]
    assert calls[-1][1] == 1
    assert calls[-1][2] < 0.75 * calls[0][2]
    vposer = read_vposer(tmp_path / "vposer.safetensors")
    assert vposer.settings == SETTINGS
    assert not vposer.training
    poses = load_pose_dataset(archives, split="val").rotations[:, 1:]
    again = reconstruction(vposer, poses)
    # Weights are stored in half precision.
    assert again.joint_mm == pytest.approx(errors.joint_mm, rel=0.02)
    mean_pose = vposer.decode(torch.zeros(1, 8))
    away = float(torch.rad2deg(geodesic_angle(mean_pose, poses)).mean())
    assert errors.angle_deg < away


def test_an_interrupted_run_goes_on_where_it_was(archives: Path, tmp_path: Path) -> None:
    config = VPoserConfig(archives, tmp_path / "whole", loop=LOOP, settings=SETTINGS)
    train_vposer(config)
    whole = read_vposer(tmp_path / "whole" / "vposer.safetensors").state_dict()

    class Stop(Exception):
        pass

    def stop(step: int, progress: float, values: object) -> None:
        if step == 40:
            raise Stop

    torch.manual_seed(0)
    halves = replace(config, output=tmp_path / "halves")
    with pytest.raises(Stop):
        train_vposer(halves, report=stop)
    steps = []
    train_vposer(halves, report=lambda step, progress, values: steps.append(step))
    assert steps == [40, 60]  # the last checkpoint was at 20
    resumed = read_vposer(tmp_path / "halves" / "vposer.safetensors").state_dict()
    # Dropout draws from the global generator, so the two runs agree in size, not in digits.
    for name, tensor in whole.items():
        assert tensor.shape == resumed[name].shape
        assert torch.isfinite(resumed[name].float()).all()


def test_weights_that_are_no_vposer_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    with pytest.raises(WeightsError, match="missing"):
        read_vposer(tmp_path / "none.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="settings"):
        read_vposer(tmp_path / "a.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "b.safetensors", metadata={"settings": "{}"})
    with pytest.raises(WeightsError, match=r"missing encoder\.0\.weight.* more"):
        read_vposer(tmp_path / "b.safetensors")


def test_divergence_is_that_of_torch(generator: torch.Generator) -> None:
    mean = torch.randn(5, 8, generator=generator)
    std = 0.1 + torch.rand(5, 8, generator=generator)
    unit = torch.distributions.Normal(torch.zeros(8), torch.ones(8))
    expected = torch.distributions.kl_divergence(torch.distributions.Normal(mean, std), unit).sum(-1)
    torch.testing.assert_close(kl_to_unit_gaussian(mean, std), expected)


def test_recombined_poses_take_whole_limbs_or_lie_between(generator: torch.Generator) -> None:
    poses = exp_so3(0.5 * torch.randn(200, 21, 3, generator=generator, dtype=torch.float64))
    others = poses.roll(1, dims=0)
    same = recombined(poses, swapped=0.0, blended=0.0, generator=generator)
    torch.testing.assert_close(same, poses)
    swapped = recombined(poses, swapped=1.0, blended=0.0, generator=generator)
    own = (swapped - poses).abs().amax((-1, -2)) < 1e-9
    taken = (swapped - others).abs().amax((-1, -2)) < 1e-9
    assert (own ^ taken).all()
    assert set(taken.sum(1).tolist()) == {2, 4, 8}
    between = recombined(poses, swapped=0.0, blended=1.0, generator=generator)
    a, b = geodesic_angle(poses, between), geodesic_angle(between, others)
    torch.testing.assert_close(a + b, geodesic_angle(poses, others), rtol=0, atol=1e-6)


def test_carried_points_show_every_turn(archives: Path, tmp_path: Path) -> None:
    task = VPoserTask(VPoserConfig(archives, tmp_path, settings=SETTINGS), load_pose_dataset(archives, split="train"))
    rest = torch.eye(3).repeat(63, 21, 1, 1)
    turned = rest.clone()
    for row in range(63):
        axis = torch.zeros(3)
        axis[row % 3] = 0.3
        turned[row, row // 3] = exp_so3(axis)
    moved = (task.points(turned) - task.points(rest)).norm(dim=-1).amax((1, 2))
    assert float(moved.min()) > 0.02
    loss, values = task.loss(task.draw(0, 32, 0), 0, 0)
    expected = 0.005 * values["kl"] + 2.0 * values["rotation"] + 4.0 * values["points_m"]
    torch.testing.assert_close(loss.detach(), expected)
