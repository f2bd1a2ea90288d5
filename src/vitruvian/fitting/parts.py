"""The parts of a body that a fit moves, each with its pose space and its priors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.skeletons import BODY_JOINTS, Skeleton
from vitruvian.errors import InputError
from vitruvian.priors.bending import BendingPrior
from vitruvian.priors.hand_set import GaussianRotations
from vitruvian.priors.mixture import MixturePrior
from vitruvian.priors.pose_spaces import HandPCA, PlainRotations, PoseSpace, RotationPrior
from vitruvian.priors.vposer import VPoser
from vitruvian.priors.vposer_space import VPoserSpace
from vitruvian.tensors import TensorRecord


@dataclass(frozen=True)
class Part:
    """A part of the body: `root`, `body`, `jaw`, `left_hand` or `right_hand`, and the space that moves it."""

    name: str
    space: PoseSpace


@dataclass(frozen=True, eq=False)
class ShapeBelief(TensorRecord):
    """Shape of each person before the fit: mean and standard deviation of the coefficients."""

    mean: Float[Tensor, "person shape"]
    std: Float[Tensor, "shape"]


@dataclass(frozen=True)
class BodyPrior:
    """What a fit believes about the pose of the body before it sees a picture.

    Attributes:
        name: for reports.
        space: pose space of body joints; where it also holds the root, that is not moved apart from it.
        extra: further priors on rotations (joint limits, bending).
        shape: what is believed about the shape of each person; people at large if None.
    """

    name: str
    space: PoseSpace
    extra: tuple[RotationPrior, ...] = ()
    hands: tuple[PoseSpace, ...] = ()
    """Spaces of the left and the right hand; the learnt components if empty."""
    shape: ShapeBelief | None = None
    search: "BodyPrior | None" = None
    """A cheaper prior for the stages in which several starts of a person compete."""


def body_joints(skeleton: Skeleton) -> tuple[int, ...]:
    """Rows of the body joints below the root that the skeleton has (SMPL's stubs of hands are not among them)."""
    return tuple(row for row, name in enumerate(skeleton.names) if name in BODY_JOINTS[1:])


@lru_cache(maxsize=32)
def body_prior(name: str, skeleton: Skeleton) -> BodyPrior:
    """A pose prior by name, see `BODY_PRIORS`.

    Raises:
        InputError: there is no prior of that name.
        WeightsError: the installation lacks the weights of a learnt prior.
    """
    try:
        build = BODY_PRIORS[name]
    except KeyError:
        raise InputError("unknown pose prior", seen=name, expected=", ".join(BODY_PRIORS)) from None
    return build(skeleton)


def _no_prior(skeleton: Skeleton) -> BodyPrior:
    return BodyPrior("none", PlainRotations(body_joints(skeleton)))


def _hand_set_prior(skeleton: Skeleton) -> BodyPrior:
    """Free rotations with the hand-set Gaussian."""
    joints = body_joints(skeleton)
    return BodyPrior("hand-set", PlainRotations(joints, prior=GaussianRotations.hand_set(skeleton, joints)))


def _bending_prior(skeleton: Skeleton) -> BodyPrior:
    return BodyPrior("bending", PlainRotations(body_joints(skeleton)), extra=(BendingPrior.of(skeleton),))


def _mixture_prior(skeleton: Skeleton) -> BodyPrior:
    """Free rotations with the mixture of Gaussians learnt from motion capture."""
    return BodyPrior("mixture", PlainRotations(body_joints(skeleton), prior=MixturePrior.learnt()))


def _vposer_prior(skeleton: Skeleton) -> BodyPrior:
    """The latent space of VPoser; starts compete under the mixture, whose derivatives cost a tenth."""
    return BodyPrior("vposer", VPoserSpace(VPoser.learnt()), search=_mixture_prior(skeleton))


BODY_PRIORS: dict[str, Callable[[Skeleton], BodyPrior]] = {
    "none": _no_prior,
    "bending": _bending_prior,
    "hand-set": _hand_set_prior,
    "mixture": _mixture_prior,
    "vposer": _vposer_prior,
}
"""Pose priors by name; those of one photograph (the flow) are made from its keypoints instead."""


def body_parts(skeleton: Skeleton, prior: BodyPrior | None, *, hand_components: int) -> tuple[Part, ...]:
    """The parts that a family has, in the order of their columns in the step."""
    parts = []
    covered: Sequence[int] = ()
    if prior is not None and prior.space.joints:
        covered = prior.space.joints
        parts.append(Part("body", prior.space))
    if 0 not in covered:
        parts.insert(0, Part("root", PlainRotations((0,))))
    if "jaw" in skeleton.names:
        jaw = (skeleton.index("jaw"),)
        parts.append(Part("jaw", PlainRotations(jaw, prior=GaussianRotations.hand_set(skeleton, jaw))))
    given = {space.joints: space for space in (prior.hands if prior is not None else ())}
    for side in ("left", "right"):
        if f"{side}_index1" not in skeleton.names:
            continue
        first = skeleton.index(f"{side}_index1")
        joints = tuple(range(first, first + 15))
        learnt = replace(HandPCA.learnt(side, num_components=hand_components), hand_joints=joints)
        parts.append(Part(f"{side}_hand", given.get(joints, learnt)))
    return tuple(parts)
