"""What a keypoint detector does wrong: a model of its noise, its misses, its mix-ups and its confidence.

Works on the canonical keypoints (see keypoints/canonical.py), all people of a batch at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitruvian.keypoints.canonical import canonical_format
from vitruvian.tensors import BatchRecord, TensorRecord

Draw = Callable[..., Tensor]
"""Uniform draws of a shape for each person: `rand(*shape)` is `(person, *shape)`."""

_NOISE_OF_PLACE = {
    "left_hip": 1.5, "right_hip": 1.5, "hip_center": 1.5, "left_shoulder": 1.1, "right_shoulder": 1.1,
    "nose": 0.5, "left_eye": 0.5, "right_eye": 0.5, "left_ear": 0.7, "right_ear": 0.7,
}  # fmt: skip
_DEFINITION_SPREAD_M = {
    "nose": 0.007, "left_eye": 0.006, "right_eye": 0.006, "left_ear": 0.015, "right_ear": 0.015, "head_top": 0.025,
    "upper_neck": 0.02, "shoulder_center": 0.01, "hip_center": 0.01,
}  # fmt: skip
_BODY_SPREAD_M, _HAND_SPREAD_M, _FACE_SPREAD_M = 0.011, 0.0025, 0.003
_LEFT_LEG = "left_knee left_ankle left_big_toe left_small_toe left_heel"
_LEFT_ARM = "left_elbow left_wrist"
_HEAD = "nose left_eye right_eye left_ear right_ear"
_FEET = "left_big_toe left_small_toe left_heel right_big_toe right_small_toe right_heel"


@dataclass(frozen=True)
class ErrorModel:
    """Probabilities and sizes of the errors; lengths are shares of the height of the standing person in the picture."""

    noise_low: float = 0.0015
    """Smallest standard deviation of the noise of a picture, drawn log-uniform up to `noise_high`."""
    noise_high: float = 0.012
    outliers: float = 0.006
    """Share of points that lie ten times as far off."""
    missing: float = 0.04
    """Mean share of points that are missed at random."""
    occluders: float = 0.3
    """Probability that boxes cover parts of the person."""
    lost_limbs: float = 0.12
    """Probability that whole limbs are missing."""
    lost_hand: float = 0.35
    """Probability that a hand is not seen at all."""
    lost_face: float = 0.35
    """Probability that the landmarks of the face are not seen at all."""
    lost_feet: float = 0.2
    """Probability that the points of the feet are missing, as in sets without them."""
    lost_head_points: float = 0.6
    """Probability that head top and upper neck are missing, which few sets have."""
    swap_limb: float = 0.03
    """Probability that left and right are exchanged, for legs and for arms."""
    swap_person: float = 0.02
    """Probability that left and right of the whole person are exchanged, half of the time without the head."""
    guessed_faces: float = 0.4
    """Probability that nose, eyes and ears are also given, rather surely, where the head hides them."""
    ghosts: float = 0.03
    """Probability that points of one limb belong to a neighbour."""
    junk: float = 0.2
    """Probability that some points that are not seen lie anywhere about the person, with low confidence."""
    guesses: float = 0.25
    """Probability that the detector also guesses points that it cannot see, with low confidence."""
    no_confidence: float = 0.15
    """Probability that all confidences are one."""


EXACT_DETECTOR = ErrorModel(
    noise_low=0.0, noise_high=0.0, outliers=0.0, missing=0.0, occluders=0.0, lost_limbs=0.0, lost_hand=0.0,
    lost_face=0.0, lost_feet=0.0, lost_head_points=0.0, swap_limb=0.0,
    swap_person=0.0, guessed_faces=0.0, ghosts=0.0, junk=0.0, guesses=0.0, no_confidence=0.0,
)  # fmt: skip
"""No error but what lies outside the frame or on the far side of the head."""


@dataclass(frozen=True, eq=False)
class Detections(BatchRecord):
    """Detected positions in pixels, confidences, and which points the detector could truly see."""

    positions: Float[Tensor, "batch point 2"]
    confidence: Float[Tensor, "batch point"]
    visible: Bool[Tensor, "batch point"]


@dataclass(frozen=True, eq=False)
class _Tables(TensorRecord):
    """Rows and constants of the canonical keypoints that the error model needs."""

    noise: Float[Tensor, "point"]
    spread_m: Float[Tensor, "point"]
    flip: Tensor
    legs: Bool[Tensor, "point"]
    arms: Bool[Tensor, "point"]
    body: Bool[Tensor, "point"]
    limbs: Bool[Tensor, "limb point"]
    left_hand: Bool[Tensor, "point"]
    right_hand: Bool[Tensor, "point"]
    face: Bool[Tensor, "point"]
    head: Bool[Tensor, "point"]
    """Nose, eyes and ears."""
    feet: Bool[Tensor, "point"]
    head_points: Bool[Tensor, "point"]
    hip_center: int


@cache
def _tables() -> _Tables:
    fmt = canonical_format()
    count = len(fmt)

    def rows(text: str) -> Tensor:
        mask = torch.zeros(count, dtype=torch.bool)
        mask[[fmt.index(name) for name in text.split()]] = True
        return mask

    def group(name: str) -> Tensor:
        mask = torch.zeros(count, dtype=torch.bool)
        mask[list(fmt.groups[name])] = True
        return mask

    noise, spread = torch.ones(count), torch.full((count,), _BODY_SPREAD_M)
    hands = group("left_hand") | group("right_hand")
    noise[hands], noise[group("face")] = 0.5, 0.3
    spread[hands], spread[group("face")] = _HAND_SPREAD_M, _FACE_SPREAD_M
    for row, place in enumerate(fmt.places):
        noise[row] = _NOISE_OF_PLACE.get(place, float(noise[row]))
        spread[row] = _DEFINITION_SPREAD_M.get(place, float(spread[row]))
    flip = torch.tensor(fmt.flip)
    left_leg, left_arm = rows(_LEFT_LEG), rows(_LEFT_ARM)
    right_leg, right_arm = left_leg[flip], left_arm[flip]
    limbs = torch.stack(
        (
            left_leg, right_leg, left_leg | right_leg, left_arm | group("left_hand"), right_arm | group("right_hand"),
            left_leg | right_leg | rows("left_hip right_hip hip_center"),
        )
    )  # fmt: skip
    return _Tables(
        noise=noise,
        spread_m=spread,
        flip=flip,
        legs=left_leg | right_leg,
        arms=left_arm | right_arm | hands,
        body=group("body"),
        limbs=limbs,
        left_hand=group("left_hand"),
        right_hand=group("right_hand"),
        face=group("face"),
        head=rows(_HEAD),
        feet=rows(_FEET),
        head_points=rows("head_top upper_neck"),
        hip_center=fmt.index("hip_center"),
    )


def redefine_points(
    points: Float[Tensor, "batch point 3"],
    up: Float[Tensor, "batch 3"],
    generator: torch.Generator,
) -> Float[Tensor, "batch point 3"]:
    """Move points within what detectors mean by their names: wider and higher hips, other shoulders, ears and so on.

    Args:
        points: canonical points on the body, metres.
        up: unit vector from the pelvis towards the chest.
        generator: source of the per-person draws.
    """
    fmt, tables = canonical_format(), _tables()
    batch = points.shape[0]

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(batch, 1, 1, generator=generator) * (high - low) + low

    moved = points + torch.randn(points.shape, generator=generator) * tables.spread_m[:, None]
    for names, wider, higher in (
        (("left_hip", "right_hip"), uniform(-0.1, 0.9), uniform(-0.02, 0.06)),
        (("left_shoulder", "right_shoulder"), uniform(-0.15, 0.1), uniform(-0.03, 0.03)),
    ):
        rows = [fmt.index(name) for name in names]
        pair = moved[:, rows]
        center = pair.mean(1, keepdim=True)
        moved[:, rows] = pair + wider * (pair - center) + higher * up[:, None]
        middle = fmt.index("hip_center" if "left_hip" in names else "shoulder_center")
        moved[:, middle] += moved[:, rows].mean(1) - points[:, middle]
    return moved


def detect(
    pixels: Float[Tensor, "batch point 2"],
    *,
    facing_away: Bool[Tensor, "batch point"],
    person_px: Float[Tensor, "batch"],
    image_size: Float[Tensor, "batch 2"],
    model: ErrorModel,
    generator: torch.Generator,
) -> Detections:
    """Detections of exactly projected points.

    Args:
        pixels: true positions.
        facing_away: points that their own body hides (the face from behind).
        person_px: height in pixels that the standing person would have.
        image_size: width and height.
        model: sizes of the errors.
        generator: source of all draws.
    """
    tables = _tables()
    batch, count = pixels.shape[:2]

    def rand(*shape: int) -> Tensor:
        return torch.rand(batch, *shape, generator=generator)

    inside = ((pixels >= 0) & (pixels <= image_size[:, None])).all(-1)
    covered = ~inside | _occluded(pixels, model, generator)
    guessed = _guessed_faces(facing_away, model, rand) & ~covered
    hidden = covered | (facing_away & ~guessed)
    absent = _absent(model, rand)
    guessing = rand(1) < model.guesses
    low, high = model.noise_low, model.noise_high
    level = low * (high / low) ** rand(1) if low > 0 else torch.zeros(batch, 1)
    quality = torch.exp(0.5 * torch.randn(batch, count, generator=generator))
    share = level * tables.noise * quality * torch.where(hidden, 5.0, torch.where(guessed, 2.0, 1.0))
    sigma = person_px[:, None] * share + (0.2 + 0.6 * rand(1)) * (low > 0)
    outlier = rand(count) < model.outliers
    noise = torch.randn(batch, count, 2, generator=generator)
    positions = pixels + noise * (sigma * torch.where(outlier, 10.0, 1.0))[..., None]
    confidence = _confidence(sigma / person_px[:, None], outlier, hidden, model, generator)
    sure = (confidence >= 1).all(-1, keepdim=True)
    confidence = torch.where(guessed & ~sure, 0.4 + 0.55 * rand(count), confidence)
    positions, ghost = _ghosts(positions, person_px, model, rand)

    missed = rand(count) < rand(1) * 2 * model.missing
    positions, confidence, swapped = _swap_sides(positions, confidence, model, rand)
    unseen = torch.where(swapped, hidden[:, tables.flip], hidden)
    gone = absent | missed | (unseen & ~guessing)
    confidence = torch.where(gone, 0.0, confidence)
    positions = torch.where(gone[..., None], 0.0, positions)
    positions, confidence = _junk(positions, confidence, model, rand)
    return Detections(positions, confidence, ~unseen & ~guessed & ~ghost & ~absent & ~missed)


def _guessed_faces(facing_away: Tensor, model: ErrorModel, rand: Draw) -> Bool[Tensor, "batch point"]:
    """Points on the far side of the head that the detector gives all the same, as sets of 17 points and MediaPipe do.

    Nose, eyes and ears; in some people the landmarks of the face too, and in some only a part of them.
    """
    tables = _tables()
    rows = tables.head | (tables.face & (rand(1) < 0.3))
    kept = rand(facing_away.shape[1]) < torch.where(rand(1) < 0.7, 1.0, 0.6)
    return facing_away & rows & kept & (rand(1) < model.guessed_faces)


def _ghosts(
    positions: Tensor, person_px: Tensor, model: ErrorModel, rand: Draw
) -> tuple[Tensor, Bool[Tensor, "batch point"]]:
    """In some people, points of one limb that belong to somebody of the same size beside them."""
    tables = _tables()
    batch = len(positions)
    chosen = tables.limbs[(rand(1)[:, 0] * len(tables.limbs)).long()]
    ghost = chosen & (rand(positions.shape[1]) < 0.7) & (rand(1) < model.ghosts)
    hip = positions[:, tables.hip_center : tables.hip_center + 1]
    other = (positions - hip).roll(1, dims=0) * (person_px / person_px.roll(1)).view(batch, 1, 1)
    side = (0.2 + 0.4 * rand(1)) * torch.where(rand(1) < 0.5, -1.0, 1.0) * person_px[:, None]
    beside = torch.stack((side, 0.1 * (rand(1) - 0.5) * person_px[:, None]), dim=-1)
    return torch.where(ghost[..., None], hip + other + beside, positions), ghost


def _junk(positions: Tensor, confidence: Tensor, model: ErrorModel, rand: Draw) -> tuple[Tensor, Tensor]:
    """In some people, a few of the points that are not seen, anywhere about the person, with low confidence."""
    seen = (confidence > 0)[..., None]
    low = torch.where(seen, positions, torch.inf).amin(1, keepdim=True)
    high = torch.where(seen, positions, -torch.inf).amax(1, keepdim=True)
    anywhere = low + (rand(positions.shape[1], 2) * 1.6 - 0.3) * (high - low)
    junk = ~seen[..., 0] & seen.any(1) & (rand(positions.shape[1]) < 0.3) & (rand(1) < model.junk)
    return torch.where(junk[..., None], anywhere, positions), torch.where(junk, 0.02 + 0.28 * rand(1), confidence)


def _occluded(pixels: Tensor, model: ErrorModel, generator: torch.Generator) -> Bool[Tensor, "batch point"]:
    """Points under one or two boxes, placed somewhere on the person."""
    batch = pixels.shape[0]
    low, high = pixels.amin(1), pixels.amax(1)
    hidden = torch.zeros(pixels.shape[:2], dtype=torch.bool)
    for probability in (model.occluders, model.occluders / 3):
        draw = torch.rand(batch, 5, generator=generator)
        center = low + draw[:, :2] * (high - low)
        half = (high - low) * (0.08 + 0.3 * draw[:, 2:4])
        inside = ((pixels - center[:, None]).abs() < half[:, None]).all(-1)
        hidden |= inside & (draw[:, 4:] < probability)
    return hidden


def _absent(model: ErrorModel, rand: Draw) -> Bool[Tensor, "batch point"]:
    """Points that are not there for reasons other than the scene: limbs, hands, face, feet, points of other sets."""
    tables = _tables()
    absent = (rand(1) < model.lost_hand) & tables.left_hand
    absent |= (rand(1) < model.lost_hand) & tables.right_hand
    absent |= (rand(1) < model.lost_face) & tables.face
    absent |= (rand(1) < model.lost_feet) & tables.feet
    absent |= (rand(1) < model.lost_head_points) & tables.head_points
    lost = (rand(len(tables.limbs)) < 0.4) & (rand(1) < model.lost_limbs)
    return absent | (lost[..., None] & tables.limbs).any(1)


def _confidence(
    share: Tensor, outlier: Tensor, hidden: Tensor, model: ErrorModel, generator: torch.Generator
) -> Float[Tensor, "batch point"]:
    """Confidences that fall with the true spread of each point, by a curve that differs between detectors."""
    batch, count = share.shape
    draw = torch.rand(batch, 2, generator=generator)
    noise = torch.randn(batch, count, generator=generator)
    logit = 2.0 - 0.8 * torch.log(share.clamp_min(1e-4) / 0.005) + 0.5 * noise - 1.0 * outlier - 1.0 * hidden
    confidence = torch.sigmoid(logit) ** torch.exp(2 * draw[:, :1] - 1)
    plain = draw[:, 1:] < model.no_confidence
    return torch.where(plain, 1.0, confidence.clamp(0.02, 1.0))


def _swap_sides(positions: Tensor, confidence: Tensor, model: ErrorModel, rand: Draw) -> tuple[Tensor, Tensor, Tensor]:
    """Exchange left and right of the legs, of the arms, or of the whole body, in some people."""
    tables = _tables()
    swapped = (rand(1) < model.swap_limb) & tables.legs
    swapped = swapped | ((rand(1) < model.swap_limb) & tables.arms)
    whole = tables.body | tables.arms
    whole = whole & ~(tables.head & (rand(1) < 0.5))
    swapped = swapped ^ ((rand(1) < model.swap_person) & whole)
    positions = torch.where(swapped[..., None], positions[:, tables.flip], positions)
    return positions, torch.where(swapped, confidence[:, tables.flip], confidence), swapped
