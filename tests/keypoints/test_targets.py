"""Targets: rules resolved on a body follow joints, vertices and landmarks; weights; families that lack parts."""

import pytest
import torch

from vitruvian.bodies.landmarks import FaceLandmarks
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.open_body import open_body
from vitruvian.bodies.skeletons import MANO_LEFT, SMPL, SMPLX, Skeleton
from vitruvian.errors import InputError
from vitruvian.geometry.rotations import exp_so3
from vitruvian.keypoints.face_mesh import MESH_OF_FACE_68, MIRROR_OF_MESH
from vitruvian.keypoints.formats import FORMATS, get_format
from vitruvian.keypoints.places import FINGERS, mirror_place
from vitruvian.keypoints.surface_targets import face_mesh_points
from vitruvian.keypoints.target_rules import (
    DEFINITION_RULES,
    PLACE_RULES,
    default_weight,
    regressed_rules,
    rules_for,
)
from vitruvian.keypoints.targets import combined_points, keypoint_targets, resolve_rule

SURFACE = (
    "nose", "left_eye_front", "right_eye_front", "left_ear", "right_ear",
    *(f"{s}_{p}" for s in ("left", "right") for p in ("big_toe", "small_toe", "heel")),
    *(f"{s}_{f}_tip" for s in ("left", "right") for f in FINGERS),
)  # fmt: skip


def random_body(skeleton: Skeleton, *, vertices: int = 600, landmarks: bool = True) -> BodyModel:
    g = torch.Generator().manual_seed(5)
    joints = len(skeleton)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=g, dtype=torch.float64)

    regressor = rand(joints, vertices)
    regressor = regressor / regressor.sum(-1, keepdim=True)
    template, shape_dirs, expression_dirs = rand(vertices, 3), rand(vertices, 3, 4), rand(vertices, 3, 3)
    skin = rand(vertices, joints) ** 6
    faces = torch.randint(0, vertices, (300, 3), generator=g)
    face = FaceLandmarks.from_faces(
        faces,
        torch.randint(0, 300, (51,), generator=g),
        torch.full((51, 3), 1 / 3, dtype=torch.float64),
        torch.randint(0, 300, (79, 17), generator=g),
        torch.full((79, 17, 3), 1 / 3, dtype=torch.float64),
    )
    return BodyModel(
        family="test",
        gender="neutral",
        skeleton=skeleton,
        template=template,
        shape_dirs=shape_dirs,
        expression_dirs=expression_dirs,
        correctives=None,
        joint_template=regressor @ template,
        joint_shape_dirs=torch.einsum("jv,vks->jks", regressor, shape_dirs),
        joint_expression_dirs=torch.einsum("jv,vks->jks", regressor, expression_dirs),
        joint_regressor=regressor,
        skinning_weights=skin / skin.sum(-1, keepdim=True),
        faces=faces,
        face_landmarks=face if landmarks else None,
        vertex_ids={name: k for k, name in enumerate(SURFACE)} if landmarks else {},
    )


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return random_body(SMPLX)


def posed(body: BodyModel):
    g = torch.Generator().manual_seed(6)
    vector = 0.3 * torch.randn(2, body.num_joints, 3, generator=g, dtype=torch.float64)
    betas = torch.randn(2, 4, generator=g, dtype=torch.float64)
    expression = torch.randn(2, 3, generator=g, dtype=torch.float64)
    return body.with_shape(betas, expression).with_pose(exp_so3(vector), transl=torch.ones(2, 3, dtype=torch.float64))


def test_targets_follow_joints_vertices_and_landmarks(body: BodyModel) -> None:
    person = posed(body)
    targets = keypoint_targets(body, "openpose")
    points = person.points(targets.points)
    assert points.shape == (2, len(targets), 3)

    def of(name: str) -> torch.Tensor:
        row = targets.find(name)
        assert row is not None
        return points[:, row]

    joints = {name: person.joints[:, SMPLX.index(name)] for name in SMPLX.names}
    torch.testing.assert_close(of("left_knee"), joints["left_knee"])
    torch.testing.assert_close(of("right_index2"), joints["right_index2"])
    torch.testing.assert_close(of("nose"), person.vertices[:, body.vertex_ids["nose"]])
    torch.testing.assert_close(of("left_eye"), person.vertices[:, body.vertex_ids["left_eye_front"]])
    torch.testing.assert_close(of("left_ring_tip"), person.vertices[:, body.vertex_ids["left_ring_tip"]])
    torch.testing.assert_close(of("shoulder_center"), (of("left_shoulder") + of("right_shoulder")) / 2)
    landmarks = person.landmarks()
    torch.testing.assert_close(of("mouth_outer_3"), landmarks[:, 48 - 17 + 2])


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_targets_on_an_expressive_body(body: BodyModel, name: str) -> None:
    targets = keypoint_targets(body, name)
    without = {get_format(name).places[row] for row in range(len(get_format(name)))} - {
        get_format(name).places[row] for row in targets.keypoint.tolist()
    }
    assert all(place.startswith("mesh_") or "iris" in place for place in without), without
    groups = get_format(name).groups
    for row, group in zip(targets.keypoint.tolist(), targets.group.tolist(), strict=True):
        assert row in tuple(groups.values())[group]


def test_the_published_fit_leaves_out_neck_and_clicked_hips(body: BodyModel) -> None:
    targets = keypoint_targets(body, "openpose-body25")
    unused = [targets.keypoint[k].item() for k in range(len(targets)) if targets.weight[k] == 0]
    assert unused == [1, 8, 9, 12]
    assert len(targets.fitted()) == 21
    assert (targets.fitted().weight > 0).all()


