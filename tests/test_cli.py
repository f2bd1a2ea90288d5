"""The command line: exit codes, messages, and what the commands leave behind."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.apps.people_files import true_keypoints, write_person
from tests.fitted_people import fitted_people
from tests.tube_body import tube_body
from vitruvian.apps.demo import IMAGE_SIZE
from vitruvian.bodies.open_body import open_body
from vitruvian.cli import COMMANDS, INTERNAL_ERROR, main
from vitruvian.fits import load_fits

SIZE = ("--image-size", str(IMAGE_SIZE[0]), str(IMAGE_SIZE[1]))


@pytest.fixture(scope="module")
def keypoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keypoints")
    write_person(folder, "walker", true_keypoints(open_body()))
    return folder


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]):
    def read() -> str:
        captured = capsys.readouterr()
        return " ".join((captured.out + captured.err).split())

    return read


def test_help_lists_every_command(output) -> None:
    assert main(["--help"]) == 0
    text = output()
    for name, command in COMMANDS.items():
        assert name in text
        assert command.summary in text
    assert main([]) == 2
    assert main(["--version"]) == 0
    assert "vitruvian 0" in output()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_its_options(name: str, output) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*name.split(), "--help"])
    assert stop.value.code == 0
    assert f"vitruvian {name}" in output()


@pytest.mark.parametrize("words", [["dance"], ["body", "dance"], ["body"], ["fit", "--colour", "red"], ["fit"]])
def test_usage_errors_exit_with_two(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = main(words)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert output()


def test_groups_of_commands_have_help(output) -> None:
    assert main(["body", "--help"]) == 0
    text = output()
    assert "body info" in text
    assert "demo " not in text.split("Examples")[0]


def test_fit_from_keypoints(keypoint_folder: Path, tmp_path: Path, output) -> None:
    arguments = ["fit", "--keypoints", str(keypoint_folder), "-o", str(tmp_path / "out"), "--no-pictures", *SIZE]
    assert main(arguments) == 0
    text = output()
    assert "1 of 1 people fitted" in text
    assert "walker" in text
    fits = load_fits(tmp_path / "out" / "fits.npz")
    assert json.loads(fits.config)["keypoints"] == keypoint_folder.name
    assert (tmp_path / "out" / "report.html").is_file()


def test_some_failures_exit_with_one_and_are_named(keypoint_folder: Path, tmp_path: Path, output) -> None:
    good = keypoint_folder / "walker_keypoints.json"
    (tmp_path / "bad.json").write_text("{}")
    arguments = ["fit", str(good), str(tmp_path / "bad.json"), "-o", str(tmp_path / "out"), "--no-pictures", *SIZE]
    assert main(arguments) == 1
    text = output()
    assert "not fitted bad.json" in text
    assert "1 of 1 people fitted" in text


def test_nothing_readable_exits_with_two(tmp_path: Path, output) -> None:
    (tmp_path / "a.jpg").write_text("no picture")
    assert main(["fit", str(tmp_path / "a.jpg"), "-o", str(tmp_path / "out"), "--no-pictures"]) == 2
    assert "not an image" in output()


def test_unwritable_output_exits_with_two_and_a_hint(keypoint_folder: Path, tmp_path: Path, output) -> None:
    (tmp_path / "out").write_text("")
    assert main(["fit", "--keypoints", str(keypoint_folder), "-o", str(tmp_path / "out")]) == 2
    text = output()
    assert "cannot be written" in text
    assert "-o OUT" in text


def test_bodies_that_need_a_licence_say_where_to_get_them(
    keypoint_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output
) -> None:
    monkeypatch.setenv("VITRUVIAN_HOME", str(tmp_path / "home"))
    arguments = ["fit", "--keypoints", str(keypoint_folder), "--body", "smplx", "-o", str(tmp_path / "out")]
    assert main(arguments) == 2
    text = output()
    assert "SMPL-X" in text
    assert "body add" in text


@pytest.mark.parametrize("name", ["people.glb", "people.obj", "people.ply", "people.npz", "people.bvh"])
def test_export(name: str, tmp_path: Path, output) -> None:
    fits = fitted_people(open_body(num_shape=10, num_expression=10), 2)
    fits.save(tmp_path / "fits.npz")
    assert main(["export", str(tmp_path), str(tmp_path / name)]) == 0
    assert (tmp_path / name).stat().st_size > 1000
    text = output()
    assert ("2 frames" if name.endswith((".npz", ".bvh")) else "2 people") in text
    assert ("the betas are those of the body open:" in text) == name.endswith(".npz")


def test_export_of_some_rows_and_of_nothing_known(tmp_path: Path, output) -> None:
    fitted_people(open_body(num_shape=10, num_expression=10), 3).save(tmp_path / "fits.npz")
    path = tmp_path / "one.npz"
    assert main(["export", str(tmp_path / "fits.npz"), str(path), "--rows", "2"]) == 0
    assert np.load(path)["poses"].shape == (1, 165)
    assert main(["export", str(tmp_path), str(tmp_path / "a.fbx")]) == 2
    assert ".fbx" in output()
    assert main(["export", str(tmp_path / "gone.npz"), str(path)]) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rows", "99"], "there are no such rows seen 99 expected 0 to 2"),
        (["--rows", "0", "3", "7"], "seen 3, 7"),
        (["--rows=-1"], "seen -1"),
        (["--frame-rate", "0"], "no possible frame rate"),
        (["--frame-rate=-30"], "no possible frame rate"),
        (["--frame-rate", "nan"], "no possible frame rate"),
        (["--track", "4"], "there is no such track seen 4"),
    ],
)
def test_impossible_choices_of_an_export_are_refused(
    options: list[str], words: str, tmp_path: Path, output, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted_people(tube_body(), 3).save(tmp_path / "fits.npz")
    monkeypatch.setattr("vitruvian.exports.files.fitted_body", lambda fits: pytest.fail("work had started"))
    assert main(["export", str(tmp_path), str(tmp_path / "motion.bvh"), *options]) == 2
    assert words in output()
    assert not (tmp_path / "motion.bvh").exists()


def test_export_of_a_track_says_which_frames_are_missing(tmp_path: Path, output) -> None:
    fits = fitted_people(open_body(num_shape=10, num_expression=10), 5)
    fits = replace(fits, track=(1, 2, 1, 2, 1), frame=(3, 3, 4, 4, 8), picture=("a", "a", "b", "b", "c"))
    fits.save(tmp_path / "fits.npz")
    arguments = ["export", str(tmp_path), str(tmp_path / "motion.bvh")]
    assert main(arguments) == 2
    assert "--track" in output()
    assert main([*arguments, "--track", "1"]) == 0
    assert "3 frames between the first and the last have no fit and were left out: 5, 6, 7" in output()


def test_body_info_and_convert(tmp_path: Path, output) -> None:
    assert main(["body", "info"]) == 0
    assert "vertices" in output()
    path = tmp_path / "smplx.npz"
    assert main(["body", "convert", str(path)]) == 0
    with np.load(path) as arrays:
        assert arrays["J_regressor"].shape[0] == 55
    assert main(["body", "info", str(path)]) == 0
    said = output()
    assert "smplx layout" in said
    assert "CC0" in said
    (tmp_path / "bad.npz").write_bytes(b"no model")
    assert main(["body", "info", str(tmp_path / "bad.npz")]) == 2
    assert main(["body", "add", str(tmp_path / "bad.npz")]) == 2


def test_an_unknown_bug_is_named_and_not_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, output) -> None:  # type: ignore[no-untyped-def]
    fitted_people(tube_body(), 1).save(tmp_path / "fits.npz")

    def broken(*args: object, **options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("vitruvian.exports.files.export", broken)
    assert main(["export", str(tmp_path), str(tmp_path / "a.glb")]) == INTERNAL_ERROR
    said = output()
    assert "ZeroDivisionError" in said
    assert "--debug" in said
    with pytest.raises(ZeroDivisionError):
        main(["export", str(tmp_path), str(tmp_path / "a.glb"), "--debug"])


def test_run_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "vitruvian", "dance"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no such command" in done.stderr
