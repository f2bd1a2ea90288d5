"""The examples run as they are printed."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.apps.people_files import true_keypoints, write_person
from vitruvian.apps.demo import IMAGE_SIZE, sample_photograph
from vitruvian.bodies.open_body import open_body
from vitruvian.fits import load_fits

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_fit_keypoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_person(tmp_path, "a", true_keypoints(open_body()))
    run("fit_keypoints.py", monkeypatch, file, *IMAGE_SIZE, tmp_path / "out")
    assert "person 0" in capsys.readouterr().out
    assert load_fits(tmp_path / "out" / "fits.npz").usable.all()
    assert (tmp_path / "out" / "people.glb").stat().st_size > 100_000


def test_pose_a_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mitsuba")
    run("pose_a_body.py", monkeypatch, tmp_path / "body.png")
    assert "nose" in capsys.readouterr().out
    with Image.open(tmp_path / "body.png") as image:
        assert np.asarray(image).std() > 10


@pytest.mark.slow
def test_fit_photograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("mitsuba", "mediapipe", "ai_edge_litert"):
        pytest.importorskip(package)
    run("fit_photograph.py", monkeypatch, sample_photograph(), tmp_path / "overlay.png")
    assert capsys.readouterr().out.startswith("1 people")
    with Image.open(tmp_path / "overlay.png") as image:
        assert image.size == (512, 600)


@pytest.mark.parametrize("example", [path.name for path in EXAMPLES.glob("*.py")])
def test_without_arguments_an_example_says_how_to_use_it(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=f"python examples/{example} "):
        run(example, monkeypatch)


def test_every_example_is_run_here() -> None:
    tested = Path(__file__).read_text(encoding="utf-8")
    for example in EXAMPLES.glob("*.py"):
        assert f'run("{example.name}"' in tested
