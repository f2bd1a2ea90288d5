"""The open body in the package: schema, anatomy of its keypoints and landmarks, figures of its card, and export."""

import json
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from vitruvian.bodies.families import GENDERS, SMPLX_KEYPOINT_VERTICES
from vitruvian.bodies.loaders import load_body
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.open_body import Quantised, open_body, read_open_body, replace_hand_basis
from vitruvian.bodies.saving import save_smplx_npz
from vitruvian.bodies.skeletons import SMPLX
from vitruvian.body_learning.training_poses import pose_of
from vitruvian.errors import InputError, ModelFileError

FOLDER = files("vitruvian") / "resources" / "open_body"


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return open_body()


@pytest.fixture(scope="module")
def card() -> dict:
    return json.loads((FOLDER / "card.json").read_text())


# Schema


@pytest.mark.parametrize("gender", GENDERS)
def test_has_the_parts_of_smplx(gender: str) -> None:
    body = open_body(gender)
    assert body.skeleton is SMPLX
    assert body.gender == gender
    assert body.num_shape >= 16
    assert body.num_expression >= 20
    assert body.num_vertices > max(SMPLX_KEYPOINT_VERTICES.values())
    assert dict(body.vertex_ids) == dict(SMPLX_KEYPOINT_VERTICES)
    assert body.face_landmarks is not None
    assert body.face_landmarks.corners.shape == (51, 3)
    assert body.face_landmarks.contour_corners is not None
    assert body.face_landmarks.contour_corners.shape == (79, 17, 3)
    assert body.hands is not None
    assert body.hands.left_components.shape == (45, 45)


def test_genders_share_everything_but_the_shape_space(body: BodyModel) -> None:
    female, male = open_body("female"), open_body("male")
    for other in (female, male):
        assert torch.equal(other.faces, body.faces)
        assert torch.equal(other.skinning_weights, body.skinning_weights)
        assert not torch.equal(other.template, body.template)
        assert other.digest != body.digest
    height = [float(b.template[:, 1].max() - b.template[:, 1].min()) for b in (female, body, male)]
    assert height == sorted(height)


def test_files_stay_small_and_load_fast() -> None:
    sizes = [len(item.read_bytes()) for item in FOLDER.iterdir() if item.name.endswith(".npz")]
    assert sum(sizes) < 12e6
    open_body()
    start = time.process_time()
    open_body()
    assert time.process_time() - start < 0.5


def test_weights_and_regressor_are_convex(body: BodyModel) -> None:
    assert (body.skinning_weights >= 0).all()
    torch.testing.assert_close(body.skinning_weights.sum(1), torch.ones(body.num_vertices))
    assert ((body.skinning_weights > 0).sum(1) <= 8).all()
    assert (body.joint_regressor >= 0).all()
    torch.testing.assert_close(body.joint_regressor.sum(1), torch.ones(len(SMPLX)))
    torch.testing.assert_close(body.joint_regressor @ body.template, body.joint_template, atol=2e-6, rtol=0)


def test_mesh_is_closed_and_faces_outwards(body: BodyModel) -> None:
    edges = torch.cat([body.faces[:, pair] for pair in ((0, 1), (1, 2), (2, 0))])
    unique, counts = torch.unique(edges, dim=0, return_counts=True)
    assert (counts == 1).all()
    assert {tuple(e) for e in unique.tolist()} == {tuple(e) for e in unique.flip(1).tolist()}
    a, b, c = (body.template[body.faces[:, k]].double() for k in range(3))
    volume = float((a * torch.linalg.cross(b, c, dim=-1)).sum() / 6)
    assert 0.045 < volume < 0.11  # cubic metres


def test_components_are_in_order_of_variance(body: BodyModel) -> None:
    for dirs in (body.shape_dirs, body.expression_dirs):
        assert (dirs.square().sum((0, 1)).diff() <= 1e-9).all()


def test_uv_covers_every_face(body: BodyModel) -> None:
    assert body.uv is not None
    assert body.uv_faces is not None
    assert body.uv_faces.shape == body.faces.shape
    assert 0 <= float(body.uv.min()) <= float(body.uv.max()) <= 1


def test_fewer_components_are_the_first_ones(body: BodyModel) -> None:
    few = open_body(num_shape=10, num_expression=5)
    assert torch.equal(few.shape_dirs, body.shape_dirs[..., :10])
    assert torch.equal(few.joint_expression_dirs, body.joint_expression_dirs[..., :5])


# Rest pose and anatomy


