"""The folder of a run: held by one run, and refused or cleaned where an earlier run left results."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vitruvian.apps.run_folder import LOCK, run_folder
from vitruvian.errors import OutputError

HOLD = """
import sys, time
from pathlib import Path
from vitruvian.apps.run_folder import run_folder
with run_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_results_of_an_earlier_run_are_refused_or_taken_away(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with run_folder(out) as folder:
        (folder / "fits.npz").write_text("first")
        (folder / "meshes").mkdir()
        (folder / "meshes" / "a.glb").write_text("first")
        (folder / "mine.txt").write_text("the user's own")
    with pytest.raises(OutputError, match=r"earlier run.*fits\.npz, meshes.*--overwrite"), run_folder(out):
        pass
    assert (out / "fits.npz").read_text() == "first"
    with run_folder(out, overwrite=True):
        assert sorted(path.name for path in out.iterdir() if path.name != LOCK) == ["mine.txt"]
    assert sorted(path.name for path in out.iterdir()) == ["mine.txt"]


def test_a_link_is_taken_away_and_not_what_it_points_to(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious.glb").write_text("kept")
    out = tmp_path / "out"
    out.mkdir()
    (out / "meshes").symlink_to(elsewhere)
    with run_folder(out, overwrite=True):
        assert not (out / "meshes").exists()
    assert (elsewhere / "precious.glb").read_text() == "kept"


def test_two_runs_at_once_exclude_each_other_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match="another run"), run_folder(tmp_path / "out"):
            pass
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    with run_folder(tmp_path / "out") as folder:
        assert folder.is_dir()


def test_an_error_inside_lets_go(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="inside"), run_folder(tmp_path):
        raise ValueError("inside")
    with run_folder(tmp_path):
        pass
