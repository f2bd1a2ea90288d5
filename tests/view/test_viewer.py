"""The browser viewer: it serves, shows every picture, and ends."""

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.apps.people_files import write_photo
from tests.fitted_people import fitted_people
from tests.tube_body import tube_body
from vitruvian.apps.viewing import show_fits
from vitruvian.errors import InputError, MissingPackageError
from vitruvian.view import viewer as viewer_module
from vitruvian.view.viewer import open_viewer

pytest.importorskip("viser")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the web server inside viser


def test_it_serves_every_picture(tmp_path: Path) -> None:
    body = tube_body()
    fits = fitted_people(body, 2)
    write_photo(tmp_path / "photo_0.jpg", (320, 240))
    with show_fits(fits, body=body, photos=tmp_path, port=8765) as viewer:
        assert b"html" in urllib.request.urlopen(viewer.address, timeout=10).read().lower()
        viewer.show(1)
        viewer.show(0)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(viewer.address, timeout=2)


def test_nobody_to_show() -> None:
    body = tube_body()
    with pytest.raises(InputError, match="nobody to show"):
        show_fits(fitted_people(body, 0), body=body)


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(viewer_module.importlib, "import_module", missing)
    with pytest.raises(MissingPackageError, match=r"vitruvian\[view\]"):
        open_viewer([])