def test_rest_pose_is_that_of_smplx(body: BodyModel) -> None:
    J = {name: body.joint_template[row] for row, name in enumerate(SMPLX.names)}
    assert J["pelvis"].norm() < 0.005
    for side, sign in (("left", 1), ("right", -1)):
        for near, far in (("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "middle1")):
            bone = J[f"{side}_{far}"] - J[f"{side}_{near}"]
            assert sign * bone[0] > 0.995 * bone.norm()
        leg = J[f"{side}_hip"] - J[f"{side}_ankle"]
        assert leg[1] > 0.99 * leg.norm()
        assert J[f"{side}_foot"][2] > J[f"{side}_ankle"][2] + 0.08  # feet point forward
        # Palms down: the thumb and the index finger are in front of the little finger.
        assert J[f"{side}_index1"][2] > J[f"{side}_pinky1"][2]
    assert J["head"][1] > J["neck"][1] > J["spine3"][1] > J["spine2"][1] > J["spine1"][1] > J["pelvis"][1]


@pytest.mark.parametrize("gender", GENDERS)
def test_template_is_symmetric(gender: str) -> None:
    joints = open_body(gender).joint_template
    for row, name in enumerate(SMPLX.names):
        if name.startswith("left_"):
            flipped = joints[SMPLX.index(name.replace("left_", "right_"))] * torch.tensor([-1.0, 1.0, 1.0])
            assert (joints[row] - flipped).norm() < 0.003


def test_keypoint_vertices_are_where_their_names_say(body: BodyModel) -> None:
    v = body.template
    at = {name: v[row] for name, row in body.vertex_ids.items()}
    assert at["nose"][2] > v[body.skinning_weights[:, SMPLX.index("head")] > 0.9][:, 2].max() - 1e-4
    ground = float(v[:, 1].min())
    for side, sign in (("left", 1), ("right", -1)):
        joint = {name: body.joint_template[SMPLX.index(f"{side}_{name}")] for name in ("ankle", "foot", "eye")}
        assert sign * at[f"{side}_ear"][0] > 0.06
        assert abs(float(at[f"{side}_ear"][1] - at[f"{side}_eye_front"][1])) < 0.05
        assert (at[f"{side}_eye_front"] - joint["eye"])[2] > 0.01
        assert at[f"{side}_heel"][2] < joint["ankle"][2] - 0.03
        assert at[f"{side}_heel"][1] < ground + 0.04
        assert at[f"{side}_big_toe"][2] > joint["foot"][2] + 0.03
        assert sign * (at[f"{side}_small_toe"] - at[f"{side}_big_toe"])[0] > 0.03
        for finger in ("index", "middle", "ring", "pinky"):
            last = body.joint_template[SMPLX.index(f"{side}_{finger}3")]
            tip = at[f"{side}_{finger}_tip"] - last
            assert sign * tip[0] > 0.9 * tip.norm()
            assert 0.012 < tip.norm() < 0.04


def test_landmarks_are_in_the_order_of_the_68_points(body: BodyModel) -> None:
    points = body.with_shape().with_pose().landmarks()
    brows, nose, eyes, mouth, contour = points[:10], points[10:19], points[19:31], points[31:51], points[51:]
    assert (brows[:, 0].diff() > 0).all()  # from the person's right to the left
    assert (nose[:4, 1].diff() < 0).all()
    assert brows[:, 1].min() > eyes[:, 1].max()
    assert eyes[:, 1].min() > nose[4:, 1].max()
    assert nose[:, 1].min() > mouth[:, 1].max()
    assert mouth[:, 1].min() > contour[8, 1]  # the chin
    assert (contour[1:16, 0].diff() > -0.002).all()
    assert contour[0, 0] < -0.05
    assert contour[16, 0] > 0.05
    assert contour[8, 0].abs() < 0.01
    left_eye, right_eye = body.joint_template[SMPLX.index("left_eye")], body.joint_template[SMPLX.index("right_eye")]
    assert (eyes[:6].mean(0) - right_eye)[:2].norm() < 0.006
    assert (eyes[6:].mean(0) - left_eye)[:2].norm() < 0.006


@pytest.mark.parametrize("degrees", [-35, -15, 15, 35])
def test_contour_lies_on_the_silhouette_of_the_turned_face(body: BodyModel, degrees: int) -> None:
    posed = body.with_shape().with_pose(pose_of({"head": (("y", degrees),)}))
    contour = posed.landmarks()[51:]
    head = body.skinning_weights[:, [SMPLX.index("head"), SMPLX.index("jaw")]].sum(1) > 0.95
    skin = posed.vertices[head]
    side = 1 if degrees > 0 else -1  # the far cheek of a head turned left is on the left of the picture's x axis
    far = contour[12:15] if degrees > 0 else contour[2:5]
    face = skin[skin[:, 2] > posed.joints[SMPLX.index("head"), 2] - 0.02]
    for point in far:
        level = face[(face[:, 1] - point[1]).abs() < 0.004]
        assert (side * level[:, 0]).max() - side * point[0] < 0.008


# Motion


def test_eyes_turn_only_their_eyeballs(body: BodyModel) -> None:
    rest = body.with_shape().with_pose().vertices
    turned = body.with_shape().with_pose(pose_of({"left_eye": (("y", 20),)}, both_sides=False)).vertices
    moved = (turned - rest).norm(dim=1) > 1e-5
    ball = body.skinning_weights[:, SMPLX.index("left_eye")] > 0.5
    assert not (moved & ~ball).any()
    assert moved[body.vertex_ids["left_eye_front"]]
    assert moved.sum() > 40


def test_jaw_opens_the_mouth(body: BodyModel) -> None:
    gap = []
    for degrees in (0, 20):
        points = body.with_shape().with_pose(pose_of({"jaw": (("x", degrees),)})).landmarks()
        gap.append(float(points[45, 1] - points[49, 1]))  # inner lips, middle
    assert gap[0] < 0.004
    assert gap[1] > 0.015


@pytest.mark.parametrize(
    ("turns", "ring"),
    [
        ({"left_wrist": (("x", 80),)}, ("left_elbow", "left_wrist", 0.75)),
        ({"left_elbow": (("x", 70),)}, ("left_elbow", "left_wrist", 0.3)),
        ({"left_shoulder": (("x", 60),)}, ("left_shoulder", "left_elbow", 0.5)),
        ({"left_hip": (("y", 45),)}, ("left_hip", "left_knee", 0.5)),
        ({"left_elbow": (("y", -110),)}, ("left_shoulder", "left_elbow", 0.65)),
        ({"left_knee": (("x", 110),)}, ("left_hip", "left_knee", 0.7)),
    ],
)
def test_limbs_keep_their_thickness(body: BodyModel, turns: dict, ring: tuple[str, str, float]) -> None:
    near, far, share = ring
    a, b = (SMPLX.index(name) for name in (near, far))
    axis = body.joint_template[b] - body.joint_template[a]
    along = (body.template - body.joint_template[a]) @ axis / axis.square().sum()
    limb = body.skinning_weights[:, [a, b]].sum(1) > 0.6
    limb &= (along - share).abs() < 0.04
    radii = []
    for pose in ({}, turns):
        posed = body.with_shape().with_pose(pose_of(pose, both_sides=False))
        start, end = posed.joints[a], posed.joints[b]
        bone = torch.nn.functional.normalize(end - start, dim=0)
        offset = posed.vertices[limb] - start
        radii.append((offset - (offset @ bone)[:, None] * bone).norm(dim=1))
    assert limb.sum() > 8
    assert float(radii[1].mean() / radii[0].mean()) > 0.85
    assert float((radii[1] / radii[0]).min()) > 0.7


# Hands


def test_hand_components_are_orthonormal_and_mirror(body: BodyModel) -> None:
    assert body.hands is not None
    for components in (body.hands.left_components, body.hands.right_components):
        torch.testing.assert_close(components @ components.T, torch.eye(45), atol=1e-4, rtol=0)
    flip = torch.tensor([1.0, -1.0, -1.0]).repeat(15)
    torch.testing.assert_close(body.hands.left_mean, body.hands.right_mean * flip, atol=0.08, rtol=0)


def test_hand_basis_can_be_replaced(body: BodyModel) -> None:
    mean, components = np.full(45, 0.1), np.eye(45)[:6]
    new = replace_hand_basis(
        body, left_mean=mean, left_components=components, right_mean=-mean, right_components=components
    )
    assert new.hands is not None
    assert torch.allclose(new.hands.left_mean, torch.tensor(0.1))
    assert new.hands.right_components.shape == (6, 45)
    with pytest.raises(InputError, match="hand basis"):
        replace_hand_basis(
            body, left_mean=mean[:44], left_components=components, right_mean=mean, right_components=components
        )


# The card


def test_card_meets_the_promised_figures(card: dict) -> None:
    figures = card["figures"]
    for gender in GENDERS:
        assert figures["shape_rms_mm"][gender]["all"] <= 3.0
    assert figures["joint_regressor_mm"]["mean"] <= 2.0
    assert figures["joint_regressor_mm"]["worst"] <= 5.0
    posing = figures["pose_correctives_mm"]
    assert posing["with_correctives"]["mean"] < 0.5 * posing["skinning_alone"]["mean"]
    assert figures["reach"]["rms_mm_worst"] <= 5.0
    assert figures["reach"]["heights_cm"] == [140, 205]
    assert figures["rounding_mm"]["shape"] < 0.05
    assert figures["rounding_mm"]["expression"] < 0.05


def test_card_belongs_to_the_files(card: dict) -> None:
    sizes = {item.name: len(item.read_bytes()) for item in FOLDER.iterdir() if item.name.endswith(".npz")}
    assert card["figures"]["file_bytes"] == sizes
    for key in ("data", "licence", "command", "version", "config"):
        assert card[key]


@pytest.mark.parametrize("gender", GENDERS)
def test_statures_of_all_adults_lie_within_three_deviations(gender: str) -> None:
    body = open_body(gender)
    height = []
    for sign in (-3.0, 3.0):
        vertices = body.with_shape(torch.tensor([sign])).vertices
        height.append(float(vertices[:, 1].max() - vertices[:, 1].min()))
    assert min(height) < 1.40
    assert max(height) > (1.95 if gender == "female" else 2.0)


# Export and errors


def test_export_is_a_full_smplx_file_that_loads_as_the_same_body(body: BodyModel, tmp_path: Path) -> None:
    path = tmp_path / "SMPLX_NEUTRAL.npz"
    save_smplx_npz(body, path)
    loaded = load_body("smplx", path, num_shape="all", num_expression="all")
    pose = pose_of({"left_elbow": (("y", -80),), "jaw": (("x", 10),), "spine2": (("y", 20),)})
    betas = torch.linspace(-1, 1, body.num_shape)
    expression = torch.linspace(1, -1, body.num_expression)
    ours = body.with_shape(betas, expression).with_pose(pose)
    theirs = loaded.with_shape(betas, expression).with_pose(pose)
    torch.testing.assert_close(theirs.joints, ours.joints, atol=1e-5, rtol=0)
    torch.testing.assert_close(theirs.vertices, ours.vertices, atol=1e-5, rtol=0)
    torch.testing.assert_close(theirs.landmarks(), ours.landmarks(), atol=1e-5, rtol=0)


def test_load_body_knows_the_open_body(body: BodyModel) -> None:
    assert torch.equal(load_body("open").template, body.template)


def test_errors_name_what_is_wrong(body: BodyModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neutral, female, male"):
        open_body("child")
    with pytest.raises(InputError, match="fewer shape components"):
        open_body(num_shape=400)
    with pytest.raises(ModelFileError, match=r"topology\.npz"):
        read_open_body(tmp_path, "neutral")
    (tmp_path / "topology.npz").write_bytes((FOLDER / "topology.npz").read_bytes()[:5000])
    with pytest.raises(ModelFileError, match="damaged"):
        read_open_body(tmp_path, "neutral")


def test_rounding_stays_within_its_bound(generator: torch.Generator) -> None:
    values = torch.randn(50, 3, 4, generator=generator).numpy() * np.array([1e-1, 1e-2, 1e-4, 0.0])
    stored = Quantised.of(values)
    assert np.abs(stored.values - values).max() <= 1.01e-5
    assert Quantised.of(values[..., 2:]).integers.dtype == np.int8


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the build packages
def test_a_small_body_is_learnt_from_the_build_package(tmp_path: Path) -> None:
    pytest.importorskip("anny")
    pytest.importorskip("mediapipe")
    from vitruvian.body_learning.open_body import learn_open_body
    from vitruvian.body_learning.people import LearnBodyConfig

    steps = []
    config = LearnBodyConfig(
        output=tmp_path / "learnt",
        bodies_per_gender=40,
        held_out_per_gender=5,
        posed_bodies=60,
        held_out_poses=10,
        expression_samples=60,
    )
    card = learn_open_body(config, progress=lambda step, share: steps.append((step, share)))
    small = read_open_body(tmp_path / "learnt", "female")
    assert small.num_vertices == open_body().num_vertices
    assert torch.equal(small.faces, open_body().faces)
    assert card == json.loads((tmp_path / "learnt" / "card.json").read_text())
    assert card["figures"]["joint_regressor_mm"]["mean"] < 2.0
    assert all(0 <= share <= 1 for _, share in steps)
    difference = (small.template - open_body("female").template).norm(dim=1)
    assert difference.mean() < 0.08  # another sample of the same people
