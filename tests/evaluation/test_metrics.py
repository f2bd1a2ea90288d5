"""Errors in millimetres: exact on known cases, and Procrustes alignment undoes every similarity."""

import torch

from vitruvian.evaluation.metrics import best_of, coverage, mpjpe_mm, pa_error_mm, pck, point_error_mm, procrustes_align
from vitruvian.geometry.rotations import exp_so3


def test_procrustes_undoes_a_similarity(generator: torch.Generator) -> None:
    target = torch.randn(5, 30, 3, generator=generator, dtype=torch.float64)
    R = exp_so3(torch.randn(5, 3, generator=generator, dtype=torch.float64))
    moved = 0.3 * target @ R.transpose(-1, -2) + torch.tensor([1.0, -2.0, 3.0])
    torch.testing.assert_close(procrustes_align(moved, target), target)
    assert pa_error_mm(moved, target).max() < 1e-9


def test_procrustes_never_reflects(generator: torch.Generator) -> None:
    target = torch.randn(4, 30, 3, generator=generator, dtype=torch.float64)
    mirrored = target * torch.tensor([-1.0, 1.0, 1.0])
    assert (pa_error_mm(mirrored, target) > 100).all()


def test_errors_are_millimetres_and_ignore_the_root() -> None:
    target = torch.zeros(1, 2, 3)
    points = torch.tensor([[[0.0, 0.0, 0.0], [0.003, 0.004, 0.0]]])
    assert point_error_mm(points, target).item() == 2.5
    torch.testing.assert_close(mpjpe_mm(points + 7.0, target), torch.tensor([2.5]), atol=1e-3, rtol=0)
    assert pck(points, target, threshold_mm=4.9).item() == 0.5
    assert best_of(torch.tensor([[3.0, 1.0, 2.0]])).item() == 1.0


def test_coverage_of_a_calibrated_distribution(generator: torch.Generator) -> None:
    truth = torch.randn(4_000, 1, generator=generator, dtype=torch.float64)
    samples = torch.randn(200, 4_000, 1, generator=generator, dtype=torch.float64)
    for level in (0.5, 0.8, 0.95):
        assert abs(coverage(truth, samples, level=level) - level) < 0.03
        assert coverage(truth, 0.3 * samples, level=level) < level - 0.1
