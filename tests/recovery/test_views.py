"""Views of people: the same person anywhere in the picture looks the same, and the way back to the camera is exact."""

import torch

from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.canonical import CANONICAL, canonical_format
from vitruvian.keypoints.observations import Keypoints
from vitruvian.recovery.heads import pelvis_position, place_of_pelvis
from vitruvian.recovery.views import num_view_features, view_features, view_of

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
    # The box is taken in pixels, so the middle shifts a little at the side of the picture; the shape does not.
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


def test_missing_points_change_nothing_but_their_own_features(generator: torch.Generator) -> None:
    points = person(generator)[None] + torch.tensor([0.0, 0.0, 3.0], dtype=torch.float64)
    keypoints = seen(points, camera())
    confidence = keypoints.confidence.clone()
    inner = int((keypoints.positions[0] - keypoints.positions[0].mean(0)).norm(dim=-1)[:25].argmin())
    confidence[0, inner] = 0
    positions = keypoints.positions.clone()
    positions[0, inner] = torch.nan
    view = view_of(Keypoints(positions, confidence, CANONICAL), camera())
    full = view_of(keypoints, camera())
    kept = [k for k in range(COUNT) if k != inner]
    torch.testing.assert_close(view.points[0, kept], full.points[0, kept])
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
    masked.confidence[:, 25:] = 0
    view, expected = view_of(body25, camera()), view_of(masked, camera())
    torch.testing.assert_close(view.points[:, :25], expected.points[:, :25])
    assert set(view.confidence[0, :25].tolist()) == {1.0}


def test_place_and_position_are_inverse(generator: torch.Generator) -> None:
    position = torch.rand(5, 3, generator=generator) + torch.tensor([-0.5, -0.5, 2.0])
    half_size = 0.1 + torch.rand(5, generator=generator)
    torch.testing.assert_close(pelvis_position(place_of_pelvis(position, half_size), half_size), position)
