"""What a fit works out once for a body and keeps while the body lives: targets, kinematics, poses to start from."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch

from vitruvian.bodies.model import BodyModel
from vitruvian.fitting.kinematics import PointKinematics
from vitruvian.fitting.start import StartBank
from vitruvian.keypoints.targets import KeypointTargets, keypoint_targets
from vitruvian.priors.pose_bank import PoseBank

Structure = TypeVar("Structure")

_KEPT: WeakKeyDictionary[BodyModel, dict[Hashable, Any]] = WeakKeyDictionary()


def fitted_targets(body: BodyModel, format: str) -> KeypointTargets:
    """The targets of a format that count in a fit."""
    return _kept(body, ("targets", format), lambda: keypoint_targets(body, format).fitted())


def point_kinematics(
    body: BodyModel,
    format: str,
    rows: tuple[int, ...],
    *,
    moving_joints: tuple[int, ...],
    num_shape: int,
    num_expression: int,
) -> PointKinematics:
    """Kinematics of some of the fitted targets of a format; building them costs more than a step of a fit."""

    def build() -> PointKinematics:
        return PointKinematics.build(
            body,
            fitted_targets(body, format).points.select(torch.tensor(rows, device=body.device)),
            moving_joints=moving_joints,
            num_shape=num_shape,
            num_expression=num_expression,
        )

    return _kept(body, ("kinematics", format, rows, moving_joints, num_shape, num_expression), build)


def start_bank(body: BodyModel, format: str, rows: tuple[int, ...], *, num_turns: int) -> StartBank:
    """Poses of the bank seen from all sides at some of the fitted targets of a format."""

    def build() -> StartBank:
        poses = PoseBank.learnt().rotations.to(body.template)
        rotations = torch.eye(3, dtype=body.dtype, device=body.device).repeat(len(poses), body.num_joints, 1, 1)
        rotations[:, : poses.shape[1]] = poses
        posed = body.with_shape().with_pose(rotations)
        targets = fitted_targets(body, format).points.select(torch.tensor(rows, device=body.device))
        return StartBank.of_points(poses, posed.points(targets) - posed.joints[:, :1], num_turns)

    return _kept(body, ("bank", format, rows, num_turns), build)


def _kept(body: BodyModel, key: Hashable, build: Callable[[], Structure]) -> Structure:
    """The structure of that key; built where it is not at hand. Nothing kept may refer to the body itself."""
    kept = _KEPT.setdefault(body, {})
    if key not in kept:
        with torch.inference_mode(False), torch.no_grad():
            kept[key] = build()
    structure: Structure = kept[key]
    return structure
