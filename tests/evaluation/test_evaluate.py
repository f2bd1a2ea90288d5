"""Scores of distributions and fits: exact answers score zero, and the benchmark of the shipped network runs."""

import json
from pathlib import Path

import pytest
import torch

from vitruvian.bodies.open_body import open_body
from vitruvian.evaluation.config import EvaluateSynthetic
from vitruvian.evaluation.distribution_scores import DistributionScorer, SampleSet, correlation
from vitruvian.evaluation.evaluate import evaluate_synthetic
from vitruvian.evaluation.fit_scores import average_rotations
from vitruvian.evaluation.held_out import draw_well_seen, held_out_people
from vitruvian.geometry.rotations import exp_so3
from vitruvian.recovery.losses import RestJoints


def test_true_poses_score_zero_and_noise_is_covered(generator: torch.Generator) -> None:
    body = open_body(num_shape=10, num_expression=10)
    rest = RestJoints.of(body, num_shape=10)
    batch = draw_well_seen(held_out_people(body), 300, seed=3)
    truth = batch.rotations[:, :22]

    def noisy() -> torch.Tensor:
        return truth @ exp_so3(0.2 * torch.randn(300, 22, 3, generator=generator))

    scorer = DistributionScorer(rest, counts=(1, 5))
    visible = torch.rand(300, 22, generator=generator) < 0.5
    betas = batch.betas.expand(60, -1, -1)
    found = SampleSet(truth, torch.stack([noisy() for _ in range(60)]), batch.betas, betas)
    scorer.add(found, batch.joints[:, :22], visible)
    scores = scorer.scores()
    assert scores.mode.mpjpe_mm < 0.1
    assert scores.best_of[5].mpjpe_mm < 0.1
    # A truth drawn like the samples lies inside their intervals as often as it should.
    calibrated = DistributionScorer(rest, counts=(1,))
    drawn = noisy()
    posed = body.with_shape(batch.betas).with_pose(torch.cat((drawn, batch.rotations[:, 22:]), 1)).joints[:, :22]
    samples = torch.stack([noisy() for _ in range(200)])
    calibrated.add(SampleSet(drawn, samples, batch.betas, batch.betas.expand(200, -1, -1)), posed, visible)
    for part in calibrated.scores().coverage.values():
        for level, share in part.items():
            assert share == pytest.approx(level, abs=0.05)
    assert calibrated.scores().spread_visible_mm == pytest.approx(calibrated.scores().spread_hidden_mm, rel=0.1)


def test_mean_rotation_of_views_is_the_middle(generator: torch.Generator) -> None:
    R = exp_so3(torch.randn(2, 1, 3, 3, generator=generator))
    step = exp_so3(torch.tensor([0.3, -0.1, 0.2]))
    views = torch.stack((R[:, 0] @ step, R[:, 0], R[:, 0] @ step.T), dim=1)
    torch.testing.assert_close(average_rotations(views), R[:, 0], atol=1e-5, rtol=0)


def test_correlation_of_a_line_is_one() -> None:
    x = torch.linspace(0, 1, 20)
    assert correlation(x, 3 * x - 1) == pytest.approx(1.0, abs=1e-5)
    assert correlation(x, -x) == pytest.approx(-1.0, abs=1e-5)


def test_the_benchmark_writes_its_figures(tmp_path: Path) -> None:
    config = EvaluateSynthetic(count=60, samples=25, fit=False, json=tmp_path / "scores.json")
    scores = evaluate_synthetic(config)
    written = json.loads((tmp_path / "scores.json").read_text())
    assert written["mode"]["pa_mpjpe_mm"] == pytest.approx(scores.flow.mode.pa_mpjpe_mm)
    assert written["people"] == 60
    # What the shipped network must at least be able to do on subjects that it never saw.
    assert written["mode"]["pa_mpjpe_mm"] < 85
    assert written["best_of"]["25"]["mpjpe_mm"] < 0.95 * written["mode"]["mpjpe_mm"]
    assert written["spread_mm"]["hidden"] > 1.3 * written["spread_mm"]["visible"]
    again = evaluate_synthetic(config)
    assert again.flow.mode == scores.flow.mode


@pytest.mark.slow
def test_fits_of_the_benchmark_improve_on_the_mode(tmp_path: Path) -> None:
    config = EvaluateSynthetic(quick=True, json=tmp_path / "scores.json")
    evaluate_synthetic(config)
    written = json.loads((tmp_path / "scores.json").read_text())
    assert written["fit_flow"]["pa_mpjpe_mm"] < written["fit_mode"]["pa_mpjpe_mm"]
    assert written["fit_flow"]["mpjpe_mm"] < written["fit_vposer"]["mpjpe_mm"]
    assert written["multiview"]["4"]["pa_mpjpe_mm"] < 0.8 * written["multiview"]["1"]["pa_mpjpe_mm"]
