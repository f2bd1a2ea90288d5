"""The rig of the refiners against its body, its Gauss-Newton turns, and refiners that have learnt nothing."""

import pytest
import torch

from vitruvian.bodies.open_body import open_body
from vitruvian.geometry.rotations import exp_so3
from vitruvian.keypoints.canonical import canonical_points
from vitruvian.recovery.chart import BODY, NUM_BODY, rotations_from_chart
from vitruvian.recovery.network import NetworkConfig, PoseNetwork
from vitruvian.recovery.refinement import PointedBody, Rig, rig_rows
from vitruvian.recovery.views import View


@pytest.fixture(scope="module")
def rig() -> Rig:
    return Rig(PointedBody.of(open_body(num_shape=4, num_expression=0), num_shape=4)).double()


@pytest.fixture
def rotations(generator: torch.Generator) -> torch.Tensor:
    return exp_so3(0.4 * torch.randn(5, NUM_BODY, 3, generator=generator, dtype=torch.float64))


def test_the_rig_follows_the_body(generator: torch.Generator) -> None:
    body = open_body(num_shape=4, num_expression=0)
    rig = Rig(PointedBody.of(body, num_shape=4))
    turns = 0.4 * torch.randn(5, NUM_BODY, 3, generator=generator)
    betas = torch.randn(5, 4, generator=generator)
    local = exp_so3(turns)
    posed = rig.pose(local, betas)
    shaped = body.with_shape(betas)
    full = torch.cat((local, torch.eye(3).expand(5, body.num_joints - NUM_BODY, 3, 3)), dim=1)
    whole = shaped.with_pose(full, -shaped.joints[:, 0])
    points = canonical_points(body).select(torch.tensor(rig_rows()))
    torch.testing.assert_close(posed.joints, whole.joints[:, :NUM_BODY], atol=1e-5, rtol=0)
    # The rig has no pose correctives, which move the surface by millimetres.
    assert float((posed.points - whole.points(points)).norm(dim=-1).amax()) < 0.01


@pytest.mark.parametrize("joint", ["pelvis", "spine1", "left_hip", "right_knee", "left_shoulder"])
@pytest.mark.parametrize("axis", range(3))
def test_a_turn_is_found_from_the_errors_that_it_makes(
    rig: Rig, rotations: torch.Tensor, joint: str, axis: int
) -> None:
    betas = torch.zeros(5, 4, dtype=torch.float64)
    column = 3 * BODY.index(joint) + axis
    before = rig.pose(rotations, betas)
    w = torch.zeros(5, 66, dtype=torch.float64)
    w[:, column] = 1e-4
    after = rig.pose(rotations_from_chart(w, before.G), betas)
    moved = after.points - before.points
    confidence = torch.ones(5, len(rig_rows()), dtype=torch.float64)
    turn, lever = rig.turns(before, moved[..., :2], confidence)
    # Damping by the reach shortens the turn by the share that it has in the lever.
    length = moved[..., :2].square().sum((-1, -2)) / 1e-8
    expected = 1e-4 * length / (length + 0.08**2)
    # Keypoints beside a joint turn with it in part, which the levers know to first order only.
    close = 1e-3 if joint == "pelvis" else 0.2
    torch.testing.assert_close(turn[:, column], expected, rtol=close, atol=1e-6)
    torch.testing.assert_close(lever[:, column].exp(), length + 0.08**2, rtol=close, atol=1e-6)


def test_unseen_points_turn_nothing(rig: Rig, rotations: torch.Tensor) -> None:
    posed = rig.pose(rotations, torch.zeros(5, 4, dtype=torch.float64))
    error = torch.ones(5, len(rig_rows()), 2, dtype=torch.float64)
    turn, _ = rig.turns(posed, error, torch.zeros(5, len(rig_rows()), dtype=torch.float64))
    assert not turn.any()


def test_refiners_start_by_changing_nothing(generator: torch.Generator) -> None:
    body = PointedBody.of(open_body(num_shape=10, num_expression=0), num_shape=10)
    network = PoseNetwork(NetworkConfig(), body).eval()
    points = torch.rand(3, 82, 2, generator=generator) * 2 - 1
    identity = torch.eye(3).expand(3, 3, 3)
    view = View(identity, torch.full((3,), 0.2), points, torch.ones(3, 82), torch.zeros(3, 3))
    with torch.no_grad():
        estimate = network.regressor(view)
    assert len(estimate.heads) == len(estimate.posed) == 3
    torch.testing.assert_close(estimate.heads[-1].rotations, estimate.heads[0].rotations, atol=1e-5, rtol=0)
    torch.testing.assert_close(estimate.heads[-1].place, estimate.heads[0].place)
    assert network.state_dict()["regressor.rig.joint_template"].abs().sum() > 0
