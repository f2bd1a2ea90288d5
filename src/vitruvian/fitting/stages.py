"""Staged schedules of the fit, as data: weights, which keypoints count, and how many starts survive each stage."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One stage of the fit. A weight multiplies a residual, so the objective holds its square.

    Attributes:
        name: for logs and reports.
        pose: weight of the prior of the body pose (of its latent vector, for latent pose spaces).
        hands: weight of the prior of the finger components.
        shape, expression: weights of the coefficients.
        jaw: weight of the jaw prior.
        cues: weight of depth cues, as a multiple of that of the pose prior.
        extra: weight of the further pose priors (joint limits, bending).
        hand_keypoints, face_keypoints: γ, how much keypoints of hands and face count; with 0 these parts rest.
        robust_scale: scale of Geman-McClure in units of the expected error of a keypoint.
        iterations: trial steps at most.
        articulated: False: only global orientation and translation move.
        keep: how many of the starts of each person go on after this stage; 0: all.
    """

    name: str
    pose: float = 1.0
    hands: float = 1.0
    shape: float = 1.0
    expression: float = 1.0
    jaw: float = 1.0
    cues: float = 1.0
    extra: float = 1.0
    hand_keypoints: float = 0.0
    face_keypoints: float = 0.0
    robust_scale: float = 100.0
    iterations: int = 30
    articulated: bool = True
    keep: int = 0


def _paper_stage(name: str, pose: float, shape: float, jaw: float, hands: float, face: float, keep: int = 0) -> Stage:
    return Stage(
        name,
        pose=pose,
        hands=pose,
        shape=shape,
        expression=shape,
        jaw=jaw,
        extra=(3.17 * pose) ** 0.5,
        hand_keypoints=hands,
        face_keypoints=face,
        iterations=30,
        keep=keep,
    )


PAPER_SCHEDULE = (
    Stage("orientation", robust_scale=100.0, articulated=False, iterations=10),
    _paper_stage("1", 404.0, 100.0, 4040.0, 0.0, 0.0),
    _paper_stage("2", 404.0, 50.0, 4040.0, 0.0, 0.0, keep=1),
    _paper_stage("3", 57.4, 10.0, 574.0, 0.0, 0.0),
    _paper_stage("4", 4.78, 5.0, 47.8, 0.1, 0.0),
    _paper_stage("5", 4.78, 5.0, 47.8, 2.0, 2.0),
)
"""The published weights (SMPLify-X); they expect an error unit of image height / 1000, see `FitConfig.paper`."""

DEFAULT_SCHEDULE = (
    Stage("orientation", robust_scale=100.0, articulated=False, iterations=5),
    Stage("trunk", pose=2.0, shape=4.0, robust_scale=40.0, iterations=6, keep=3),
    Stage("limbs", pose=1.5, shape=2.0, robust_scale=20.0, iterations=8, keep=2),
    Stage("hands", pose=1.0, hands=2.0, robust_scale=15.0, hand_keypoints=0.3, iterations=6, keep=1),
    Stage("full", pose=1.0, robust_scale=10.0, hand_keypoints=1.0, face_keypoints=1.0, iterations=15),
)
"""Our own schedule, in units of the expected error of the keypoints: a weight of 1 is a prior at its own scale."""
