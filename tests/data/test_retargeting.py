"""Retargeting: T-poses become identities, hinges and positions are kept; on made and on recorded motion."""

import math
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vitruvian.bodies.skeletons import SMPLX
from vitruvian.data.calibration import measure_flat_feet, measure_straight_knees
from vitruvian.data.motion import Motion
from vitruvian.data.readers.asf_amc import read_amc, read_asf
from vitruvian.data.readers.bvh import read_bvh
from vitruvian.data.retargeting import BoneMap, Calibration, SkeletonMap, align_directions, retarget, twist_angle
from vitruvian.data.retargeting_check import check_retargeting
from vitruvian.data.skeleton_maps import CMU_ASF, CMU_BVH, CMU_POSER_BVH
from vitruvian.errors import InputError
from vitruvian.geometry.rotations import exp_so3, geodesic_angle, log_so3

# A figure whose arms hang down at rest (an A-pose of sorts), with its own names.
NAMES = ("Root", "Spine", "LUpperArm", "LLowerArm", "LPalm")
PARENTS = (-1, 0, 1, 2, 3)
OFFSETS = torch.tensor([[0, 0, 0], [0, 0.5, 0], [0.2, 0, 0], [0.2, -0.2, 0], [0.18, -0.18, 0]], dtype=torch.float64)
TIPS = torch.tensor([[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0.07, -0.07, 0]], dtype=torch.float64)
FIGURE = SkeletonMap(
    bones={
        "pelvis": BoneMap("Root"),
        "spine3": BoneMap("Spine"),
        "left_shoulder": BoneMap("LUpperArm", toward="LLowerArm", hinge=(-0.6, -0.6, 0.2)),
        "left_elbow": BoneMap("LLowerArm", toward="LPalm", hinge=(-0.6, -0.6, 0.2)),
        "left_wrist": BoneMap("LPalm", toward="", hinge=(-0.6, -0.6, 0.2)),
    },
    metres_per_unit=1.0,
)


def figure(rotations: Tensor) -> Motion:
    return Motion(NAMES, PARENTS, OFFSETS, TIPS, rotations, torch.zeros(len(rotations), 3, dtype=torch.float64), 30.0)


def still(frames: int) -> Tensor:
    return torch.eye(3, dtype=torch.float64).repeat(frames, len(NAMES), 1, 1)


def test_raising_the_arms_to_the_t_pose_gives_identities() -> None:
    rotations = still(1)
    # The T-pose of this figure: the arm, which hangs at 45°, is brought level, its hinge upright.
    source_frame = align_directions(
        torch.tensor([1.0, -1, 0]).double() / math.sqrt(2), torch.tensor([1.0, 0, 0]).double(),
        torch.tensor([-0.6, -0.6, 0.2]).double(), torch.tensor([0.0, -1, 0]).double(),
    )  # fmt: skip
    rotations[0, 2] = source_frame.T
    body = retarget(figure(rotations), FIGURE)
    identity = torch.eye(3, dtype=torch.float64).expand(55, 3, 3)
    torch.testing.assert_close(body.rotations[0], identity, rtol=0, atol=1e-9)


def test_bending_the_source_elbow_bends_the_elbow_about_minus_y() -> None:
    hinge = torch.tensor([-0.6, -0.6, 0.2], dtype=torch.float64)
    direction = torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64) / math.sqrt(2)
    hinge = hinge - (hinge @ direction) * direction
    rotations = still(1)
    rotations[0, 3] = exp_so3(1.2 * hinge / hinge.norm())
    body = retarget(figure(rotations), FIGURE)
    elbow = log_so3(body.rotations[0, SMPLX.index("left_elbow")])
    torch.testing.assert_close(elbow, torch.tensor([0, -1.2, 0], dtype=torch.float64), rtol=0, atol=1e-7)


def test_half_of_the_hands_turn_goes_to_the_elbow() -> None:
    direction = torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64) / math.sqrt(2)
    rotations = still(1)
    rotations[0, 4] = exp_so3(0.8 * direction)
    body = retarget(figure(rotations), FIGURE)
    half = torch.tensor([0.4, 0, 0], dtype=torch.float64)
    for name in ("left_elbow", "left_wrist"):
        torch.testing.assert_close(log_so3(body.rotations[0, SMPLX.index(name)]), half, rtol=0, atol=1e-9)


