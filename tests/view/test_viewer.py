"""The browser viewer: it serves, shows every picture, and ends."""

import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from tests.apps.people_files import write_photo
from tests.fitted_people import fitted_people
from tests.tube_body import tube_body
from vitruvian.apps.viewing import show_fits
from vitruvian.errors import InputError, MissingPackageError
from vitruvian.view import viewer as viewer_module
from vitruvian.view.viewer import ViewedPicture, Viewer, open_viewer

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


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_impossible_ports(port: int) -> None:
    with pytest.raises(InputError, match="port"):
        open_viewer([], port=port)


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(viewer_module.importlib, "import_module", missing)
    with pytest.raises(MissingPackageError, match=r"vitruvian\[view\]"):
        open_viewer([])


class Node:
    """Something in the scene, or a control; forgets itself when removed."""

    def __init__(
        self, nodes: dict[str, "Node"], name: str, arguments: tuple[object, ...], value: object = None
    ) -> None:
        self.arguments = arguments
        self.value = value
        self._remove = lambda: nodes.pop(name)
        nodes[name] = self

    def remove(self) -> None:
        self._remove()

    def on_update(self, callback: object) -> None:
        """Controls are not moved here."""


class Server:
    """Stands for the web server: keeps what is in its scene."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.scene = self.gui = self

    def get_host(self) -> str:
        return "host"

    def get_port(self) -> int:
        return 1

    def __getattr__(self, name: str):
        if name.startswith("add_"):
            return self._add
        return lambda *arguments, **options: None

    def _add(self, name: str, *arguments: object, **options: object) -> Node:
        value = options.get("initial_value", arguments[-1] if arguments else None)
        return Node(self.nodes, name, arguments, value)


def test_a_picture_takes_the_place_of_the_one_before() -> None:
    body = tube_body()
    fits = fitted_people(body, 3)
    groups = [fits[[0, 1]].pose(body), fits[[2]].pose(body)]
    pictures = [ViewedPicture(f"{k}", people, fits.camera[k]) for k, people in enumerate(groups)]
    server = Server()
    viewer = Viewer(server, pictures)

    def bodies() -> list[np.ndarray]:
        return [node.arguments[0] for name, node in sorted(server.nodes.items()) if name.endswith("/body")]

    for number in (0, 1, 0):
        viewer.show(number)
        shown = bodies()
        assert len(shown) == len(groups[number].vertices)
        for vertices, expected in zip(shown, groups[number].vertices.numpy(), strict=True):
            np.testing.assert_array_equal(vertices, expected)
