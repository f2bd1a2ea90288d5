"""Whether a fit can be trusted, from what can be seen of it: good, doubtful or bad, with the reasons in words."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.fits import UNUSABLE, Fits
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.formats import GROUPS, get_format, place_of
from vitruvian.keypoints.people import People
from vitruvian.keypoints.places import mirror_place
from vitruvian.keypoints.targets import KeypointTargets, keypoint_targets
from vitruvian.tensors import BatchRecord

GOOD, DOUBTFUL, BAD = "good", "doubtful", "bad"
LIMB_PLACES = tuple(
    f"{side}_{place}" for place in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle") for side in ("left", "right")
)
FACE_PLACES = ("nose", "left_eye", "right_eye")
_FAR_SHARE = 0.06
"""A sure keypoint farther from its target than this share of the person's size is an outlier."""
_LEAST_NOTICED_PX = 2.0
"""Distances below it are those of pixels, not of poses, however small the person."""
_SURE = 0.3


@dataclass(frozen=True, eq=False)
class Signs(BatchRecord):
    """What can be seen of each fit without the truth.

    Attributes:
        misfit_body, misfit_hands, misfit_face: mean distance of the seen keypoints of a part from their targets, as a
            share of the person's size in the picture; zero where none are seen.
        outliers: share of the sure keypoints of the body that lie far from their targets.
        distance_m: of the pelvis from the camera, along its axis; negative behind it.
        stature_m: height of the body in its rest pose; NaN for hands and heads alone.
        shape: largest shape coefficient, in standard deviations of people.
        exchanged: misfit of the body divided by that with left and right of all keypoints exchanged.
        turned_away: how far the face turns away from the camera (cosine) although it is surely seen; else -1.
        limbs_seen: how many of the twelve joints of the limbs are seen.
        larger_than_picture: largest side of the person over that of the picture.
    """

    misfit_body: Float[Tensor, "person"]
    misfit_hands: Float[Tensor, "person"]
    misfit_face: Float[Tensor, "person"]
    outliers: Float[Tensor, "person"]
    distance_m: Float[Tensor, "person"]
    stature_m: Float[Tensor, "person"]
    shape: Float[Tensor, "person"]
    exchanged: Float[Tensor, "person"]
    turned_away: Float[Tensor, "person"]
    limbs_seen: Float[Tensor, "person"]
    larger_than_picture: Float[Tensor, "person"]


@dataclass(frozen=True)
class Rule:
    """From which value on a sign makes a fit doubtful, and from which bad (None: never); `words` say what it means.

    With `below`, small values are the bad ones.
    """

    sign: str
    doubtful: float | None
    bad: float | None
    words: str
    below: bool = False
    show: Callable[[float], str] = "{:.2f}".format

    def level(self, values: Float[Tensor, "person"]) -> Float[Tensor, "person"]:
        """0 where the sign says nothing, 1 doubtful, 2 bad; NaN says nothing."""
        sign = -1.0 if self.below else 1.0
        level = torch.zeros_like(values)
        for rank, limit in ((1.0, self.doubtful), (2.0, self.bad)):
            if limit is not None:
                level = torch.where(sign * values > sign * limit, rank, level)
        return level


def _percent(value: float) -> str:
    return f"{100 * value:.1f} % of the person's size"


def _metres(value: float) -> str:
    return f"{value:,.2f} m"


RULES = (
    Rule("misfit_body", 0.03, 0.08, "keypoints of the body lie {} from the fit", show=_percent),
    Rule("misfit_hands", 0.04, None, "keypoints of the hands lie {} from the fit", show=_percent),
    Rule("misfit_face", 0.04, None, "keypoints of the face lie {} from the fit", show=_percent),
    Rule("outliers", 0.2, 0.5, "{} of the sure keypoints lie far from the fit", show="{:.0%}".format),
    Rule("distance_m", 60.0, 500.0, "the person would stand {} from the camera", show=_metres),
    Rule("distance_m", 0.25, 0.1, "the person would stand {} from the camera", below=True, show=_metres),
    Rule("stature_m", 2.1, 2.5, "the body would be {} tall", show=_metres),
    Rule("stature_m", 1.35, 0.9, "the body would be {} tall", below=True, show=_metres),
    Rule("shape", 3.0, 6.0, "a shape coefficient of {} standard deviations", show="{:.1f}".format),
    Rule("exchanged", 1.5, 3.0, "left and right of the keypoints seem to be exchanged", show=str),
    Rule("turned_away", 0.5, None, "a face is seen, but the fit looks away", show=str),
    Rule("limbs_seen", 7.0, None, "of the limbs only {} of 12 joints are seen", below=True, show="{:.0f}".format),
    Rule("larger_than_picture", 2.0, None, "the person is {} times as large as the picture: is the image size right?",
         show="{:.1f}".format),
)  # fmt: skip
"""Limits chosen on synthetic people of the validation subjects (`benchmarks/verdicts.py`)."""


