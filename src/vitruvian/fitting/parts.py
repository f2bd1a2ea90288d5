"""The parts of a body that a fit moves, each with its pose space and its priors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vitruvian.bodies.skeletons import BODY_JOINTS, Skeleton
from vitruvian.errors import InputError
from vitruvian.priors.hand_set import GaussianRotations
from vitruvian.priors.pose_spaces import HandPCA, PlainRotations, PoseSpace, RotationPrior


@dataclass(frozen=True)
class Part:
    """A part of the body: `root`, `body`, `jaw`, `left_hand` or `right_hand`, and the space that moves it."""

    name: str
    space: PoseSpace


@dataclass(frozen=True)
class BodyPrior:
    """What a fit believes about the pose of the body before it sees a picture.

    Attributes:
        name: for reports.
        space: pose space of body joints; where it also holds the root, that is not moved apart from it.
        extra: further priors on rotations (joint limits, bending).
    """

    name: str
    space: PoseSpace
    extra: tuple[RotationPrior, ...] = ()


def body_joints(skeleton: Skeleton) -> tuple[int, ...]:
    """Rows of the body joints below the root that the skeleton has (SMPL's stubs of hands are not among them)."""
    return tuple(row for row, name in enumerate(skeleton.names) if name in BODY_JOINTS[1:])


def body_prior(name: str, skeleton: Skeleton) -> BodyPrior:
    """A pose prior by name: `none`, `bending`, `hand-set`.

    Raises:
        InputError: there is no prior of that name.
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


BODY_PRIORS: dict[str, Callable[[Skeleton], BodyPrior]] = {
    "none": _no_prior,
    "hand-set": _hand_set_prior,
}


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
    for side in ("left", "right"):
        joints = tuple(row for row, name in enumerate(skeleton.names) if name.startswith(f"{side}_index"))
        if joints:
            first = joints[0]
            space = HandPCA.learnt(side, num_components=hand_components)
            space = HandPCA(space.mean, space.components, space.std, tuple(range(first, first + 15)))
            parts.append(Part(f"{side}_hand", space))
    return tuple(parts)
