"""Pictures of bodies: what is covered, where, in which colour."""

import numpy as np
import pytest
import torch
import trimesh

from tests.fitted_people import fitted_people
from tests.tube_body import tube_body
from vitruvian.errors import InputError, MissingPackageError, ShapeError
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.meshes import Mesh
from vitruvian.view import ray_tracing
from vitruvian.view.render import COLOURS, heat_colors, overlay, render_meshes, sheet, split_people, turned_view

pytest.importorskip("mitsuba")


def sphere(x: float, y: float, z: float, radius: float = 0.3, subdivisions: int = 3) -> Mesh:
    ball = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    vertices = torch.tensor(np.asarray(ball.vertices), dtype=torch.float32) + torch.tensor([x, y, z])
    return Mesh(vertices, torch.tensor(np.asarray(ball.faces)))


def camera_off_center() -> Camera:
    return Camera(torch.tensor([150.0, 150.0]), torch.tensor([40.3, 92.6]), torch.tensor([160.0, 120.0]))


def silhouette(mesh: Mesh, camera: Camera) -> np.ndarray:
    """Pixels whose centre is covered by a projected triangle, found without any renderer."""
    width, height = (int(side) for side in camera.image_size.tolist())
    pixels = camera.project(mesh.vertices).double().numpy()
    y, x = np.mgrid[0:height, 0:width] + 0.5
    covered = np.zeros((height, width), dtype=bool)
    for a, b, c in pixels[mesh.faces.numpy()]:
        edges = [(q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0]) for p, q in ((a, b), (b, c), (c, a))]
        stack = np.stack(edges)
        covered |= (stack >= 0).all(0) | (stack <= 0).all(0)
    return covered


@pytest.mark.parametrize("focal", [(150.0, 150.0), (150.0, 120.0)])
@pytest.mark.parametrize("center", [(80.0, 60.0), (40.3, 92.6)])
def test_the_mask_is_the_projection_to_the_pixel(focal: tuple[float, float], center: tuple[float, float]) -> None:
    camera = Camera(torch.tensor(focal), torch.tensor(center), torch.tensor([160.0, 120.0]))
    mesh = sphere(0.1, -0.05, 2.0, subdivisions=2)
    alpha = render_meshes(mesh, camera, samples=4)[..., 3]
    expected = silhouette(mesh, camera)
    assert (alpha[expected] > 0).mean() > 0.999
    assert (alpha[~expected] < 255).all()
    wrong = (alpha > 127) != expected
    assert wrong.sum() <= 0.02 * expected.sum()