@dataclass(frozen=True)
class Judgement:
    """Verdicts and their reasons, one a person."""

    verdict: tuple[str, ...]
    reason: tuple[str, ...]


def judged(
    fits: Fits, body: BodyModel, people: People, *, min_confidence: float, notes: tuple[str, ...] | None = None
) -> Fits:
    """The same fits with `verdict` and `reason`; row i of `people` is row i of `fits`.

    `notes` are doubts that arose while fitting, "" for none; they make a good fit doubtful.
    """
    if not len(fits):
        return fits
    found = judge(signs_of(body, fits.params, people, min_confidence=min_confidence), fits.status)
    if notes is not None:
        found = _with_notes(found, notes)
    return replace(fits, verdict=found.verdict, reason=found.reason)


def _with_notes(found: Judgement, notes: tuple[str, ...]) -> Judgement:
    verdicts = [
        DOUBTFUL if note and verdict == GOOD else verdict for verdict, note in zip(found.verdict, notes, strict=True)
    ]
    reasons = ["; ".join(part for part in parts if part) for parts in zip(found.reason, notes, strict=True)]
    return Judgement(tuple(verdicts), tuple(reasons))


def judge(signs: Signs, status: tuple[str, ...], *, rules: tuple[Rule, ...] = RULES) -> Judgement:
    """The worst that any sign says of each person, and what every sign that speaks says."""
    levels = torch.stack([rule.level(getattr(signs, rule.sign)) for rule in rules])
    verdicts, reasons = [], []
    for row, how in enumerate(status):
        if how in UNUSABLE:
            verdicts.append(BAD)
            reasons.append("too few sure keypoints" if how == "no_evidence" else "the computation broke down")
            continue
        spoken = [rule for rule, level in zip(rules, levels[:, row].tolist(), strict=True) if level]
        verdicts.append((GOOD, DOUBTFUL, BAD)[int(levels[:, row].max())])
        reasons.append(
            "; ".join(rule.words.format(rule.show(float(getattr(signs, rule.sign)[row]))) for rule in spoken)
        )
    return Judgement(tuple(verdicts), tuple(reasons))


@torch.no_grad()
def signs_of(body: BodyModel, params: BodyParams, people: People, *, min_confidence: float) -> Signs:
    """The signs of some fits; everything is measured on the bodies that are returned."""
    params = params.to(dtype=body.dtype, device=body.device)
    targets = keypoint_targets(body, people.format).fitted()
    keypoints = people.keypoints.sanitized().to(dtype=body.dtype, device=body.device)
    camera = people.known_camera.to(dtype=body.dtype, device=body.device)
    posed = body.with_shape(params.betas, params.expression).with_pose(params.rotations, params.transl)
    points = posed.points(targets.points)
    confidence = keypoints.confidence[:, targets.keypoint]
    weight = torch.where(confidence >= min_confidence, confidence, 0.0)
    size = _person_size(keypoints.positions, keypoints.confidence, min_confidence)
    distance = _distances(camera, points, keypoints.positions[:, targets.keypoint])
    group = {name: targets.group == GROUPS.index(name) for name in GROUPS}
    main = group["body"] if bool(group["body"].any()) else torch.ones_like(group["body"])
    misfit = _share(distance, weight * main, size)
    sure = (weight >= _SURE) & main
    far = sure & (distance > torch.maximum(_FAR_SHARE * size, size.new_tensor(2 * _LEAST_NOTICED_PX))[:, None])
    box = people.known_camera.image_size.to(size).amax(-1)
    return Signs(
        misfit_body=misfit,
        misfit_hands=_share(distance, weight * (group["left_hand"] | group["right_hand"]), size),
        misfit_face=_share(distance, weight * group["face"], size),
        outliers=far.sum(-1) / sure.sum(-1).clamp_min(1),
        distance_m=posed.joints[:, 0, 2],
        stature_m=_stature(body, params),
        shape=params.betas.abs().amax(-1) if params.betas.shape[-1] else torch.zeros_like(size),
        exchanged=_exchanged(camera, points, targets, keypoints.positions, weight * main, misfit, size),
        turned_away=_turned_away(body, posed.world_rotations, posed.joints, targets, weight),
        limbs_seen=_limbs_seen(targets, weight),
        larger_than_picture=size / box.clamp_min(1.0),
    )


