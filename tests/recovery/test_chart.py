"""The chart of body rotations about the camera's axes: inverse, differential, and what it means in the picture."""

import torch

from vitruvian.geometry.rotations import exp_so3, log_so3
from vitruvian.recovery.chart import (
    BODY,
    CHART_SIZE,
    chart_differential,
    chart_from_rotations,
    local_rotations,
    rotations_from_chart,
    turns_of_chart,
    world_rotations,
)


def rotations(*batch: int, generator: torch.Generator, spread: float = 0.8) -> torch.Tensor:
    return exp_so3(spread * torch.randn(*batch, 22, 3, generator=generator, dtype=torch.float64))


def test_world_rotations_are_products_along_the_chain(generator: torch.Generator) -> None:
    R = rotations(2, generator=generator)
    G = world_rotations(R)
    for joint, chain in enumerate(BODY.chains):
        product = torch.eye(3, dtype=torch.float64)
        for link in chain:
            product = product @ R[1, link]
        torch.testing.assert_close(G[1, joint], product)
    torch.testing.assert_close(local_rotations(G), R)


def test_chart_and_rotations_are_inverse_to_each_other(generator: torch.Generator) -> None:
    base = world_rotations(rotations(3, generator=generator))
    v = 0.3 * torch.randn(10, 3, CHART_SIZE, generator=generator, dtype=torch.float64)
    back = chart_from_rotations(rotations_from_chart(v, base), base)
    # Turns of more than π come back as the shorter turn the other way.
    short = (turns_of_chart(v).norm(dim=-1) < 3.1).all(-1)
    torch.testing.assert_close(back[short], v[short])
    assert int(short.sum()) >= 10


def test_zero_is_the_base_pose(generator: torch.Generator) -> None:
    R = rotations(2, generator=generator)
    zero = torch.zeros(2, CHART_SIZE, dtype=torch.float64)
    torch.testing.assert_close(rotations_from_chart(zero, world_rotations(R)), R)


def test_coordinates_turn_one_bone_about_the_axes_of_the_camera(generator: torch.Generator) -> None:
    R = rotations(generator=generator)
    elbow = BODY.index("left_elbow")
    v = torch.zeros(CHART_SIZE, dtype=torch.float64)
    v[3 * elbow + 2] = 0.4
    v[3 * BODY.index("left_wrist") + 2] = -0.4  # undoes for the hand what the forearm turns
    moved = world_rotations(rotations_from_chart(v, world_rotations(R)))
    turn = exp_so3(torch.tensor([0.0, 0.0, 0.4], dtype=torch.float64))
    torch.testing.assert_close(moved[elbow], turn @ world_rotations(R)[elbow])
    others = [j for j in range(22) if j != elbow]
    torch.testing.assert_close(moved[others], world_rotations(R)[others])


def test_differential_is_the_derivative_of_right_perturbations(generator: torch.Generator) -> None:
    base = world_rotations(rotations(generator=generator))
    v = 0.6 * torch.randn(CHART_SIZE, generator=generator, dtype=torch.float64)
    R = rotations_from_chart(v, base)

    def perturbation(step: torch.Tensor) -> torch.Tensor:
        return log_so3(R.transpose(-1, -2) @ rotations_from_chart(v + step, base)).flatten()

    numeric = torch.stack(
        [(perturbation(1e-6 * e) - perturbation(-1e-6 * e)) / 2e-6 for e in torch.eye(CHART_SIZE, dtype=torch.float64)],
        dim=-1,
    )
    identity = torch.eye(CHART_SIZE, dtype=torch.float64)
    torch.testing.assert_close(chart_differential(v, base, R, identity), numeric, atol=1e-7, rtol=1e-6)
