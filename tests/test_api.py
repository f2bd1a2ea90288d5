"""The public interface: its names, where they come from, and that importing it is light."""

import importlib
import subprocess
import sys

import pytest

import vitruvian

NAMES = [
    "BodyModel", "BodyParams", "BodyPosterior", "Camera", "Fit", "Fits", "Keypoints", "People", "VitruvianError",
    "detect", "export", "fit", "load_body", "load_fits", "open_body", "read_image", "read_keypoints", "regress",
    "write_keypoints",
]  # fmt: skip


def test_export_list() -> None:
    assert vitruvian.__all__ == NAMES
    assert set(NAMES) <= set(dir(vitruvian))


@pytest.mark.parametrize("name", NAMES)
def test_every_name_can_be_imported(name: str) -> None:
    value = getattr(vitruvian, name)
    assert callable(value)
    assert value.__doc__


def test_functions_are_not_hidden_by_modules_of_the_same_name() -> None:
    for name in NAMES:
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(f"vitruvian.{name}")


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="nobody"):
        vitruvian.nobody  # noqa: B018


def test_importing_the_package_and_asking_for_help_load_no_heavy_package() -> None:
    code = (
        "import sys, vitruvian, vitruvian.cli; code = vitruvian.cli.main(['--help']); "
        "sys.exit(code or any(m in sys.modules for m in ('torch', 'mitsuba', 'mediapipe', 'trimesh', 'viser')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
