"""Synthetic people: determinism, consistency of truth and keypoints, the mirror, and what the error model promises."""

from dataclasses import replace

import pytest
import torch

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.open_body import open_body
from vitruvian.data.detector_errors import EXACT_DETECTOR, Detections, ErrorModel, detect
from vitruvian.data.synthetic import PoseLibrary, SyntheticConfig, SyntheticPeople
from vitruvian.errors import InputError
from vitruvian.evaluation.metrics import procrustes_align
from vitruvian.geometry.rotations import exp_so3
from vitruvian.keypoints.canonical import canonical_format

PLAIN = SyntheticConfig(errors=EXACT_DETECTOR, pose_noise=0.0, recombine=0.0, mirror=0.0, redefine=False)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return open_body(num_shape=10, num_expression=10)


@pytest.fixture(scope="module")
def library() -> PoseLibrary:
    generator = torch.Generator().manual_seed(3)
    poses = exp_so3(0.25 * torch.randn(40, 22, 3, generator=generator))
    return PoseLibrary(poses, torch.ones(40))


def test_a_batch_is_the_same_whenever_it_is_drawn(body: BodyModel, library: PoseLibrary) -> None:
    people = SyntheticPeople(body, library)
    first, again, other = (people.batch(16, seed=4, number=n) for n in (7, 7, 8))
    assert torch.equal(first.keypoints.positions, again.keypoints.positions)
    assert torch.equal(first.rotations, again.rotations)
    assert not torch.equal(first.rotations, other.rotations)
    stream = people.batches(16, seed=4, start=7)
    assert torch.equal(next(stream).rotations, first.rotations)
    assert torch.equal(next(stream).rotations, other.rotations)


def test_truth_posed_again_projects_onto_the_keypoints(body: BodyModel, library: PoseLibrary) -> None:
    batch = SyntheticPeople(body, library, replace(PLAIN, known_focal=1.0)).batch(32, seed=1)
    posed = body.with_shape(batch.betas, batch.expression).with_pose(batch.rotations, batch.transl)
    torch.testing.assert_close(posed.joints, batch.joints, atol=1e-4, rtol=1e-4)
    people = SyntheticPeople(body, library)
    pixels = batch.camera.project(posed.points(people.points))
    torch.testing.assert_close(pixels, batch.pixels, atol=0.05, rtol=1e-4)
    seen = batch.keypoints.confidence > 0
    assert float(seen.float().mean()) > 0.4
    torch.testing.assert_close(batch.keypoints.positions[seen], pixels[seen], atol=0.05, rtol=1e-4)