def test_turning_the_source_in_the_world_turns_only_the_root(generator: torch.Generator) -> None:
    rotations = exp_so3(0.5 * torch.randn(4, len(NAMES), 3, generator=generator, dtype=torch.float64))
    turn = exp_so3(torch.tensor([0.3, -1.0, 0.2], dtype=torch.float64))
    turned = rotations.clone()
    turned[:, 0] = turn @ rotations[:, 0]
    a, b = retarget(figure(rotations), FIGURE), retarget(figure(turned), FIGURE)
    torch.testing.assert_close(b.rotations[:, 0], turn @ a.rotations[:, 0])
    torch.testing.assert_close(b.rotations[:, 1:], a.rotations[:, 1:])


def test_z_up_sources_are_brought_upright(generator: torch.Generator) -> None:
    up = SkeletonMap(bones={"pelvis": BoneMap("Root")}, metres_per_unit=1.0, up="z")
    motion = figure(still(1))
    motion = Motion(NAMES, PARENTS, OFFSETS, TIPS, motion.rotations, torch.tensor([[1.0, 2.0, 3.0]]).double(), 30.0)
    body = retarget(motion, up)
    torch.testing.assert_close(body.root_positions[0], torch.tensor([1.0, 3.0, -2.0], dtype=torch.float64))
    torch.testing.assert_close(
        body.rotations[0, 0] @ torch.tensor([0.0, 0, 1]).double(), torch.tensor([0.0, 1, 0]).double()
    )


def test_a_map_that_names_a_missing_joint_is_refused() -> None:
    wrong = SkeletonMap(bones={"pelvis": BoneMap("Hip")}, metres_per_unit=1.0)
    with pytest.raises(InputError, match="no such joint"):
        retarget(figure(still(1)), wrong)


def test_twist_angle_is_that_of_swing_times_twist(generator: torch.Generator) -> None:
    axis = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    angle = torch.linspace(-2.5, 2.5, 11, dtype=torch.float64)
    swing_axis = torch.randn(11, 3, generator=generator, dtype=torch.float64) * torch.tensor([0.0, 1, 1]).double()
    rotation = exp_so3(0.5 * swing_axis) @ exp_so3(angle[:, None] * axis)
    torch.testing.assert_close(twist_angle(rotation, axis), angle)


def test_alignment_takes_target_to_source(generator: torch.Generator) -> None:
    a, b = (torch.nn.functional.normalize(torch.randn(3, generator=generator).double(), dim=0) for _ in range(2))
    turn = align_directions(a, b, None, None)
    torch.testing.assert_close(turn @ b, a)
    angle = torch.acos((a * b).sum())
    torch.testing.assert_close(geodesic_angle(turn, torch.eye(3).double()), angle)


