"""Correct the calibration of the four-view recording by bundle adjustment, and measure the truth that follows.

The cameras that came with the recording do not fit its pictures: a point triangulated from three cameras lies 30 to 40
pixels off in the fourth. The principal point of each camera is corrected here, from nothing but OpenPose's 2D points in
all four views; turns and positions of the cameras, which set the scale, stay. A shift of the whole world shifts all
principal points nearly alike, so the smallest correction is taken. Points count only where three cameras agree.

python benchmarks/four_view_calibration.py [--json FILE] writes four_view_centers.json beside this file.
"""

import json
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path

import torch
import tyro
from four_view_recording import CENTERS, NUM_VIEWS, Recording, Rig, read_recording
from jaxtyping import Bool, Float
from torch import Tensor

from vitruvian.evaluation.metrics import MM
from vitruvian.keypoints.observations import Keypoints

AGREEMENT = 0.015
"""Largest reprojection error of a point that counts, as a share of the person's size in each picture."""
MIN_CONFIDENCE = 0.3
MIN_CAMERAS = 3
CENTER_SPREAD_PX = 10.0
"""How far principal points were off before anything was measured: what makes the smallest correction win."""
ROUNDS = 15


@dataclass(frozen=True, eq=False)
class Truth:
    """Triangulated keypoints of one frame each, in the world frame.

    Attributes:
        points: metres; NaN where fewer than three cameras agree.
        used: cameras that agree on the point.
        error_share: reprojection errors as shares of the person's size in each picture; NaN where a point is not seen.
    """

    points: Float[Tensor, "frame keypoint 3"]
    used: Bool[Tensor, "frame view keypoint"]
    error_share: Float[Tensor, "frame view keypoint"]

    @property
    def known(self) -> Bool[Tensor, "frame keypoint"]:
        return self.used.sum(1) >= MIN_CAMERAS


def person_size(keypoints: Keypoints) -> Float[Tensor, "frame view"]:
    """Larger side of the person's box in each picture, pixels."""
    box = keypoints.bounding_box(min_confidence=MIN_CONFIDENCE)
    return (box[..., 2:] - box[..., :2]).amax(-1).clamp_min(1.0)


def triangulate(
    rig: Rig, positions: Float[Tensor, "frame view keypoint 2"], weights: Float[Tensor, "frame view keypoint"]
) -> Float[Tensor, "frame keypoint 3"]:
    """Points nearest to their rays in the picture: linear, then Gauss-Newton on the reprojection error."""
    rays = (positions - rig.camera.center_px[:, None]) / rig.camera.focal_px[:, None]
    R, t = rig.R_camera_world[:, None], rig.t_camera_world[:, None]
    # (r_x R_z − R_x) X = t_x − r_x t_z for each ray (r_x, r_y, 1).
    A = rays[..., None] * R[..., 2:, :] - R[..., :2, :]
    b = t[..., :2] - rays * t[..., 2:]
    damping = 1e-9 * torch.eye(3, dtype=A.dtype)
    AtA = torch.einsum("fvkri,fvkrj,fvk->fkij", A, A, weights) + damping
    points = torch.linalg.solve(AtA, torch.einsum("fvkri,fvkr,fvk->fki", A, b, weights))
    for _ in range(5):
        residual, J = _reprojection(rig, points, positions)
        H = torch.einsum("fvkri,fvkrj,fvk->fkij", J, J, weights) + damping
        points = points - torch.linalg.solve(H, torch.einsum("fvkri,fvkr,fvk->fki", J, residual, weights))
    return points


def _reprojection(
    rig: Rig, points: Float[Tensor, "frame keypoint 3"], positions: Float[Tensor, "frame view keypoint 2"]
) -> tuple[Float[Tensor, "frame view keypoint 2"], Float[Tensor, "frame view keypoint 2 3"]]:
    """Reprojection errors in pixels, and their derivatives by the points."""
    local = rig.to_cameras(points)
    J = rig.camera.projection_jacobian(local) @ rig.R_camera_world[:, None]
    return rig.camera.project(local) - positions, J