def test_an_unknown_focal_length_only_moves_people_along_the_axis(body: BodyModel, library: PoseLibrary) -> None:
    known = SyntheticPeople(body, library, replace(PLAIN, known_focal=1.0)).batch(64, seed=1)
    guessed = SyntheticPeople(body, library, replace(PLAIN, known_focal=0.0)).batch(64, seed=1)
    changed = (guessed.camera.focal_px != known.camera.focal_px)[:, 0]
    assert int(changed.sum()) > 40
    diagonal = guessed.camera.image_size.norm(dim=-1)
    torch.testing.assert_close(guessed.camera.focal_px[changed, 0], diagonal[changed])
    ratio = guessed.camera.focal_px[:, 0] / known.camera.focal_px[:, 0]
    torch.testing.assert_close(guessed.joints[:, 0, 2], known.joints[:, 0, 2] * ratio, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(guessed.joints[:, 0, :2], known.joints[:, 0, :2])
    assert float(guessed.joints[..., 2].min()) > 0.1


def test_a_mirrored_person_is_the_mirror_image(body: BodyModel, library: PoseLibrary) -> None:
    people = SyntheticPeople(body, library, replace(PLAIN, mirror=1.0))
    poses = torch.arange(8)
    mirrored = people._augmented(poses, torch.Generator().manual_seed(0))
    identity = torch.eye(3).expand(8, 55, 3, 3).clone()
    identity[:, :22] = mirrored
    original = identity.clone()
    original[:, :22] = library.rotations[poses]
    joints = [body.with_shape().with_pose(R).joints[:, :22] for R in (original, identity)]
    order = people._mirror_order[1]
    reflected = joints[0][:, order] * torch.tensor([-1.0, 1.0, 1.0])
    # The open body is symmetric to within millimetres.
    assert float((joints[1] - reflected).norm(dim=-1).max()) < 0.01


def test_limbs_are_exchanged_whole(body: BodyModel, library: PoseLibrary) -> None:
    """Every limb is that of some pose of the library; trunks stay, and some people have limbs of several poses."""
    batch = SyntheticPeople(body, library, replace(PLAIN, recombine=1.0)).batch(200, seed=4)
    names = body.skeleton.names
    owners = []
    for limb in (("left_collar", "left_elbow", "left_wrist"), ("right_hip", "right_knee"), ("neck", "head")):
        rows = [names.index(name) for name in limb]
        distance = (batch.rotations[:, None, rows] - library.rotations[None, :, rows]).abs().amax((2, 3, 4))
        assert float(distance.amin(1).amax()) < 1e-5
        owners.append(distance.argmin(1))
    spine = names.index("spine2")
    torch.testing.assert_close(batch.rotations[:, spine], library.rotations[batch.poses, spine])
    exchanged = torch.stack([owner != batch.poses for owner in owners], dim=-1)
    assert 0.3 < float(exchanged.float().mean()) < 0.8


def test_views_of_one_person_differ_by_the_camera_only(body: BodyModel, library: PoseLibrary) -> None:
    batch = SyntheticPeople(body, library).people(torch.arange(5), torch.Generator().manual_seed(0), views=4)
    assert len(batch) == 20
    grouped = batch.rotations[:, 1:].unflatten(0, (5, 4))
    torch.testing.assert_close(grouped, grouped[:, :1].expand_as(grouped))
    joints = batch.joints.unflatten(0, (5, 4))
    torch.testing.assert_close(procrustes_align(joints[:, 1], joints[:, 0]), joints[:, 0], atol=1e-3, rtol=0)
    assert float((batch.rotations[0, 0] - batch.rotations[1, 0]).abs().max()) > 0.05


def test_noise_grows_with_the_person_and_confidence_tells_of_it() -> None:
    generator = torch.Generator().manual_seed(0)
    count, points = 4000, len(canonical_format())
    pixels = torch.full((count, points, 2), 5000.0)
    size = torch.tensor([100.0, 800.0]).repeat(count // 2)
    model = replace(ErrorModel(), occluders=0.0, lost_limbs=0.0, swap_limb=0.0, guesses=0.0, no_confidence=0.0)
    found = detect(
        pixels,
        facing_away=torch.zeros(count, points, dtype=torch.bool),
        person_px=size,
        image_size=torch.full((count, 2), 10_000.0),
        model=model,
        generator=generator,
    )
    error = (found.positions - pixels).norm(dim=-1)
    seen = found.confidence > 0
    small, large = (float(error[rows][seen[rows]].median()) for rows in (size == 100, size == 800))
    # Eight times as tall; a floor of half a pixel or so stays.
    assert large > 2.5 * small
    relative = (error / size[:, None])[seen & (size == 800)[:, None]]
    confidence = found.confidence[seen & (size == 800)[:, None]]
    sure, unsure = confidence > confidence.quantile(0.8), confidence < confidence.quantile(0.2)
    assert float(relative[unsure].median()) > 2 * float(relative[sure].median())


def test_points_outside_the_frame_are_not_seen() -> None:
    generator = torch.Generator().manual_seed(0)
    points = len(canonical_format())
    pixels = torch.full((50, points, 2), 50.0)
    pixels[:, ::2, 0] = 150.0
    found = detect(
        pixels,
        facing_away=torch.zeros(50, points, dtype=torch.bool),
        person_px=torch.full((50,), 60.0),
        image_size=torch.full((50, 2), 100.0),
        model=EXACT_DETECTOR,
        generator=generator,
    )
    assert not found.visible[:, ::2].any()
    assert found.visible[:, 1::2].all()
    assert torch.equal(found.confidence > 0, found.visible)
    assert torch.equal(found.positions[:, 1::2], pixels[:, 1::2])


def test_the_face_is_hidden_from_behind(body: BodyModel, library: PoseLibrary) -> None:
    batch = SyntheticPeople(body, library, replace(PLAIN, crops=0.0)).batch(300, seed=2)
    nose = canonical_format().index("nose")
    inside = ((batch.pixels >= 0) & (batch.pixels <= batch.camera.image_size[:, None])).all(-1)[:, nose]
    posed = body.with_shape().with_pose(batch.rotations)
    forward = -posed.world_rotations[:, 15, 2, 2]  # towards the camera
    frontal, away = inside & (forward > 0.5), inside & (forward < -0.5)
    assert min(int(frontal.sum()), int(away.sum())) > 20
    assert batch.visible[frontal, nose].all()
    assert not batch.visible[away, nose].any()


def test_a_library_of_other_shapes_is_refused() -> None:
    with pytest.raises(InputError):
        PoseLibrary(torch.eye(3).expand(5, 21, 3, 3), torch.ones(5))


def _detected(model: ErrorModel, facing_away: torch.Tensor, size: int) -> tuple[torch.Tensor, Detections]:
    generator = torch.Generator().manual_seed(3)
    points = len(canonical_format())
    pixels = 300 + 100 * torch.rand(size, points, 2, generator=generator)
    found = detect(
        pixels,
        facing_away=facing_away,
        person_px=torch.full((size,), 250.0),
        image_size=torch.full((size, 2), 700.0),
        model=model,
        generator=generator,
    )
    return pixels, found


def test_guessed_faces_are_sure_and_where_the_head_hides_them() -> None:
    fmt = canonical_format()
    away = torch.zeros(400, len(fmt), dtype=torch.bool)
    head = [fmt.index(name) for name in ("nose", "left_eye", "right_eye", "left_ear", "right_ear")]
    away[:, head] = True
    pixels, found = _detected(replace(EXACT_DETECTOR, guessed_faces=0.5), away, 400)
    guessed = found.confidence[:, head] > 0
    assert 0.35 < float(guessed.any(-1).float().mean()) < 0.65
    assert float(found.confidence[:, head][guessed].min()) >= 0.4
    torch.testing.assert_close(found.positions[:, head][guessed], pixels[:, head][guessed])
    assert not found.visible[:, head].any()
    assert found.visible[:, [k for k in range(len(fmt)) if k not in head]].all()


def test_junk_lies_where_nothing_was_seen_and_is_unsure() -> None:
    fmt = canonical_format()
    away = torch.zeros(300, len(fmt), dtype=torch.bool)
    away[:, ::3] = True
    pixels, found = _detected(replace(EXACT_DETECTOR, junk=1.0), away, 300)
    junk = away & (found.confidence > 0)
    assert 0.2 < float(junk[:, ::3].float().mean()) < 0.4
    assert float(found.confidence[junk].max()) <= 0.3
    assert not found.visible[junk].any()
    torch.testing.assert_close(found.positions[~away], pixels[~away])


def test_ghosts_take_points_of_one_limb_from_beside() -> None:
    fmt = canonical_format()
    away = torch.zeros(300, len(fmt), dtype=torch.bool)
    pixels, found = _detected(replace(EXACT_DETECTOR, ghosts=1.0), away, 300)
    moved = ((found.positions - pixels).norm(dim=-1) > 1) & (found.confidence > 0)
    assert float(moved.any(-1).float().mean()) > 0.7
    assert not found.visible[moved].any()
    trunk = [fmt.index(name) for name in ("left_shoulder", "right_shoulder", "nose")]
    assert not moved[:, trunk].any()


def test_a_whole_person_exchanged_is_the_same_points_with_other_names() -> None:
    fmt = canonical_format()
    away = torch.zeros(200, len(fmt), dtype=torch.bool)
    pixels, found = _detected(replace(EXACT_DETECTOR, swap_person=1.0), away, 200)
    limbs = [fmt.index(name) for name in ("left_hip", "left_knee", "right_wrist", "left_shoulder")]
    others = [fmt.index(name) for name in ("right_hip", "right_knee", "left_wrist", "right_shoulder")]
    torch.testing.assert_close(found.positions[:, limbs], pixels[:, others])
    eyes = (found.positions[:, fmt.index("left_eye")] - pixels[:, fmt.index("left_eye")]).norm(dim=-1) < 1e-3
    assert 0.3 < float(eyes.float().mean()) < 0.7  # half of the time the head keeps its sides


def test_gravity_points_down_in_a_level_camera_and_turned_people_lie_anywhere(
    body: BodyModel, library: PoseLibrary
) -> None:
    batch = SyntheticPeople(body, library, replace(PLAIN, known_gravity=1.0, turned=0.0)).batch(400, seed=2)
    assert float(batch.gravity[:, 1].mean()) > 0.9
    torch.testing.assert_close(batch.gravity.norm(dim=-1), torch.ones(400))
    up = -batch.rotations[:, 0, 1, 1]
    assert float(up.quantile(0.05)) > 0.5
    turned = SyntheticPeople(body, library, replace(PLAIN, known_gravity=0.0, turned=1.0)).batch(400, seed=2)
    assert not turned.gravity.any()
    spread = turned.rotations[:, 0, 1, 1]
    assert abs(float(spread.mean())) < 0.1
    assert abs(float(spread.std()) - 3**-0.5) < 0.06  # uniform on [-1, 1]
