"""Regress which point of the body each keypoint of MediaPipe shows, from rendered people (`render_people.py`).

A target is a combination Σ w_s X_s, Σ w_s = 1, of named joints, vertices and landmarks near the keypoint. For a pixel
(u, v) seen by a camera of focal length f and centre c, the residual x − z (u − c)/f is linear in w: metres across the
line of sight. The weights minimise its robust sum (Geman-McClure by reweighting) with a ridge towards the rule of the
place; left and right are pooled, so the two sides mirror each other.

Keypoints as COCO's annotators click them (and OpenPose finds them) follow from the measured differences to MediaPipe
(`measure_coco_definition.py`): hips and shoulders are shifted along the trunk and widened, the rest are the same.

    python scripts/fit_keypoint_targets.py --people people.npz --coco coco.json \\
        --out src/vitruvian/resources/keypoints/open_rules.json
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from jaxtyping import Float

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.open_body import open_body
from vitruvian.keypoints.formats import get_format
from vitruvian.keypoints.places import FINGERS, SIDES, mirror_place
from vitruvian.keypoints.target_rules import Rule, place_rule
from vitruvian.keypoints.targets import resolve_rule

FORMAT = get_format("mediapipe-holistic")
ROBUST_M = 0.03
RIDGE_M = 0.06
"""A weight that deviates by one costs like an error of this many metres in one picture out of a hundred."""
MIN_CONFIDENCE = 0.5
TEST_SHARE = 0.25
MIN_GAIN = 0.9
"""A fitted rule is kept where its error on held-out pictures is below this share of the plain rule's."""
MIN_WEIGHT = 0.015
COCO_SHIFTED = ("shoulder", "hip")
COCO_SAME = ("elbow", "wrist", "knee", "ankle", "heel", "big_toe")

# Own side first; SIDE and OTHER are replaced. Finger joints beyond the knuckles keep their plain rules: what the hand
# network makes of bent fingers is a bias towards open hands, and no other point of the finger.
SOURCES: Mapping[str, tuple[str, ...]] = {
    "SIDE_shoulder": ("SIDE_shoulder", "SIDE_collar", "SIDE_elbow", "OTHER_shoulder", "neck", "spine3"),
    "SIDE_elbow": ("SIDE_elbow", "SIDE_shoulder", "SIDE_wrist"),
    "SIDE_wrist": ("SIDE_wrist", "SIDE_elbow", "SIDE_index1", "SIDE_pinky1"),
    "SIDE_hip": ("SIDE_hip", "OTHER_hip", "SIDE_knee", "spine1", "spine2", "pelvis"),
    "SIDE_knee": ("SIDE_knee", "SIDE_hip", "SIDE_ankle"),
    "SIDE_ankle": ("SIDE_ankle", "SIDE_knee", "SIDE_foot", "vertex:SIDE_heel"),
    "SIDE_heel": ("vertex:SIDE_heel", "SIDE_ankle", "SIDE_foot", "vertex:SIDE_big_toe"),
    "SIDE_big_toe": ("vertex:SIDE_big_toe", "vertex:SIDE_small_toe", "SIDE_foot", "SIDE_ankle"),
    "SIDE_pinky_knuckle": ("SIDE_pinky1", "SIDE_wrist", "SIDE_ring1", "SIDE_pinky2"),
    "SIDE_index_knuckle": ("SIDE_index1", "SIDE_wrist", "SIDE_middle1", "SIDE_index2"),
    "SIDE_thumb_knuckle": ("SIDE_thumb2", "SIDE_wrist", "SIDE_thumb3", "SIDE_index1"),
    "SIDE_ear": ("vertex:SIDE_ear", "vertex:OTHER_ear", "vertex:nose", "head", "neck"),
    "SIDE_hand_wrist": ("SIDE_wrist", "SIDE_elbow", "SIDE_index1", "SIDE_pinky1", "SIDE_thumb1"),
    **{f"SIDE_{f}1": (f"SIDE_{f}1", "SIDE_wrist", f"SIDE_{f}2", "SIDE_middle1") for f in FINGERS if f != "middle"},
    "SIDE_middle1": ("SIDE_middle1", "SIDE_wrist", "SIDE_middle2", "SIDE_index1"),
}


