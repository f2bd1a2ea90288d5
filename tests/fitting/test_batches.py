"""Item = item alone: who else is in the batch changes nothing, under every prior, whatever the size and the order."""

from functools import cache

import pytest
import torch
from torch import Tensor

from tests.fitting.seen_people import SeenPeople, seen_people
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.open_body import open_body
from vitruvian.estimation.regress import FLOW_FIT, flow_prior, placed_mode, regress
from vitruvian.fitting.fit import fit_keypoints
from vitruvian.fitting.fitter import FittedPeople
from vitruvian.fitting.parts import body_prior
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.people import People

CLOSE_M = 1e-4
PRIORS = ("flow", "vposer", "mixture", "hand-set", "none")


@cache
def body() -> BodyModel:
    return open_body(num_shape=10, num_expression=10)


@cache
def people(count: int) -> SeenPeople:
    return seen_people(body(), count, noise_px=3.0, seed=5)


def fitted(prior: str, seen: SeenPeople, rows: list[int]) -> FittedPeople:
    keypoints, camera = seen.keypoints[rows], seen.camera[rows]
    if prior != "flow":
        return fit_keypoints(body(), keypoints, camera, prior=body_prior(prior, body().skeleton))
    people = People.in_picture(keypoints, camera)
    posterior = regress(people)
    placed = placed_mode(posterior, body(), people)
    belief = flow_prior(posterior, body(), people, placed)
    return fit_keypoints(body(), keypoints, camera, config=FLOW_FIT, prior=belief, start=placed.params)


def joints(fits: FittedPeople) -> Tensor:
    return body().pose(fits.params).joints


def assert_batches_agree(prior: str, seen: SeenPeople, batches: list[list[int]]) -> None:
    whole, *parts = batches
    together = fitted(prior, seen, whole)
    place = {row: k for k, row in enumerate(whole)}
    for rows in parts:
        some = fitted(prior, seen, rows)
        kept = [place[row] for row in rows]
        torch.testing.assert_close(joints(some), joints(together)[kept], rtol=0, atol=CLOSE_M)
        torch.testing.assert_close(some.cost, together.cost[kept], rtol=1e-4, atol=0)
        assert some.status.tolist() == together.status[kept].tolist()
        assert some.iterations.tolist() == together.iterations[kept].tolist()


@pytest.mark.parametrize("prior", ["flow", "none"])
def test_a_person_alone_equals_the_person_in_a_batch(prior: str) -> None:
    assert_batches_agree(prior, people(5), [[3, 0, 4, 1, 2], [1], [2, 0], [0, 1, 2]])


@pytest.mark.slow
@pytest.mark.parametrize("prior", PRIORS)
def test_batches_of_all_sizes_in_any_order_agree(prior: str) -> None:
    generator = torch.Generator().manual_seed(1)
    orders = [torch.randperm(64, generator=generator).tolist() for _ in range(2)]
    assert_batches_agree(prior, people(64), [orders[0], [0], [1], [2], [5, 6], [7, 8, 9], orders[1][:16], orders[1]])


@pytest.mark.slow
@pytest.mark.parametrize("prior", PRIORS)
def test_a_long_focal_length_makes_no_difference(prior: str) -> None:
    """Seen from far away, size and distance exchange; what one step then decides must not be decided by rounding."""
    seen = people(4)
    camera = Camera(5000 / 1414 * seen.camera.focal_px, seen.camera.center_px, seen.camera.image_size)
    far = SeenPeople(seen.params, seen.keypoints, camera)
    assert_batches_agree(prior, far, [[0, 1, 2, 3], [1], [3, 2]])
