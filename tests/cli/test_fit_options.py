"""Options of `vitruvian fit` that choose how people are fitted: each reaches the fit that it names."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import vitruvian as vt
from tests.apps.people_files import true_keypoints, write_person
from tests.priors.published_folders import named, second_folder, second_version
from vitruvian.apps.demo import IMAGE_SIZE
from vitruvian.bodies.model import BodyModel
from vitruvian.cli import main
from vitruvian.fitting.config import FitConfig
from vitruvian.priors.joint_limits import JointLimits

SIZE = ("--image-size", str(IMAGE_SIZE[0]), str(IMAGE_SIZE[1]))
Settings = Callable[[FitConfig], FitConfig]


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return vt.open_body()


@pytest.fixture(scope="module")
def file(body: BodyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_person(tmp_path_factory.mktemp("keypoints"), "walker", true_keypoints(body))


def fitted(files: list[Path], out: Path, *options: str) -> vt.Fits:
    names = [str(file) for file in files]
    code = main(["fit", *names, "-o", str(out), "--no-pictures", *SIZE, *options])
    fits = vt.load_fits(out / "fits.npz")
    assert fits.usable.all()
    assert code == (1 if "bad" in fits.verdict else 0)
    return fits


def from_python(body: BodyModel, file: Path, prior: str, settings: Settings | None = None) -> vt.Fits:
    people = vt.read_keypoints(file)
    return vt.fit(body, people, vt.Camera.from_image_size(*IMAGE_SIZE), prior=prior, config=settings)


def assert_same_fit(a: vt.Fits, b: vt.Fits) -> None:
    torch.testing.assert_close(a.params.rotations, b.params.rotations, atol=1e-4, rtol=0)
    torch.testing.assert_close(a.params.transl, b.params.transl, atol=1e-3, rtol=0)
    torch.testing.assert_close(a.cost, b.cost, atol=1e-4, rtol=1e-3)


def test_lbfgs_finds_the_same_minimum_by_another_way(body: BodyModel, file: Path, tmp_path: Path) -> None:
    """It goes another way than Levenberg-Marquardt, to a minimum of the same objective that is as low."""
    told = fitted([file], tmp_path / "out", "--solver", "lbfgs", "--prior", "hand-set")
    newton = from_python(body, file, "hand-set")
    assert (told.params.rotations - newton.params.rotations).abs().max() > 1e-5
    torch.testing.assert_close(told.cost, newton.cost, atol=0, rtol=0.02)


def test_the_paper_schedule_is_the_published_one_under_vposer(body: BodyModel, file: Path, tmp_path: Path) -> None:
    told = fitted([file], tmp_path / "out", "--schedule", "paper")
    assert told.prior == ("vposer",)
    assert_same_fit(told, from_python(body, file, "vposer", lambda own: FitConfig.paper()))
    assert float(told.reprojection_px) < 10


def test_views_are_one_person(body: BodyModel, file: Path, tmp_path: Path) -> None:
    side = write_person(tmp_path / "in", "side", true_keypoints(body, turn_deg=70))
    fits = fitted([file, side], tmp_path / "out", "--views")
    assert len(fits) == 2
    assert (fits.reprojection_px < 4).all()
    torch.testing.assert_close(fits.params.betas[0], fits.params.betas[1])
    torch.testing.assert_close(fits.params.rotations[0, 1:], fits.params.rotations[1, 1:], atol=1e-3, rtol=0)
    between = fits.params.rotations[1, 0] @ fits.params.rotations[0, 0].T
    turned_deg = torch.rad2deg(torch.acos((torch.trace(between) - 1) / 2))
    assert abs(float(turned_deg) - 70) < 8


def test_one_view_is_not_enough(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(file), "-o", str(tmp_path / "out"), "--no-pictures", "--views", *SIZE]) == 2
    assert "several views" in capsys.readouterr().err


def test_weights_of_a_published_vposer_decide_the_fit(
    body: BodyModel, file: Path, tmp_path: Path, generator: torch.Generator
) -> None:
    folder = second_folder(tmp_path / "V02_05", named(second_version(generator), "vp_model."))
    told = fitted([file], tmp_path / "out", "--prior", "vposer", "--prior-weights", str(folder))
    assert told.prior == ("vposer, weights given",)
    assert str(tmp_path) not in told.config
    assert "V02_05" in told.config
    own = from_python(body, file, "vposer")
    assert (told.params.rotations - own.params.rotations).abs().max() > 0.05


def test_weights_are_read_before_any_work(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vitruvian.apps.fit.gather", lambda *args, **options: pytest.fail("work had started"))
    arguments = ["fit", str(file), "-o", str(tmp_path / "out"), "--prior-weights", str(tmp_path)]
    assert main([*arguments, "--prior", "vposer"]) == 2
    assert "without a snapshot" in capsys.readouterr().err


def test_limits_reach_the_fit(file: Path, tmp_path: Path) -> None:
    told = fitted([file], tmp_path / "out", "--prior", "none", "--limits")
    assert told.prior == ("none, joint limits",)
    limits = JointLimits.learnt()
    excess = limits.excess(told.params.rotations[:, list(limits.joints)])
    assert float(excess.abs().max()) < 0.2
