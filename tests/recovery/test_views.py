"""Views of people: the same person anywhere in the picture looks the same, and the way back to the camera is exact."""

import math

import pytest
import torch

from vitruvian.bodies.open_body import open_body
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.canonical import CANONICAL, canonical_format, canonical_points
from vitruvian.keypoints.formats import get_format
from vitruvian.keypoints.observations import Keypoints
from vitruvian.recovery.heads import pelvis_position, place_of_pelvis
from vitruvian.recovery.views import feature_blocks, num_view_features, up_in_picture, view_features, view_of

COUNT = len(canonical_format())


def person(generator: torch.Generator) -> torch.Tensor:
    return torch.randn(COUNT, 3, generator=generator, dtype=torch.float64) * torch.tensor([0.3, 0.5, 0.1])


def turned(direction: torch.Tensor) -> torch.Tensor:
    """Smallest rotation that takes z to a direction."""
    z = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    d = direction / direction.norm()
    axis = torch.linalg.cross(z, d)
    K = torch.zeros(3, 3, dtype=torch.float64)
    K[0, 1], K[0, 2], K[1, 0], K[1, 2], K[2, 0], K[2, 1] = -axis[2], axis[1], axis[2], -axis[0], -axis[1], axis[0]
    return torch.eye(3, dtype=torch.float64) + K + K @ K / (1 + d[2])


def camera(people: int = 1, focal: float = 800.0) -> Camera:
    one = Camera.from_image_size(1000, 800, focal_px=focal, dtype=torch.float64)
    return one.map(lambda x: x.expand(people, 2))


def seen(points: torch.Tensor, cam: Camera) -> Keypoints:
    return Keypoints(cam.project(points), torch.ones(points.shape[:2], dtype=torch.float64), CANONICAL)


def test_a_person_turned_about_the_camera_gives_the_same_view(generator: torch.Generator) -> None:
    body = person(generator)
    body = body - torch.tensor([0.0, 0.0, float(body[:, 2].mean())])
    straight = body + torch.tensor([0.0, 0.0, 4.0], dtype=torch.float64)
    aside = straight @ turned(torch.tensor([0.35, -0.2, 1.0], dtype=torch.float64)).T
    views = view_of(seen(torch.stack((straight, aside)), camera(2)), camera(2))
    # The box and its upright are taken in the picture, so they shift a little at its side; the shape hardly does.
    a, b = (p - p.mean(0) for p in views.points)
    torch.testing.assert_close(b / b.norm(), a / a.norm(), atol=0.02, rtol=0)


def test_points_are_the_rays_in_the_virtual_camera(generator: torch.Generator) -> None:
    points = person(generator)[None] + torch.tensor([0.8, -0.3, 3.5], dtype=torch.float64)
    view = view_of(seen(points, camera()), camera())
    torch.testing.assert_close(view.project(points @ view.R_camera_view), view.points)
    identity = torch.eye(3, dtype=torch.float64)[None]
    torch.testing.assert_close(view.R_camera_view @ view.R_camera_view.transpose(-1, -2), identity)
    assert float(torch.linalg.det(view.R_camera_view[0])) > 0
    assert float(view.points.abs().max()) < 1.2


def test_missing_points_have_no_position(generator: torch.Generator) -> None:
    points = person(generator)[None] + torch.tensor([0.0, 0.0, 3.0], dtype=torch.float64)
    keypoints = seen(points, camera())
    confidence = keypoints.confidence.clone()
    inner = int((keypoints.positions[0] - keypoints.positions[0].mean(0)).norm(dim=-1)[:25].argmin())
    confidence[0, inner] = 0
    spoilt = keypoints.positions.clone()
    spoilt[0, inner] = torch.nan
    view = view_of(Keypoints(spoilt, confidence, CANONICAL), camera())
    without = view_of(Keypoints(keypoints.positions, confidence, CANONICAL), camera())
    torch.testing.assert_close(view.points, without.points, atol=0, rtol=0)
    assert view.points[0, inner].tolist() == [0.0, 0.0]
    assert view_features(view).isfinite().all()


