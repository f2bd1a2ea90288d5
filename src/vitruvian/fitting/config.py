"""Settings of a fit."""

from dataclasses import dataclass, field

from vitruvian.fitting.levenberg_marquardt import LevenbergMarquardt
from vitruvian.fitting.solution import Solver
from vitruvian.fitting.stages import DEFAULT_SCHEDULE, PAPER_SCHEDULE, Stage


@dataclass(frozen=True)
class FitConfig:
    """How people are fitted.

    Attributes:
        schedule: the stages.
        solver: Levenberg-Marquardt or L-BFGS. Levenberg-Marquardt takes as many steps as the stage says unless it is
            given a number of its own; L-BFGS has its own limit.
        num_shape, num_expression: coefficients that are fitted.
        hand_components: principal components per hand.
        starts: poses of the bank that are tried, those that look most like the keypoints.
        starts_apart_m: how much they differ at least, mean distance of the points.
        bank_turns: turns about the vertical in which the poses of the bank are compared.
        turns: turns about the vertical that are tried where there is no bank (hands, heads) or `starts` is 0.
        sigma_px: expected error of a keypoint in pixels, whatever the size of the person.
        sigma_share: expected error of a keypoint as a share of the size of the person in the picture, added to it.
        hip_weight, shoulder_weight: factors on keypoints of hips and shoulders, which detectors place differently.
        min_confidence: keypoints of lower confidence are not used.
        min_keypoints: people with fewer usable keypoints of the body are not fitted.
        upright_seen, upright_hidden: weight of standing upright where the hips are seen, and where they are not.
        level: how much starts favour people who stand upright in the picture; 0 treats all turns of it alike.
        cue_spread: factor on the expected errors of directions of bones that pictures tell.
        chunk: people fitted at the same time; bounds the memory.
    """

    schedule: tuple[Stage, ...] = DEFAULT_SCHEDULE
    solver: Solver = field(default_factory=LevenbergMarquardt)
    num_shape: int = 10
    num_expression: int = 10
    hand_components: int = 12
    starts: int = 4
    starts_apart_m: float = 0.1
    bank_turns: int = 16
    turns: int = 4
    sigma_px: float = 1.0
    sigma_share: float = 0.004
    hip_weight: float = 1.0
    shoulder_weight: float = 1.0
    min_confidence: float = 0.1
    min_keypoints: int = 3
    upright_seen: float = 2.0
    upright_hidden: float = 8.0
    level: float = 1.0
    cue_spread: float = 1.0
    chunk: int = 256

    @staticmethod
    def paper() -> "FitConfig":
        """The published schedule: errors in units of a thousandth of the image height, two opposite turns."""
        return FitConfig(
            schedule=PAPER_SCHEDULE,
            starts=0,
            turns=2,
            sigma_px=0.0,
            sigma_share=0.0,
            upright_seen=0.0,
            upright_hidden=0.0,
        )