@pytest.fixture(scope="module")
def recordings(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for archive, members in (
        ("cmu_asf_amc_30hz.zip", ("02/02.asf", "02/02_01.amc", "02/02_05.amc")),
        ("cmu_bvh_30hz.zip", ("35/35_01.bvh", "13/13_09.bvh")),
    ):
        with zipfile.ZipFile(shared_data / archive) as opened:
            for member in members:
                opened.extract(member, folder)
    return folder


def clip(recordings: Path, flavour: str) -> tuple[Motion, SkeletonMap]:
    match flavour:
        case "asf":
            skeleton = read_asf(recordings / "02/02.asf")
            return read_amc(recordings / "02/02_05.amc", skeleton, frame_rate=30), CMU_ASF
        case "bvh":
            return read_bvh(recordings / "35/35_01.bvh", metres_per_unit=CMU_BVH.metres_per_unit), CMU_BVH
        case _:
            return read_bvh(recordings / "13/13_09.bvh"), CMU_POSER_BVH


@pytest.mark.parametrize("flavour", ["asf", "bvh", "poser"])
def test_recorded_limbs_keep_their_positions_and_directions(recordings: Path, flavour: str) -> None:
    motion, skeleton_map = clip(recordings, flavour)
    check = check_retargeting(motion, skeleton_map)
    # Compromises: the neck takes half of the head's turn; a spine of two bones is spread over three joints, which moves
    # all that it carries.
    limits = dict.fromkeys(check.position_mm, 0.01) | {"head": 40.0}
    if flavour == "poser":
        limits |= {name: 25.0 for name in limits if not name.endswith(("pelvis", "hip", "knee", "ankle", "head"))}
    assert all(error < limits[name] for name, error in check.position_mm.items()), check.position_mm
    assert max(check.angle_deg.values()) < 0.01


@pytest.mark.parametrize("flavour", ["asf", "bvh", "poser"])
def test_recorded_knees_and_elbows_bend_about_their_axes(recordings: Path, flavour: str) -> None:
    motion, skeleton_map = clip(recordings, flavour)
    rotations = retarget(motion, skeleton_map).rotations
    for name, axis in (
        ("left_knee", (1.0, 0, 0)),
        ("right_knee", (1.0, 0, 0)),
        ("left_elbow", (0, -1.0, 0)),
        ("right_elbow", (0, 1.0, 0)),
    ):
        vector = log_so3(rotations[:, SMPLX.index(name)])
        bend = vector @ torch.tensor(axis, dtype=torch.float64)
        assert bend.min() > math.radians(-3), name
        if "knee" in name:
            assert (vector - bend[:, None] * torch.tensor(axis, dtype=torch.float64)).norm(dim=-1).max() < 0.1


def test_walking_arms_hang_palms_in_and_feet_are_flat(recordings: Path) -> None:
    skeleton = read_asf(recordings / "02/02.asf")
    motion = read_amc(recordings / "02/02_01.amc", skeleton, frame_rate=30)
    calibration = measure_flat_feet([motion], CMU_ASF)
    rotations = retarget(motion, CMU_ASF, calibration=calibration).rotations
    world = [rotations[:, 0]]
    for joint, parent in list(enumerate(SMPLX.parents))[1:]:
        world.append(world[parent] @ rotations[:, joint])
    palm = -world[SMPLX.index("left_wrist")][..., 1] @ torch.eye(3, dtype=torch.float64)
    left = world[0][..., 0]
    # The palm of a hanging left hand faces the thigh: to the right.
    assert float((palm * left).sum(-1).median()) < -0.5
    # While the lower of the two feet carries the weight it is flat: its up axis is up.
    flat = torch.maximum(world[SMPLX.index("left_ankle")][:, 1, 1], world[SMPLX.index("right_ankle")][:, 1, 1])
    assert float(flat.median()) > math.cos(math.radians(10))


def test_calibrated_knees_are_straighter_and_hip_and_ankle_stay(recordings: Path) -> None:
    skeleton = read_asf(recordings / "02/02.asf")
    motion = read_amc(recordings / "02/02_01.amc", skeleton, frame_rate=30)
    excess = math.radians(12)
    plain = retarget(motion, CMU_ASF).rotations
    straighter = retarget(motion, CMU_ASF, calibration=Calibration(knee_excess={"left": excess})).rotations
    knee, hip = SMPLX.index("left_knee"), SMPLX.index("left_hip")
    flexion = [log_so3(rotations[:, knee])[:, 0] for rotations in (plain, straighter)]
    torch.testing.assert_close(flexion[0] - flexion[1], torch.full_like(flexion[0], excess), atol=1e-6, rtol=0)
    # The right leg, and the left foot in the world, are as they were.
    torch.testing.assert_close(plain[:, SMPLX.index("right_knee")], straighter[:, SMPLX.index("right_knee")])
    feet = [r[:, 0] @ r[:, hip] @ r[:, knee] @ r[:, SMPLX.index("left_ankle")] for r in (plain, straighter)]
    torch.testing.assert_close(*feet)
    # Along a straight leg the ankle does not move.
    down = torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)
    thigh, shin = 0.38 * down, 0.41 * down
    legs = [(r[:, hip] @ (thigh + r[:, knee] @ shin)[..., None])[..., 0] for r in (plain, straighter)]
    # The knee goes through the line from hip to ankle, so the ankle keeps its direction and, to 1 %, its distance.
    half_way = (flexion[0] - excess / 2).abs() < math.radians(6)
    assert int(half_way.sum()) >= 4
    assert float((legs[0] - legs[1])[half_way].norm(dim=-1).max()) < 0.02


def test_measured_knees_bring_standing_legs_to_straight(recordings: Path) -> None:
    skeleton = read_asf(recordings / "02/02.asf")
    clips = [read_amc(recordings / f"02/02_{n}.amc", skeleton, frame_rate=30) for n in ("01", "05")]
    excess = measure_straight_knees(clips, CMU_ASF)
    assert set(excess) == {"left", "right"}
    again = measure_straight_knees(clips, CMU_ASF, calibration=Calibration(knee_excess=excess))
    assert all(math.radians(5) < value <= math.radians(20) for value in excess.values())
    assert all(value < math.radians(3) for value in again.values())