def agreed(rig: Rig, keypoints: Keypoints, *, limit: float = AGREEMENT) -> Truth:
    """Triangulate each keypoint from the most cameras that agree on it; of equally many, from those that agree best."""
    size = person_size(keypoints)[..., None]
    seen = keypoints.confidence >= MIN_CONFIDENCE
    frames, _, count = seen.shape
    best_points = torch.full((frames, count, 3), torch.nan, dtype=size.dtype)
    best_used = torch.zeros_like(seen)
    best_error = torch.full((frames, count), torch.inf, dtype=size.dtype)
    for number in range(NUM_VIEWS, MIN_CAMERAS - 1, -1):
        open_ = ~best_used.any(1)
        for views in combinations(range(NUM_VIEWS), number):
            used = torch.zeros_like(seen)
            used[:, list(views)] = seen[:, list(views)].all(1, keepdim=True)
            points = triangulate(rig, keypoints.positions, keypoints.confidence * used)
            error = torch.where(used, _reprojection(rig, points, keypoints.positions)[0].norm(dim=-1) / size, 0.0)
            good = open_ & used.any(1) & (error.amax(1) <= limit) & (error.sum(1) < best_error)
            best_points = torch.where(good[..., None], points, best_points)
            best_used = torch.where(good[:, None], used, best_used)
            best_error = torch.where(good, error.sum(1), best_error)
    error = _reprojection(rig, best_points, keypoints.positions)[0].norm(dim=-1) / size
    return Truth(best_points, best_used, torch.where(seen, error, torch.nan))


def correct_centers(rig: Rig, keypoints: Keypoints) -> Rig:
    """Bundle adjustment over the principal points and all points, the latter eliminated point by point (Schur).

    The set of agreeing points grows as the cameras come to fit: it is chosen anew in every round, at first generously.
    """
    given = rig.camera.center_px
    current = rig
    size = person_size(keypoints)[..., None]
    seen = keypoints.confidence >= MIN_CONFIDENCE
    for round_ in range(ROUNDS):
        limit = AGREEMENT * max(1.0, 4.0 - 0.5 * round_)
        weights = keypoints.confidence * seen * (seen.sum(1, keepdim=True) >= MIN_CAMERAS)
        for _ in range(3):  # leave out, in each round, the rays that the others contradict
            points = triangulate(current, keypoints.positions, weights)
            error = _reprojection(current, points, keypoints.positions)[0].norm(dim=-1) / size
            kept = (weights > 0) & (error <= limit)
            weights = keypoints.confidence * kept * (kept.sum(1, keepdim=True) >= MIN_CAMERAS)
        residual, J = _reprojection(current, points, keypoints.positions)
        scale = (AGREEMENT / 3 * size).square()  # errors in units of a third of the limit
        step = _center_step(residual, J, weights / scale, current.camera.center_px - given)
        current = current.with_centers(current.camera.center_px + step)
    return current


def _center_step(
    residual: Float[Tensor, "frame view keypoint 2"],
    J: Float[Tensor, "frame view keypoint 2 3"],
    weights: Float[Tensor, "frame view keypoint"],
    correction: Float[Tensor, "view 2"],
) -> Float[Tensor, "view 2"]:
    """Gauss-Newton step of the principal points; every residual moves by the shift of its own camera."""
    damping = 1e-9 * torch.eye(3, dtype=J.dtype)
    H_points = torch.einsum("fvkri,fvkrj,fvk->fkij", J, J, weights) + damping
    coupling = J * weights[..., None, None]  # (frame, view, keypoint, 2, 3): centre rows by point columns
    inverse = torch.linalg.inv(H_points)
    gradient_points = torch.einsum("fvkri,fvkr,fvk->fki", J, residual, weights)
    total = weights.sum((0, 2))
    H = torch.diag(total.repeat_interleave(2))
    H = H - torch.einsum("fvkri,fkij,fwksj->vrws", coupling, inverse, coupling).reshape(2 * NUM_VIEWS, -1)
    g = torch.einsum("fvkr,fvk->vr", residual, weights)
    g = g - torch.einsum("fvkri,fkij,fkj->vr", coupling, inverse, gradient_points)
    # Errors of neighbouring frames and points are not independent; the prior only decides what they leave open.
    prior = torch.full((2 * NUM_VIEWS,), 1 / CENTER_SPREAD_PX**2, dtype=J.dtype)
    H, g = H + torch.diag(prior), g.flatten() + prior * correction.flatten()
    return -torch.linalg.solve(H, g).view(NUM_VIEWS, 2)


