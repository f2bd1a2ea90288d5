"""Which terms the objective of a stage has: makers that look at the stage and the people, built-in ones and others.

A maker is called once per stage and batch, and may hold what it needs of its own (a mesh, depth cues of all people, of
which `Observations.rows` picks those of the batch). The built-in ones are listed in `built_in_makers`; callers of
`fit_keypoints` and `fit_views` give further ones.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Int
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.fitting.kinematics import PointKinematics
from vitruvian.fitting.observed import Observations
from vitruvian.fitting.parts import BodyPrior, Part
from vitruvian.fitting.problem import Term
from vitruvian.fitting.residuals import CoefficientPrior, PosePrior, PoseSpacePrior, Reprojection, Upright
from vitruvian.fitting.stages import Stage
from vitruvian.keypoints.targets import KeypointTargets
from vitruvian.priors.pose_spaces import RotationPrior


@dataclass(frozen=True, eq=False)
class StageSetting:
    """All that a maker may know of a stage besides the people.

    Attributes:
        stage: weights and robust scale.
        is_last: no stage follows, so the objective is the one that is reported.
        body: the model that is fitted.
        targets: the points on the body that keypoints are compared with, in the order of `Observations`.
        parts: those that move in this stage, in the order of their columns in the step.
        kinematics: derivatives of the targets that count in this stage.
        counting: which of the targets these are.
        num_shape, num_expression: coefficients that move.
    """

    stage: Stage
    is_last: bool
    body: BodyModel
    targets: KeypointTargets
    parts: tuple[Part, ...]
    kinematics: PointKinematics
    counting: Int[Tensor, "counting"]
    num_shape: int
    num_expression: int

    @property
    def moving_joints(self) -> tuple[int, ...]:
        """Rows of the skeleton in the order in which Jacobians by rotations have them."""
        return tuple(joint for part in self.parts for joint in part.space.joints)


@runtime_checkable
class TermMaker(Protocol):
    """Makes one term of the objective of a stage, or none where it has nothing to say."""

    def __call__(self, setting: StageSetting, observed: Observations) -> Term | None:
        """The term for these people, row by row of `observed`."""
        ...


@dataclass(frozen=True, eq=False)
class ReprojectionMaker:
    """Keypoints, those of hands and face with the weights of the stage."""

    point_weights: dict[str, Tensor]
    """One per target for `body`, `hand` and `face`: one for its own targets, zero for the others."""

    def __call__(self, setting: StageSetting, observed: Observations) -> Term:
        stage, rows, group = setting.stage, setting.counting, self.point_weights
        gamma = group["body"] + stage.hand_keypoints * group["hand"] + stage.face_keypoints * group["face"]
        return Reprojection(
            setting.kinematics,
            observed.positions[:, rows],
            (observed.weights * gamma)[:, rows],
            observed.sigma_px,
            observed.camera,
            stage.robust_scale,
        )


@dataclass(frozen=True)
class PartPriorMaker:
    """The prior that the pose space of a part carries, with the weight that the stage has for it."""

    part: str

    def __call__(self, setting: StageSetting, observed: Observations) -> Term | None:
        stage = setting.stage
        weights = {"body": stage.pose, "jaw": stage.jaw, "left_hand": stage.hands, "right_hand": stage.hands}
        names = [part.name for part in setting.parts]
        return PoseSpacePrior(names.index(self.part), weights[self.part]) if self.part in names else None


@dataclass(frozen=True, eq=False)
class PosePriorMaker:
    """A further prior on rotations: joint limits, bending."""

    prior: RotationPrior

    def __call__(self, setting: StageSetting, observed: Observations) -> Term | None:
        return PosePrior(self.prior, setting.stage.extra) if setting.stage.articulated else None


@dataclass(frozen=True, eq=False)
class ShapePriorMaker:
    """The shape near what is believed of each person, or of people at large."""

    std: Tensor | None = None

    def __call__(self, setting: StageSetting, observed: Observations) -> Term | None:
        if not setting.num_shape:
            return None
        std = None if self.std is None else self.std.to(observed.weights)
        return CoefficientPrior("betas", setting.stage.shape, observed.shape, std)


@dataclass(frozen=True)
class ExpressionPriorMaker:
    """An expression near the neutral one."""

    def __call__(self, setting: StageSetting, observed: Observations) -> Term | None:
        return CoefficientPrior("expression", setting.stage.expression) if setting.num_expression else None


@dataclass(frozen=True)
class UprightMaker:
    """The trunk leans against standing upright in a level camera."""

    def __call__(self, setting: StageSetting, observed: Observations) -> Term | None:
        if "pelvis" not in setting.body.skeleton.names:
            return None
        return Upright(setting.body.template.new_tensor([0.0, -1.0, 0.0]), observed.upright)


def built_in_makers(
    parts: tuple[Part, ...], prior: BodyPrior | None, point_weights: dict[str, Tensor]
) -> tuple[TermMaker, ...]:
    """The makers of every fit, in the order of the terms.

    Args:
        parts: all parts of the body.
        prior: belief about pose and shape.
        point_weights: see `ReprojectionMaker`.
    """
    makers: list[TermMaker] = [ReprojectionMaker(point_weights)]
    makers += [PartPriorMaker(part.name) for part in parts if part.name != "root"]
    makers += [PosePriorMaker(extra) for extra in (prior.extra if prior is not None else ())]
    belief = None if prior is None else prior.shape
    makers += [ShapePriorMaker(None if belief is None else belief.std), ExpressionPriorMaker()]
    if any(part.name == "root" for part in parts):
        makers.append(UprightMaker())
    return tuple(makers)