@dataclass(frozen=True)
class Arguments:
    """What to learn from."""

    people: tuple[Path, ...]
    """Files of render_people.py."""
    coco: Path
    """File of measure_coco_definition.py."""
    out: Path
    """File to write, .json."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """All pictures with a person: sources in the camera frame, and rays of the keypoints."""

    sources: Mapping[str, Float[np.ndarray, "picture 3"]]
    slopes: Float[np.ndarray, "picture keypoint 2"]
    confidence: Float[np.ndarray, "picture keypoint"]
    px_per_m: Float[np.ndarray, "picture"]


def load_evidence(paths: tuple[Path, ...], names: list[str]) -> Evidence:
    """Where the sources lie on the bodies of the pictures, and pixels as slopes (u − c)/f."""
    body = open_body("neutral")
    parts: list[Float[np.ndarray, "source 3"]] = []
    slopes, confidence, scale = [], [], []
    for path in paths:
        with np.load(path) as stored:
            data = {key: stored[key] for key in stored.files}
        for row in np.flatnonzero(data["found"]):
            parts.append(source_points(body, {key: values[row] for key, values in data.items()}, names))
            keypoints, focal = data["keypoints"][row], data["focal_px"][row]
            slopes.append((keypoints[:, :2] - data["image_size"][row] / 2) / focal)
            confidence.append(keypoints[:, 2])
            scale.append(focal[0] / data["transl"][row, 2])
    points = np.stack(parts)
    sources = {name: points[:, k] for k, name in enumerate(names)}
    return Evidence(sources, np.stack(slopes), np.stack(confidence), np.array(scale))


def source_points(
    body: BodyModel, picture: Mapping[str, np.ndarray], names: list[str]
) -> Float[np.ndarray, "source 3"]:
    """Positions of the named sources on the body of one picture, in the camera frame.

    The picture holds vertices, at rest and posed. A joint is where the model's regressor puts it at rest, carried
    along by its parent bone: so the model may have other joints than the one that was rendered.
    """
    regressor = body.joint_regressor.numpy()
    rest, posed = picture["rest"].astype(np.float64), picture["posed"].astype(np.float64)
    joints = regressor @ rest
    points = []
    for name in names:
        combination = resolve_rule(body, {name: 1.0})
        assert combination is not None, name
        total = np.zeros(3)
        for vertex, weight in combination.vertices:
            total += weight * posed[vertex]
        for joint, weight in combination.joints:
            bone = max(body.skeleton.parents[joint], 0)
            carried = picture["bones"][bone] @ (joints[joint] - picture["rest_joints"][bone]) + picture["joints"][bone]
            total += weight * carried
        points.append(total + picture["transl"])
    return np.stack(points)


def residuals(
    evidence: Evidence, keypoint: str, sources: tuple[str, ...]
) -> tuple[Float[np.ndarray, "picture 2 source"], Float[np.ndarray, "picture"], Float[np.ndarray, "picture"]]:
    """Per source the residual it would have alone, the confidence of the keypoint, and pixels per metre."""
    column = FORMAT.index(keypoint)
    points = np.stack([evidence.sources[source] for source in sources], axis=-1)  # (picture, 3, source)
    slope = evidence.slopes[:, column, :, None]
    return points[:, :2] - slope * points[:, 2:], evidence.confidence[:, column], evidence.px_per_m


def solve(
    rows: Float[np.ndarray, "row 2 source"], weight: Float[np.ndarray, "row"], start: Float[np.ndarray, "source"]
) -> Float[np.ndarray, "source"]:
    """Weights that sum to one and minimise the robust squared residual with a ridge towards `start`."""
    w = start.copy()
    for _ in range(30):
        error = rows @ w
        robust = weight * (ROBUST_M**2 / (ROBUST_M**2 + (error**2).sum(-1))) ** 2
        A = np.einsum("nis,nit,n->st", rows, rows, robust) / max(robust.sum(), 1e-9)
        ridge = RIDGE_M**2 / 100 * np.eye(len(w))
        # Minimise (w0 + d)ᵀ A (w0 + d) + dᵀ R d with Σ d = 0.
        system = np.block([[A + ridge, np.ones((len(w), 1))], [np.ones((1, len(w))), np.zeros((1, 1))]])
        step = np.linalg.solve(system, np.concatenate((-A @ start, [0.0])))[:-1]
        if np.abs(start + step - w).max() < 1e-7:
            break
        w = start + step
    return start + step


def errors_mm(rows: np.ndarray, weight: np.ndarray, px_per_m: np.ndarray, w: np.ndarray) -> dict[str, float]:
    """Median error across the line of sight in millimetres, and in pixels."""
    error = np.linalg.norm(rows @ w, axis=-1)[weight > 0]
    return {
        "median_mm": round(1e3 * float(np.median(error)), 1),
        "median_px": round(float(np.median(error * px_per_m[weight > 0])), 2),
        "p90_mm": round(1e3 * float(np.percentile(error, 90)), 1),
    }


def fit_place(evidence: Evidence, template: str) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """Rules for both sides of one place, and its errors on held-out pictures with the plain rule and the fitted one."""
    stacked = []
    plain = place_rule(template.replace("SIDE", "left"))
    own = tuple(s.replace("SIDE", "left").replace("OTHER", "right") for s in SOURCES[template])
    for side, other in (SIDES, SIDES[::-1]):
        sources = tuple(s.replace("SIDE", side).replace("OTHER", other) for s in SOURCES[template])
        stacked.append(residuals(evidence, template.replace("SIDE", side), sources))
    rows, confidence, scale = (np.concatenate(parts) for parts in zip(*stacked, strict=True))
    weight = np.where(confidence > MIN_CONFIDENCE, confidence, 0.0)
    picture = np.tile(np.arange(len(rows) // 2), 2)
    test = picture % round(1 / TEST_SHARE) == 0
    start = np.array([plain.get(source, 0.0) for source in own])
    w = solve(rows[~test], weight[~test], start)
    used = np.abs(w) >= MIN_WEIGHT
    w[~used] = 0.0
    w[used] = solve(rows[~test][..., used], weight[~test], start[used] / start[used].sum())
    report: dict[str, Any] = {
        "before": errors_mm(rows[test], weight[test], scale[test], start),
        "after": errors_mm(rows[test], weight[test], scale[test], w),
        "pictures": int((weight > 0).sum()),
    }
    left = rounded(dict(zip(own, w.tolist(), strict=True)))
    name = f"mediapipe:{template.replace('SIDE', 'left')}"
    right = {mirrored_source(source): value for source, value in left.items()}
    return {name: left, f"mediapipe:{template.replace('SIDE', 'right')}": right}, report


def mirrored_source(source: str) -> str:
    kind, _, name = source.rpartition(":")
    return f"{kind}:{mirror_place(name)}" if kind else mirror_place(name)


def main(arguments: Arguments) -> None:
    names = sorted(
        {
            source.replace("SIDE", side).replace("OTHER", other)
            for sources in SOURCES.values()
            for source in sources
            for side, other in (SIDES, SIDES[::-1])
        }
        | {"pelvis"}
    )
    evidence = load_evidence(arguments.people, names)
    rules: dict[str, dict[str, float]] = {}
    figures: dict[str, object] = {}
    for template in SOURCES:
        found, report = fit_place(evidence, template)
        kept = report["after"]["median_mm"] < MIN_GAIN * report["before"]["median_mm"]
        report["kept"] = kept
        if kept:
            rules.update(found)
        figures[template.replace("SIDE_", "")] = report
        print(template, report, next(iter(found.values())))
    measured = json.loads(arguments.coco.read_text())
    rules.update(coco_rules(rules, measured))
    content = {
        "body": "open",
        "pictures": len(evidence.px_per_m),
        "rules": rules,
        "errors_on_held_out_pictures": figures,
        "coco_against_mediapipe": measured,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(content, indent=1) + "\n")


def coco_rules(rules: Mapping[str, Rule], measured: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Rules of COCO's definition from MediaPipe's, by the measured shifts along the trunk and ratios of width."""

    def of(place: str) -> Rule:
        return rules.get(f"mediapipe:{place}") or place_rule(place)

    trunk = [(of(f"{side}_{part}"), sign / 2) for part, sign in (("shoulder", 1), ("hip", -1)) for side in SIDES]
    out: dict[str, dict[str, float]] = {}
    for side, other in (SIDES, SIDES[::-1]):
        for part in COCO_SHIFTED:
            half = (measured[part]["width_ratio"] - 1) / 2
            up = measured[part]["up_in_trunks"]
            own = [(of(f"{side}_{part}"), 1 + half), (of(f"{other}_{part}"), -half)]
            out[f"coco:{side}_{part}"] = combine([*own, *((rule, up * share) for rule, share in trunk)])
        for part in COCO_SAME:
            if f"mediapipe:{side}_{part}" in rules:
                out[f"coco:{side}_{part}"] = dict(rules[f"mediapipe:{side}_{part}"])
    return out


def combine(parts: Sequence[tuple[Rule, float]]) -> dict[str, float]:
    """The weighted sum of rules; sources that cancel are left out."""
    total: dict[str, float] = {}
    for rule, share in parts:
        for source, weight in rule.items():
            total[source] = total.get(source, 0.0) + share * weight
    return rounded(total, least=MIN_WEIGHT / 3)


def rounded(rule: Rule, *, least: float = MIN_WEIGHT) -> dict[str, float]:
    """A rule with four decimals that sums to one; sources of little weight are left out, which keeps fits fast."""
    kept = {source: float(weight) for source, weight in rule.items() if abs(weight) >= least}
    out = {source: round(weight / sum(kept.values()), 4) for source, weight in kept.items()}
    largest = max(out, key=lambda source: out[source])
    out[largest] = round(out[largest] + 1 - sum(out.values()), 4)
    return out


if __name__ == "__main__":
    main(tyro.cli(Arguments))
