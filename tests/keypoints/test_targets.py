"""Targets: rules resolved on a body follow joints, vertices and landmarks; weights; families that lack parts."""

import pytest
import torch

from vitruvian.bodies.landmarks import FaceLandmarks
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.skeletons import MANO_LEFT, SMPL, SMPLX, Skeleton
from vitruvian.errors import InputError
from vitruvian.geometry.rotations import exp_so3
from vitruvian.keypoints.formats import FORMATS, get_format
from vitruvian.keypoints.places import FINGERS
from vitruvian.keypoints.target_rules import DEFINITION_RULES, PLACE_RULES, default_weight, rule_for
from vitruvian.keypoints.targets import keypoint_targets

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
    assert default_weight("ibug:face_contour_3") == 0
    assert default_weight("coco:left_knee") == 1


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
    assert rule_for("h36m:shoulder_center") == {"neck": 1.0}
    assert rule_for("coco:shoulder_center") == {"left_shoulder": 0.5, "right_shoulder": 0.5}
    assert rule_for("left_eye") == {"left_eye": 1.0}
    assert rule_for("coco:left_eye") == {"vertex:left_eye_front": 1.0}


def test_rules_mirror_each_other() -> None:
    for name, rule in DEFINITION_RULES.items():
        if "left_" in name and not any(source.startswith("landmark") for source in rule):
            swapped = {source.replace("left_", "right_"): weight for source, weight in rule.items()}
            other = {
                source.replace("left_", "right_"): weight
                for source, weight in DEFINITION_RULES[name.replace("left_", "right_")].items()
            }
            assert other.keys() == swapped.keys()