def test_features_have_the_announced_length_and_nobody_seen_is_finite() -> None:
    nobody = Keypoints.empty(CANONICAL, people=2, dtype=torch.float64)
    features = view_features(view_of(nobody, camera(2)))
    assert features.shape == (2, num_view_features())
    assert features.isfinite().all()


def test_other_formats_are_converted_by_name(generator: torch.Generator) -> None:
    points = person(generator)[None] + torch.tensor([0.0, 0.0, 3.0], dtype=torch.float64)
    keypoints = seen(points, camera())
    body25 = keypoints.to_format("openpose-body25")
    masked = Keypoints(keypoints.positions, keypoints.confidence.clone(), CANONICAL)
    wrists = [canonical_format().index(f"{side}_hand_wrist") for side in ("left", "right")]
    masked.confidence[:, [row for row in range(25, COUNT) if row not in wrists]] = 0
    masked.positions[:, wrists] = masked.positions[
        :, [canonical_format().index(f"{s}_wrist") for s in ("left", "right")]
    ]
    view, expected = view_of(body25, camera()), view_of(masked, camera())
    torch.testing.assert_close(view.points[:, :25], expected.points[:, :25])
    assert set(view.confidence[0, :25].tolist()) == {1.0}


def test_place_and_position_are_inverse(generator: torch.Generator) -> None:
    position = torch.rand(5, 3, generator=generator) + torch.tensor([-0.5, -0.5, 2.0])
    half_size = 0.1 + torch.rand(5, generator=generator)
    torch.testing.assert_close(pelvis_position(place_of_pelvis(position, half_size), half_size), position)


def test_a_standing_person_is_seen_upright(generator: torch.Generator) -> None:
    body = open_body(num_shape=10, num_expression=10)
    shaped = body.with_shape()
    rotations = torch.eye(3).expand(1, 55, 3, 3).clone()
    rotations[:, 0] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    points = shaped.with_pose(rotations, torch.tensor([[0.1, 0.2, 4.0]])).points(canonical_points(body)).double()
    view = view_of(seen(points, camera()), camera())
    roll = torch.atan2(view.R_camera_view[0, 1, 0], view.R_camera_view[0, 0, 0])
    assert abs(float(roll)) < 0.02
    half_turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64))
    upside_down = points @ half_turn
    turned = view_of(seen(upside_down, camera()), camera())
    torch.testing.assert_close(turned.points, view.points)
    torch.testing.assert_close(turned.R_camera_view, half_turn @ view.R_camera_view)


@pytest.mark.parametrize("format", ["vitruvian82", "openpose-body25", "h36m17"])
def test_up_turns_smoothly_with_the_picture(format: str, generator: torch.Generator) -> None:
    count = len(get_format(format))
    rays = torch.randn(20, count, 2, generator=generator, dtype=torch.float64)
    confidence = torch.rand(20, count, generator=generator, dtype=torch.float64)
    up = up_in_picture(rays, confidence, format)
    angle = 1.1
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    torch.testing.assert_close(up_in_picture(rays @ turn.T, confidence, format), up @ turn.T)
    nothing = up_in_picture(rays, torch.zeros_like(confidence), format)
    assert nothing.tolist() == [[0.0, -1.0]] * 20


def test_gravity_is_told_in_the_virtual_camera(generator: torch.Generator) -> None:
    points = person(generator)[None] + torch.tensor([0.4, 0.0, 3.0], dtype=torch.float64)
    down = torch.tensor([[0.1, 3.0, 0.4]], dtype=torch.float64)
    view = view_of(seen(points, camera()), camera(), gravity=down)
    torch.testing.assert_close((view.R_camera_view @ view.gravity[..., None])[..., 0], down / down.norm())
    assert view_of(seen(points, camera()), camera()).gravity.tolist() == [[0.0, 0.0, 0.0]]
    unknown = view_of(seen(points, camera()), camera(), gravity=torch.zeros(1, 3, dtype=torch.float64))
    assert unknown.gravity.tolist() == [[0.0, 0.0, 0.0]]


def test_the_named_blocks_are_the_features() -> None:
    assert sum(feature_blocks().values()) == num_view_features()