def test_default_weights() -> None:
    assert default_weight("ibug:face_contour_3", family="open") == 0
    assert default_weight("coco:left_hand_wrist", family="open") == 0
    assert default_weight("mediapipe:mesh_100", family="open") == 0
    assert default_weight("coco:left_knee", family="smplx") == 1
    assert default_weight("coco:left_hip", family="smplx") == 0
    assert default_weight("h36m:left_hip", family="smplx") == 1


def test_selected_targets_are_the_same_points(body: BodyModel) -> None:
    person = posed(body)
    targets = keypoint_targets(body, "openpose")
    fitted = targets.fitted()
    rows = [targets.keypoint.tolist().index(k) for k in fitted.keypoint.tolist()]
    torch.testing.assert_close(person.points(fitted.points), person.points(targets.points)[:, rows])


def test_families_without_face_or_hands_leave_those_keypoints_out() -> None:
    plain = random_body(SMPL, landmarks=False)
    targets = keypoint_targets(plain, "openpose")
    assert {"coco:left_knee", "coco:right_wrist"} <= set(targets.names)
    assert targets.find("nose") is None
    assert not any("index" in name or "mouth" in name for name in targets.names)
    hand = random_body(MANO_LEFT, landmarks=False)
    assert len(keypoint_targets(hand, "openpose-left-hand")) == 16
    with pytest.raises(InputError):
        keypoint_targets(hand, "openpose-right-hand")


@pytest.mark.parametrize("rule", [*PLACE_RULES.values(), *DEFINITION_RULES.values()], ids=str)
def test_weights_of_rules_sum_to_one(rule: dict[str, float]) -> None:
    assert abs(sum(rule.values()) - 1) < 1e-9


def test_rules_prefer_the_definition_to_the_place() -> None:
    assert rules_for("h36m:shoulder_center", family="smplx")[0] == {"neck": 1.0}
    assert rules_for("coco:shoulder_center", family="smplx")[0] == {"left_shoulder": 0.5, "right_shoulder": 0.5}
    assert rules_for("left_eye", family="smplx") == ({"left_eye": 1.0},)
    assert rules_for("coco:left_eye", family="smplx")[0] == {"vertex:left_eye_front": 1.0}


@pytest.mark.parametrize("table", [DEFINITION_RULES, regressed_rules("open")], ids=["hand-set", "regressed"])
def test_rules_of_the_two_sides_mirror_each_other(table: dict[str, dict[str, float]]) -> None:
    def mirrored(source: str) -> str:
        kind, _, name = source.rpartition(":")
        return f"{kind}:{mirror_place(name)}" if kind else mirror_place(name)

    assert table
    for name, rule in table.items():
        if not any(source.startswith("landmark") for source in rule):
            assert table[mirrored(name)] == {mirrored(source): weight for source, weight in rule.items()}


@pytest.fixture(scope="module")
def shipped() -> BodyModel:
    return open_body("neutral")


def test_the_open_body_has_all_points_of_the_face_mesh_near_its_own_landmarks(shipped: BodyModel) -> None:
    targets = keypoint_targets(shipped, "mediapipe-face468")
    assert len(targets) == 468
    rest = shipped.with_shape().with_pose()
    mesh = rest.points(targets.points)
    landmarks = rest.landmarks()
    gaps = torch.stack([
        (mesh[MESH_OF_FACE_68[17 + k]] - landmarks[k]).norm() for k in range(51)
    ])  # fmt: skip
    assert gaps.median() < 0.006
    assert gaps.quantile(0.9) < 0.012
    face = mesh - mesh.mean(0)
    mirrored = face[list(MIRROR_OF_MESH)] * torch.tensor([-1.0, 1.0, 1.0])
    assert (face - mirrored).norm(dim=-1).median() < 0.005


@pytest.mark.parametrize(
    ("name", "reference", "offset_mm", "tolerance_mm"),
    [
        ("coco:left_hip", "left_hip", (15, 40, 0), 20),  # clicked higher and further out than the joint
        ("mediapipe:left_hip", "left_hip", (0, 10, 0), 20),
        ("mediapipe:left_shoulder", "left_shoulder", (-5, 30, 0), 20),
        ("coco:left_ankle", "left_ankle", (0, 20, 0), 20),
        ("coco:left_knee", "left_knee", (0, 0, 0), 5),
        ("mediapipe:left_ear", "vertex:left_ear", (-10, 0, 10), 25),
    ],
)
def test_regressed_targets_lie_beside_the_joints(
    shipped: BodyModel, name: str, reference: str, offset_mm: tuple[int, int, int], tolerance_mm: float
) -> None:
    rest = shipped.with_shape().with_pose()
    targets = keypoint_targets(shipped, "mediapipe-pose33" if name.startswith("mediapipe") else "coco17")
    row = targets.find(name)
    combination = resolve_rule(shipped, {reference: 1.0})
    assert row is not None
    assert combination is not None
    origin = rest.points(combined_points(shipped, [combination]))[0]
    offset = (rest.points(targets.points)[row] - origin) * 1e3
    assert (offset - torch.tensor(offset_mm)).abs().max() < tolerance_mm, offset


def test_hips_clicked_in_photographs_count_where_their_place_was_regressed(shipped: BodyModel) -> None:
    targets = keypoint_targets(shipped, "openpose-body25")
    weights = dict(zip(targets.names, targets.weight.tolist(), strict=True))
    assert weights["coco:left_hip"] == 0.5
    assert weights["coco:hip_center"] == 0
    assert len(targets.fitted()) == 23


def test_face_mesh_of_other_triangles_is_unknown(body: BodyModel) -> None:
    assert not face_mesh_points(body.faces)
    names = keypoint_targets(body, "mediapipe-face468").names
    assert len(names) == 68
