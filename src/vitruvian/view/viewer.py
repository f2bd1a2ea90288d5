"""Fitted people in the browser: bodies, skeletons, and cameras with their photographs."""

import contextlib
import importlib
import io
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vitruvian.bodies.colours import body_colour
from vitruvian.bodies.model import PosedBody
from vitruvian.errors import InputError, MissingPackageError, OutputError
from vitruvian.geometry.cameras import Camera

_BONE_COLOUR = (250, 190, 60)


@dataclass(frozen=True, eq=False)
class ViewedPicture:
    """The people of one picture, `(person, ...)` in its camera frame, its camera, and its pixels where at hand."""

    name: str
    people: PosedBody
    camera: Camera
    photograph: UInt8[np.ndarray, "height width 3"] | None = None


class Viewer:
    """A running server. `address` is where to look; `stop` ends it, as does leaving the `with` block."""

    def __init__(self, server: Any, pictures: Sequence[ViewedPicture]) -> None:
        self._server = server
        self._pictures = pictures
        self._stopped = threading.Event()
        self.address = f"http://{server.get_host()}:{server.get_port()}"
        server.scene.set_up_direction("-y")  # the camera frame of OpenCV: y points down
        self._handles: list[Any] = []
        server.gui.set_panel_label("vitruvian")
        names = [f"{number + 1}. {picture.name}" for number, picture in enumerate(pictures)]
        self._choice = server.gui.add_dropdown("Picture", names, initial_value=names[0])
        self._bodies = server.gui.add_checkbox("Bodies", True)
        self._skeletons = server.gui.add_checkbox("Skeletons", False)
        self._opacity = server.gui.add_slider("Opacity", 0.1, 1.0, 0.05, 1.0)
        for control in (self._choice, self._bodies, self._skeletons, self._opacity):
            control.on_update(lambda _event: self.show(names.index(self._choice.value)))
        self.show(0)

    def show(self, number: int) -> None:
        """Show one of the pictures."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        picture = self._pictures[number]
        scene = self._server.scene
        vertices = picture.people.vertices.detach().cpu().numpy()
        faces = picture.people.model.faces.cpu().numpy()
        joints = picture.people.joints.detach().cpu().numpy()
        colour = tuple(round(255 * c) for c in body_colour(picture.people.model.gender))
        parents = picture.people.model.skeleton.parents
        bones = [(parent, joint) for joint, parent in enumerate(parents) if parent >= 0]
        for person in range(len(vertices)):
            if self._bodies.value:
                opacity = None if self._opacity.value >= 1 else self._opacity.value
                name = f"/people/{person}/body"
                self._handles.append(
                    scene.add_mesh_simple(name, vertices[person], faces, color=colour, opacity=opacity)
                )
            if self._skeletons.value:
                segments = np.array([[joints[person, a], joints[person, b]] for a, b in bones])
                name = f"/people/{person}/skeleton"
                self._handles.append(scene.add_line_segments(name, segments, _BONE_COLOUR, thickness=0.008))
        middle = vertices.reshape(-1, 3).mean(0)
        self._server.initial_camera.look_at = tuple(map(float, middle))
        self._server.initial_camera.position = tuple(map(float, middle + np.array([1.6, -0.8, -2.4])))
        self._handles.append(self._camera(picture, float(vertices[..., 2].mean())))
        self._handles.append(self._ground(vertices))

    def _camera(self, picture: ViewedPicture, depth: float) -> Any:
        width, height = picture.camera.image_size.tolist()
        return self._server.scene.add_camera_frustum(
            "/camera",
            fov=2 * math.atan(height / 2 / float(picture.camera.focal_px[1])),
            aspect=width / height,
            scale=max(0.15 * depth, 0.1),
            image=picture.photograph,
        )

    def _ground(self, vertices: np.ndarray) -> Any:
        x, _, z = vertices.reshape(-1, 3).mean(0)
        place = (float(x), float(vertices[..., 1].max()), float(z))
        return self._server.scene.add_grid("/ground", 4.0, 4.0, plane="xz", position=place)

    def wait(self) -> None:
        """Return when the server is stopped or the user interrupts."""
        try:
            self._stopped.wait()
        except KeyboardInterrupt:
            pass
        finally:
            self.stop()

    def stop(self) -> None:
        """End the server."""
        if not self._stopped.is_set():
            self._stopped.set()
            self._server.stop()

    def __enter__(self) -> "Viewer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


def open_viewer(pictures: Sequence[ViewedPicture], *, host: str = "127.0.0.1", port: int = 8080) -> Viewer:
    """Serve the pictures; the next free port is taken where `port` is in use.

    Raises:
        InputError: a number that is no port.
        MissingPackageError: viser is not installed.
        OutputError: the server cannot be started.
    """
    if not 0 < port < 65536:
        raise InputError("no possible port", seen=port, expected="1 to 65535")
    try:
        viser = importlib.import_module("viser")
    except ImportError as error:
        raise MissingPackageError("the viewer needs the package viser", hint='pip install "vitruvian[view]"') from error
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it announces itself; the command line does that here
            server = viser.ViserServer(host=host, port=port, label="vitruvian", verbose=False)
    except OSError as error:
        raise OutputError("the viewer cannot be started", seen=f"{host}:{port} ({error.strerror})") from error
    return Viewer(server, pictures)