def _distances(camera: Camera, points: Tensor, positions: Tensor) -> Float[Tensor, "person point"]:
    return torch.nan_to_num((camera.project(points) - positions).norm(dim=-1), nan=torch.inf)


def _person_size(positions: Tensor, confidence: Tensor, min_confidence: float) -> Float[Tensor, "person"]:
    """Larger side of the box of the seen keypoints, without the most distant twentieth on each side; 1 at least."""
    seen = confidence >= max(min_confidence, 1e-6)
    where = torch.where(seen[..., None], positions, torch.nan)
    low, high = (torch.nanquantile(where, q, dim=1) for q in (0.02, 0.98))
    return torch.nan_to_num((high - low).amax(-1), nan=1.0).clamp_min(1.0)


def _share(distance: Tensor, weight: Tensor, size: Tensor) -> Float[Tensor, "person"]:
    """Mean distance by weight as a share of the size; what pixels alone explain counts as nothing."""
    total = weight.sum(-1)
    mean = (torch.where(weight > 0, distance, 0.0) * weight).sum(-1) / total.clamp_min(1e-9)
    return torch.where((total > 0) & (mean > _LEAST_NOTICED_PX), mean / size, 0.0)


def _exchanged(
    camera: Camera,
    points: Tensor,
    targets: KeypointTargets,
    positions: Tensor,
    weight: Tensor,
    misfit: Tensor,
    size: Tensor,
) -> Float[Tensor, "person"]:
    """How much better the fit explains the keypoints with left and right of the body exchanged."""
    definition = get_format(targets.format)
    rows = [definition.find(mirror_place(place_of(definition.names[k]))) for k in targets.keypoint.tolist()]
    if any(row is None for row in rows):
        return torch.zeros_like(size)
    other = _distances(camera, points, positions[:, [row for row in rows if row is not None]])
    return misfit / _share(other, weight, size).clamp_min(1e-3)


def _turned_away(
    body: BodyModel, world: Tensor, joints: Tensor, targets: KeypointTargets, weight: Tensor
) -> Float[Tensor, "person"]:
    """Cosine between the direction of the face and that away from the camera, where all of nose and eyes are sure."""
    places = [place_of(name) for name in targets.names]
    rows = [places.index(place) for place in FACE_PLACES if place in places]
    if "head" not in body.skeleton.names or len(rows) < len(FACE_PLACES):
        return weight.new_full(weight.shape[:1], -1.0)
    head = body.skeleton.index("head")
    away = torch.nn.functional.normalize(joints[:, head], dim=-1)
    cosine = (world[:, head, :, 2] * away).sum(-1)
    sure: Bool[Tensor, "person"] = (weight[:, rows] >= 2 * _SURE).all(-1)
    return torch.where(sure, cosine, -1.0)


def _limbs_seen(targets: KeypointTargets, weight: Tensor) -> Float[Tensor, "person"]:
    """NaN where the format has none of them: a hand, a face."""
    places = [place_of(name) for name in targets.names]
    rows = [places.index(place) for place in LIMB_PLACES if place in places]
    if not rows:
        return weight.new_full(weight.shape[:1], torch.nan)
    return (weight[:, rows] > 0).sum(-1).to(weight.dtype)


def _stature(body: BodyModel, params: BodyParams) -> Float[Tensor, "person"]:
    """Height of the rest mesh between its highest and lowest vertex of the mean shape."""
    if "pelvis" not in body.skeleton.names:
        return params.betas.new_full(params.betas.shape[:1], torch.nan)
    ends = torch.stack((body.template[:, 1].argmax(), body.template[:, 1].argmin()))
    rest = body.with_shape(params.betas).with_pose().points(ends)
    return rest[:, 0, 1] - rest[:, 1, 1]


def signs_as_columns(signs: Signs) -> dict[str, Any]:
    """The signs by name, for tables."""
    return {f.name: getattr(signs, f.name).tolist() for f in fields(signs)}
