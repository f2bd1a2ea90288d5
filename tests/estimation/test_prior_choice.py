"""A prior with weights of one's own and with limits of the joints: what comes of it in a belief and in a fit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import vitruvian as vt
from tests.fitting.seen_people import seen_people
from tests.priors.published_folders import named, second_folder, second_version
from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.skeletons import MANO_LEFT, SMPLX
from vitruvian.errors import InputError
from vitruvian.estimation.beliefs import PriorChoice, assign_beliefs, belief_by_name, with_limits
from vitruvian.fitting.parts import BODY_PRIORS, body_prior
from vitruvian.keypoints.people import People
from vitruvian.priors.joint_limits import JointLimits
from vitruvian.priors.published_vposer import read_published_vposer
from vitruvian.priors.vposer import VPoser, VPoserSettings


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return vt.open_body(num_shape=10, num_expression=10)


@pytest.fixture(scope="module")
def people(body: BodyModel) -> People:
    seen = seen_people(body, 2, noise_px=1.0)
    return People.in_picture(seen.keypoints, seen.camera)


@pytest.fixture
def published(tmp_path: Path, generator: torch.Generator) -> VPoser:
    """A network of random weights in the published layout."""
    tensors = named(second_version(generator), "vp_model.")
    return read_published_vposer(second_folder(tmp_path / "V02_05", tensors)).vposer


def test_given_weights_decide_the_pose_space(
    body: BodyModel, people: People, published: VPoser, generator: torch.Generator
) -> None:
    belief = belief_by_name(PriorChoice("vposer", published), body, people)
    assert belief.prior is not None
    assert belief.name == "vposer, weights given"
    state = torch.randn(3, belief.prior.space.num_parameters, generator=generator)
    torch.testing.assert_close(belief.prior.space.decode(state), published.decode(state))
    own = belief_by_name("vposer", body, people)
    assert own.prior is not None
    assert own.prior.search is belief.prior.search


def test_weights_of_another_prior_or_skeleton_are_refused(published: VPoser) -> None:
    for name in (None, "flow", "mixture"):
        with pytest.raises(InputError, match="for the prior vposer"):
            PriorChoice(name, published)
    with pytest.raises(InputError, match="23 joints"):
        PriorChoice("vposer", VPoser(replace(VPoserSettings(), num_joints=23)))


@pytest.mark.parametrize("name", sorted(BODY_PRIORS))
def test_limits_are_added_to_every_prior_and_to_its_search(name: str) -> None:
    plain = body_prior(name, SMPLX)
    limited = with_limits(plain, SMPLX)
    assert limited.space is plain.space
    assert limited.extra[:-1] == plain.extra
    assert isinstance(limited.extra[-1], JointLimits)
    if plain.search is not None:
        assert limited.search is not None
        assert isinstance(limited.search.extra[-1], JointLimits)


@pytest.mark.parametrize("skeleton", [SMPLX, MANO_LEFT], ids=["smplx", "mano"])
def test_the_root_has_no_limits(skeleton) -> None:
    """It stands in the frame of the camera, where a person may be turned in any way."""
    prior = with_limits(body_prior("none", skeleton), skeleton)
    assert 0 not in prior.extra[0].joints
    assert len(prior.extra[0].joints) == len(skeleton) - 1


def test_the_flow_takes_limits_in_every_group(body: BodyModel, people: People) -> None:
    groups = assign_beliefs(body, people, prior=PriorChoice(limits=True))
    assert [group.belief.name for group in groups] == ["flow, joint limits"]
    from_posterior = assign_beliefs(body, people, prior=PriorChoice(limits=True), start=vt.regress(people))
    for group in (*groups, *from_posterior):
        assert group.belief.prior is not None
        assert isinstance(group.belief.prior.extra[-1], JointLimits)


def test_limits_hold_joints_that_the_keypoints_pull_out_of_their_range(body: BodyModel, people: People) -> None:
    """Without a prior on poses the depth is anybody's guess, and knees bend forwards."""
    limits = JointLimits.learnt(SMPLX, names=SMPLX.names[1:])

    def excess(choice: PriorChoice) -> float:
        fits = vt.fit(body, people, prior=choice)
        assert fits.usable.all()
        return float(limits.excess(fits.params.rotations[:, list(limits.joints)]).abs().sum())

    assert excess(PriorChoice("none", limits=True)) < 0.2 * excess(PriorChoice("none"))