def test_projected_vertices_lie_in_the_mask() -> None:
    body = tube_body()
    fits = fitted_people(body, 1)
    posed = fits.pose(body)
    camera = fits.camera[0]
    alpha = render_meshes(posed.mesh(), camera, samples=4)[..., 3]
    pixels = camera.project(posed.vertices[0])
    inside = ((pixels > 1) & (pixels < camera.image_size - 1)).all(-1)
    x, y = pixels[inside].long().unbind(-1)
    around = np.stack([np.roll(alpha, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]).max(0)
    assert int(inside.sum()) > 300
    assert (around[y, x] > 0).all()


def test_several_people_each_in_their_colour_and_the_nearer_in_front() -> None:
    camera = Camera.from_image_size(160, 120, focal_px=150)
    left, middle, behind = sphere(-0.5, 0, 2.5), sphere(0.3, 0, 2.0), sphere(0.3, 0, 3.0, radius=0.2)
    colours = ((0.9, 0.1, 0.1), (0.1, 0.9, 0.1), (0.1, 0.1, 0.9))
    picture = render_meshes([left, middle, behind], camera, colors=colours, samples=4)
    at = {name: picture[60, x, :3].argmax() for name, x in (("left", 50), ("middle", 102))}
    assert at == {"left": 0, "middle": 1}
    batch = Mesh(torch.stack((left.vertices, middle.vertices)), left.faces)
    assert len(split_people([batch, behind])) == 3
    both = render_meshes(batch, camera, samples=4)
    assert (both[..., 3] > 0).sum() > (render_meshes(left, camera, samples=4)[..., 3] > 0).sum()


def test_vertex_colours_appear_where_the_vertices_are() -> None:
    camera = Camera.from_image_size(160, 120, focal_px=150)
    mesh = sphere(0, 0, 2.0)
    upper = (mesh.vertices[:, 1] < 0).numpy()  # y points down
    colours = np.where(upper[:, None], [0.9, 0.1, 0.1], [0.1, 0.1, 0.9])
    picture = render_meshes(mesh, camera, colors=[colours], samples=4)
    assert picture[48, 80, 0] > picture[48, 80, 2]
    assert picture[72, 80, 2] > picture[72, 80, 0]


def test_light_comes_from_above_left() -> None:
    camera = Camera.from_image_size(160, 120, focal_px=150)
    picture = render_meshes(sphere(0, 0, 2.0), camera, samples=16).astype(int)
    assert picture[48, 70, :3].sum() > 1.1 * picture[74, 92, :3].sum()


def test_the_picture_is_smooth() -> None:
    """Without smoothing the noise of so few samples is several times as large."""
    camera = Camera.from_image_size(160, 120, focal_px=150)
    picture = render_meshes(sphere(0, 0, 2.0), camera, samples=8)[45:75, 65:95, :3].astype(float)
    second_difference = np.abs(np.diff(picture, n=2, axis=1)).mean()
    assert second_difference < 1.5


def test_large_pictures_take_their_light_at_half_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = Camera.from_image_size(161, 121, focal_px=150)
    mesh = sphere(0.1, 0.05, 2.0)
    whole = render_meshes(mesh, camera, samples=32).astype(int)
    monkeypatch.setattr(ray_tracing, "_FULL_LIGHT_PIXELS", 0)
    half = render_meshes(mesh, camera, samples=32).astype(int)
    np.testing.assert_array_equal(half[..., 3], whole[..., 3])
    inside = whole[..., 3] == 255
    difference = np.abs(half - whole)[inside][:, :3]
    assert difference.mean() < 3
    assert np.percentile(difference, 99) < 12


def test_overlay_keeps_the_photograph_around_the_body() -> None:
    camera = camera_off_center()
    photo = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    mesh = sphere(0.2, -0.2, 2.0)
    alpha = render_meshes(mesh, camera, samples=4)[..., 3]
    result = overlay(photo, mesh, camera, samples=4)
    np.testing.assert_array_equal(result[alpha == 0], photo[alpha == 0])
    assert np.abs(result[alpha == 255].astype(int) - photo[alpha == 255]).mean() > 20
    half = overlay(photo, mesh, camera, opacity=0.0, samples=1)
    np.testing.assert_array_equal(half, photo)


def test_a_body_out_of_sight_leaves_the_picture_empty() -> None:
    camera = Camera.from_image_size(32, 24)
    for mesh in (sphere(50, 0, 2), sphere(0, 0, -3)):
        assert (render_meshes(mesh, camera)[..., 3] == 0).all()
    around = render_meshes(sphere(0, 0, 0, radius=1.0), camera, samples=1)
    assert around.shape == (24, 32, 4)


def test_turned_view_shows_the_side_whole_on_a_floor_with_a_shadow() -> None:
    long = sphere(0, 0, 3.0)
    long = Mesh(long.vertices * torch.tensor([1.0, 1.0, 3.0]), long.faces)  # long in depth
    front = turned_view(long, angle_deg=0, size=(120, 120), samples=4, floor=False, background=None)
    side = turned_view(long, angle_deg=90, size=(120, 120), samples=4, floor=False, background=None)

    def extent(picture: np.ndarray) -> tuple[int, int]:
        rows, columns = np.nonzero(picture[..., 3] > 127)
        return int(np.ptp(columns)), int(np.ptp(rows))

    assert extent(side)[0] > 2.3 * extent(side)[1]
    assert extent(front)[0] < 1.2 * extent(front)[1]
    assert 80 < extent(side)[0] < 120
    floor = turned_view(sphere(0, 0, 3.0), size=(120, 120), samples=4)
    backdrop = floor[2, 2, :3].astype(int)
    assert (floor[..., 3] == 255).all()
    below = floor[100:118, 20:115, :3].astype(int)
    assert (backdrop - below.reshape(-1, 3).min(0)).min() > 15


def test_quarter_turn_shows_the_persons_left_to_the_viewer() -> None:
    """A person who faces the camera, turned by 90°, looks to the right of the picture."""
    nose = sphere(0, 0, 2.5, radius=0.1)
    head = sphere(0, 0, 3.0, radius=0.3)
    picture = turned_view([head, nose], colors=((0.9, 0.9, 0.9), (0.9, 0.05, 0.05)), size=(100, 100), samples=4)
    red = (picture[..., 0].astype(int) - picture[..., 1]) > 60
    assert np.nonzero(red)[1].mean() > 60


def test_colours_by_role_differ() -> None:
    assert COLOURS["female"] == COLOURS["male"] != COLOURS["neutral"]
    assert len({COLOURS[name] for name in ("neutral", "female", "mode", "fit")}) == 4
    heat = heat_colors(np.array([0.0, 50.0, 100.0, 1e9, np.nan]), maximum=100.0)
    assert heat.shape == (5, 3)
    assert heat[0, 2] > heat[0, 0]
    np.testing.assert_allclose(heat[2:], np.broadcast_to(heat[2], (3, 3)))


def test_sheets() -> None:
    tiles = [np.full((10, 20, 3), value, dtype=np.uint8) for value in (10, 20, 30)]
    page = sheet(tiles, columns=2, gap=2)
    assert page.shape == (22, 42, 3)
    assert (page[0, 0, 0], page[0, 22, 0], page[12, 0, 0], page[12, 30, 0]) == (10, 20, 30, 255)
    with pytest.raises(ShapeError):
        sheet([tiles[0], tiles[1][:5]], columns=2)
    with pytest.raises(InputError):
        sheet([], columns=2)


def test_what_cannot_be_drawn_says_why() -> None:
    camera = Camera.from_image_size(32, 24)
    mesh = sphere(0, 0, 2, subdivisions=1)
    with pytest.raises(InputError, match="unknown colour"):
        render_meshes(mesh, camera, colors="purple")
    with pytest.raises(ShapeError, match="one colour per person"):
        render_meshes([mesh, mesh], camera, colors=["fit"])
    with pytest.raises(ShapeError, match="match the vertices"):
        render_meshes(mesh, camera, colors=[np.zeros((3, 3))])
    with pytest.raises(InputError, match="NaN"):
        render_meshes(Mesh(mesh.vertices * torch.nan, mesh.faces), camera)
    with pytest.raises(ShapeError, match="one camera"):
        render_meshes(mesh, camera.map(lambda x: x.expand(2, 2)))
    with pytest.raises(ShapeError, match="photograph"):
        overlay(np.zeros((10, 10, 3), dtype=np.uint8), mesh, camera)
    with pytest.raises(InputError, match="no meshes"):
        render_meshes([], camera)


def test_a_missing_renderer_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(ray_tracing.importlib, "import_module", missing)
    with pytest.raises(MissingPackageError, match=r"vitruvian\[view\]"):
        render_meshes(sphere(0, 0, 2, subdivisions=1), Camera.from_image_size(32, 24))
