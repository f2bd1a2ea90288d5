"""The training loop: it learns, resumes exactly, survives wild gradients, and its files are read strictly."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vitruvian.errors import InputError, WeightsError
from vitruvian.training.checkpoints import load_strictly, read_weights, save_weights
from vitruvian.training.loop import LoopConfig, schedule, train


class Line:
    """Fit y = 3x − 1."""

    def __init__(self, *, broken: int | None = None) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(1, 1)
        self.broken = broken
        self.steps = 0

    @property
    def network(self) -> nn.Module:
        return self.model

    def modules(self) -> Mapping[str, nn.Module]:
        return {"network": self.model}

    def draw(self, number: int, size: int, seed: int) -> Tensor:
        return torch.rand(size, 1, generator=torch.Generator().manual_seed(seed * 1000 + number))

    def loss(self, batch: Tensor, number: int, seed: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        x = batch
        loss = (self.model(x) - (3 * x - 1)).square().mean()
        if number == self.broken:
            loss = loss * torch.nan
        return loss, {"fit": loss.detach()}

    def after_step(self, number: int) -> None:
        self.steps += 1


CONFIG = LoopConfig(
    steps=300, batch_size=32, learning_rate=0.05, weight_decay=0.0, average=0.9, log_every=50, save_every=100
)


def test_training_finds_the_line_and_logs(tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []
    task = Line()
    result = train(task, CONFIG, tmp_path, report=lambda n, p, v: seen.append((n, v["loss"])))
    assert result.weights["weight"].item() == pytest.approx(3.0, abs=0.05)
    assert result.weights["bias"].item() == pytest.approx(-1.0, abs=0.05)
    assert [n for n, _ in seen] == [50, 100, 150, 200, 250, 300]
    assert seen[-1][1] < seen[0][1] / 10
    assert task.steps == 300
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 6


def test_a_run_that_was_stopped_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    whole = train(Line(), CONFIG, tmp_path / "whole")

    class Stopped(Exception):
        pass

    def stop(number: int, progress: float, values: Mapping[str, float]) -> None:
        if number == 150:
            raise Stopped

    with pytest.raises(Stopped):
        train(Line(), CONFIG, tmp_path / "broken", report=stop)
    again = train(Line(), CONFIG, tmp_path / "broken")
    assert again.steps == whole.steps
    torch.testing.assert_close(again.weights, whole.weights)


def test_threads_that_work_ahead_change_nothing(tmp_path: Path) -> None:
    plain = train(Line(), CONFIG, tmp_path / "plain")
    ahead = train(Line(), replace(CONFIG, workers=3, device="cpu"), tmp_path / "ahead")
    torch.testing.assert_close(ahead.weights, plain.weights, rtol=0, atol=0)


def test_unknown_devices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such device"):
        train(Line(), replace(CONFIG, device="abacus"), tmp_path)


def test_the_log_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    train(Line(), CONFIG, tmp_path)
    assert (tmp_path / "log.png").read_bytes().startswith(b"\x89PNG")


def test_a_gradient_that_is_not_finite_is_thrown_away(tmp_path: Path) -> None:
    result = train(Line(broken=20), CONFIG, tmp_path)
    assert result.weights["weight"].item() == pytest.approx(3.0, abs=0.05)


def test_a_time_budget_ends_the_run(tmp_path: Path) -> None:
    config = LoopConfig(steps=10**9, minutes=0.01, batch_size=8)
    result = train(Line(), config, tmp_path)
    assert result.steps > 1
    assert 0.6 <= result.seconds < 20


def test_schedule_warms_up_and_falls_to_zero() -> None:
    values = [schedule(k / 100, warmup=0.1) for k in range(101)]
    assert values[0] < 0.01
    assert max(values) == pytest.approx(1.0)
    assert values[100] == pytest.approx(0.0)
    assert sorted(values[10:], reverse=True) == values[10:]


def test_weights_are_read_back_and_misfits_are_listed(tmp_path: Path) -> None:
    model = nn.Linear(2, 3)
    save_weights(model.state_dict(), tmp_path / "w.safetensors", metadata={"steps": 7, "nested": {"a": [1, 2]}})
    tensors, metadata = read_weights(tmp_path / "w.safetensors")
    assert metadata == {"steps": 7, "nested": {"a": [1, 2]}}
    copy = nn.Linear(2, 3)
    load_strictly(copy, tensors)
    assert torch.equal(copy.weight, model.weight)
    with pytest.raises(WeightsError, match="weight"):
        load_strictly(nn.Linear(3, 3), tensors)
    with pytest.raises(WeightsError, match="missing"):
        load_strictly(nn.Sequential(nn.Linear(2, 3)), tensors)
    with pytest.raises(WeightsError):
        read_weights(tmp_path / "absent.safetensors")


def test_half_precision_files_come_back_as_single(tmp_path: Path) -> None:
    values = {"a": torch.randn(10), "count": torch.tensor(3)}
    save_weights(values, tmp_path / "w.safetensors", metadata={}, half=True)
    tensors, _ = read_weights(tmp_path / "w.safetensors")
    assert tensors["a"].dtype == torch.float32
    torch.testing.assert_close(tensors["a"], values["a"], rtol=1e-3, atol=1e-4)
    assert tensors["count"].item() == 3