@dataclass(frozen=True)
class Quality:
    """How good a truth is.

    Attributes:
        reprojection_share: median reprojection error of the points that count, as a share of the person's size.
        known: share of the points of all frames that count.
        held_out_px: median distance, in each picture, of a point triangulated from the three other cameras.
        moved_mm: median move of the points that count when one camera, each in turn, is left out of the triangulation.
        recalibrated_mm: the same when that camera is left out of the calibration too; the middle of all points stays.
    """

    reprojection_share: float
    known: float
    held_out_px: tuple[float, ...]
    moved_mm: tuple[float, ...]
    recalibrated_mm: tuple[float, ...] | None = None


def quality(rig: Rig, keypoints: Keypoints, *, given: Rig | None = None) -> Quality:
    """Measure the truth that a calibration gives; with `given`, also how far it depends on each camera."""
    truth = agreed(rig, keypoints)
    seen = keypoints.confidence >= MIN_CONFIDENCE
    held_out, moved, again = [], [], []
    for view in range(NUM_VIEWS):
        others = torch.arange(NUM_VIEWS) != view
        free = triangulate(rig, keypoints.positions, keypoints.confidence * seen * others[:, None])
        error = _reprojection(rig, free, keypoints.positions)[0].norm(dim=-1)[:, view]
        held_out.append(float(error[seen.all(1)].median()))
        counts = truth.known & truth.used[:, view]
        weights = keypoints.confidence * truth.used * others[:, None]
        moved.append(_moved_mm(triangulate(rig, keypoints.positions, weights), truth.points, counts))
        if given is not None:
            blind = replace(keypoints, confidence=keypoints.confidence * others[:, None])
            other = correct_centers(given, blind)
            points = triangulate(other, keypoints.positions, weights)
            shift = (points - truth.points)[counts].mean(0)
            again.append(_moved_mm(points - shift, truth.points, counts))
    return Quality(
        reprojection_share=float(truth.error_share[truth.used].median()),
        known=float(truth.known.double().mean()),
        held_out_px=tuple(held_out),
        moved_mm=tuple(moved),
        recalibrated_mm=tuple(again) if again else None,
    )


def _moved_mm(points: Tensor, truth: Tensor, counts: Bool[Tensor, "frame keypoint"]) -> float:
    return float((points - truth)[counts].norm(dim=-1).median()) * MM


@dataclass(frozen=True)
class CalibrationConfig:
    """Correct the principal points and measure.

    Attributes:
        json: file for the quality of the old and of the corrected calibration.
    """

    json: Path | None = None


def main(config: CalibrationConfig) -> None:
    recording: Recording = read_recording()
    corrected = correct_centers(recording.rig, recording.keypoints)
    centers = corrected.camera.center_px
    found = {
        "given": quality(recording.rig, recording.keypoints),
        "corrected": quality(corrected, recording.keypoints, given=recording.rig),
    }
    for name, row in found.items():
        print(
            f"{name:10s} reprojection {100 * row.reprojection_share:.2f} %, known {100 * row.known:.0f} %, "
            f"camera left out {', '.join(f'{x:.0f}' for x in row.held_out_px)} px, "
            f"moves {', '.join(f'{x:.1f}' for x in row.moved_mm)} mm"
            + (f", calibrated anew {', '.join(f'{x:.1f}' for x in again)} mm" if (again := row.recalibrated_mm) else "")
        )
    shift = centers - recording.rig.camera.center_px
    print("correction, px:", [[round(x, 1) for x in row] for row in shift.tolist()])
    CENTERS.write_text(json.dumps({"center_px": [[round(x, 2) for x in row] for row in centers.tolist()]}) + "\n")
    if config.json is not None:
        config.json.write_text(json.dumps({name: asdict(row) for name, row in found.items()}, indent=1))


if __name__ == "__main__":
    main(tyro.cli(CalibrationConfig))
