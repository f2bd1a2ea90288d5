"""The one keypoint set that the recovery networks read, and where its points lie on a body."""

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.points import SkinnedPoints
from vitruvian.errors import InputError
from vitruvian.keypoints.formats import KeypointFormat, get_format
from vitruvian.keypoints.targets import keypoint_targets

CANONICAL = "vitruvian82"
"""BODY_25, upper neck and head top, both hands, and 13 points of the face."""


def canonical_format() -> KeypointFormat:
    """The format of the canonical keypoints."""
    return get_format(CANONICAL)


def canonical_points(body: BodyModel) -> SkinnedPoints:
    """The canonical keypoints as points that follow the body without its mesh.

    Raises:
        InputError: a body that lacks some of them (the set needs hands and face landmarks).
    """
    targets = keypoint_targets(body, CANONICAL)
    if len(targets) != len(canonical_format()):
        missing = set(canonical_format().names) - set(targets.names)
        raise InputError("canonical keypoints need a body with hands and face", seen=f"no {', '.join(sorted(missing))}")
    return targets.points
