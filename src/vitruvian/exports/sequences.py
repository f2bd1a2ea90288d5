"""One person's motion out of fitted people: which rows belong to it, in which order, and which frames are missing."""

import math
from collections.abc import Sequence

from vitruvian.errors import InputError
from vitruvian.fits import Fits
from vitruvian.keypoints.people import NO_TRACK


def rows_of_track(fits: Fits, track: int) -> Fits:
    """The rows of one person who was followed through a sequence.

    Raises:
        InputError: nobody has this track.
    """
    rows = [row for row, number in enumerate(fits.track) if number == track]
    if track == NO_TRACK or not rows:
        raise InputError("there is no such track", seen=track, expected=_tracks(fits))
    return fits[rows]


def one_motion(fits: Fits) -> Fits:
    """The usable rows as the frames of one motion, ordered by frame.

    People of a sequence are told apart by their track. Without tracks each picture must show one person; pictures
    without frame numbers follow each other in the order given.

    Raises:
        InputError: no row is usable, or the rows are of several people, who are not one motion.
    """
    usable = fits[fits.usable]
    if not len(usable):
        raise InputError("no frames to write", seen=", ".join(sorted(set(fits.status))) or "no people")
    if len(set(usable.track)) > 1:
        raise InputError(
            "a motion file holds the motion of one person",
            seen=f"rows of {len(set(usable.track))} people",
            expected=_tracks(usable),
            hint="choose one: vitruvian export FITS FILE --track K, or export(fits, path, track=K)",
        )
    moments: Sequence[object] = usable.frame if _has_frames(usable) else usable.picture
    different = len(set(moments))
    if different != len(moments):
        raise InputError(
            "a motion file holds the motion of one person",
            seen=f"{len(moments)} people at {different} moment{'s' if different > 1 else ''}",
            hint="choose the rows of one: vitruvian export FITS FILE --rows 0 2 4, or export(fits[rows], path)",
        )
    return usable[sorted(range(len(usable)), key=lambda row: usable.frame[row])]


def missing_frames(motion: Fits) -> tuple[int, ...]:
    """Frames between the first and the last that a motion lacks: there the person was not seen, or not fitted."""
    present = set(motion.frame)
    return tuple(frame for frame in range(min(present), max(present) + 1) if frame not in present) if present else ()


def require_frame_rate(frame_rate: float) -> None:
    """Raise `InputError` unless the frames per second are a positive number."""
    if not (math.isfinite(frame_rate) and frame_rate > 0):
        raise InputError("no possible frame rate", seen=frame_rate, expected="frames per second above 0")


def _has_frames(fits: Fits) -> bool:
    return len(set(fits.frame)) > 1 or fits.track[0] != NO_TRACK


def _tracks(fits: Fits) -> str:
    numbers = sorted({track for track in fits.track if track != NO_TRACK})
    if not numbers:
        return "tracks, but nobody was followed through these pictures"
    return f"one of the tracks {', '.join(map(str, numbers))}"
