"""Fit one person seen in several uncalibrated views: each view by itself, then all of them together."""

import math
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.errors import InputError
from vitruvian.fitting.config import FitConfig
from vitruvian.fitting.fit import fit_keypoints
from vitruvian.fitting.fitter import FittedPeople, Fitter, Observations
from vitruvian.fitting.levenberg_marquardt import LevenbergMarquardt
from vitruvian.fitting.multiview import MultiViewProblem, MultiViewState
from vitruvian.fitting.parts import BodyPrior, body_prior
from vitruvian.fitting.solution import Solution, Status
from vitruvian.fitting.stages import Stage
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.depth_cues import DepthCues
from vitruvian.keypoints.observations import Keypoints
from vitruvian.tensors import TensorRecord

ALIGNMENT = Stage("alignment", robust_scale=40.0, articulated=False, iterations=10)


@dataclass(frozen=True)
class ViewsConfig:
    """How views are tied together.

    Attributes:
        fit: settings of the fit of each view; its last stage is also that of the joint fit.
        consistency: weight of the agreement of body rotations, raised from one solve to the next (ProHMR ends at 300).
        iterations: trial steps of each joint solve.
    """

    fit: FitConfig = field(default_factory=FitConfig)
    consistency: tuple[float, ...] = (30.0, 300.0)
    iterations: int = 15


@dataclass(frozen=True, eq=False)
class FittedViews(TensorRecord):
    """Result of a multi-view fit of N people in V views.

    Attributes:
        params: `(N, V, ...)`, in the camera frame of each view; shape is equal in all views of a person, and so are the
            body rotations but for the small differences that the consistency weight leaves.
        cost: objective of the joint fit.
        status: see `Status`, per person.
        reprojection_px: `(N, V)`; NaN where a view shows nothing of the person.
    """

    params: BodyParams
    cost: Float[Tensor, "person"]
    status: Int[Tensor, "person"]
    reprojection_px: Float[Tensor, "person view"]


def fit_views(
    body: BodyModel,
    keypoints: Keypoints,
    camera: Camera,
    *,
    config: ViewsConfig | None = None,
    prior: BodyPrior | None = None,
    start: BodyParams | None = None,
    cues: DepthCues | None = None,
) -> FittedViews:
    """Fit N people, each seen in V views at the same moment, without knowing how the cameras stand (ProHMR, 3.5).

    Global orientation, translation and expression are free per view; shape is shared, and body rotations must agree.

    Args:
        body: the model.
        keypoints: `(N, V, K)`; a view in which a person is not seen has zero confidence throughout.
        camera: intrinsics `(N, V)`.
        config: settings.
        prior: belief about the body pose; one that differs between pictures has a row per (person, view).
        cues: `(N, V)`, which way bones point, in the camera frame of each view.
        start: where the fit of each view starts, `(N·V, ...)` or `(N·V, H, ...)`; turns about the vertical if None.

    Raises:
        InputError: no view axis, or a single view.
    """
    config = config or ViewsConfig()
    if keypoints.confidence.dim() != 3 or keypoints.confidence.shape[1] < 2:
        raise InputError(
            "multi-view fitting needs keypoints of at least two views",
            seen=tuple(keypoints.confidence.shape),
            expected="(person, view, keypoint)",
        )
    people, num_views = keypoints.confidence.shape[:2]
    flat = keypoints.map(lambda x: x.flatten(0, 1))
    flat_camera = camera.map(lambda x: x.flatten(0, 1))
    if cues is not None:
        cues = cues.map(lambda x: x.flatten(0, 1)) if cues.present else None
    single = fit_keypoints(body, flat, flat_camera, config=config.fit, prior=prior, start=start, cues=cues)
    fitter = Fitter(body, keypoints.format, config.fit, prior)
    with torch.no_grad():
        observed = fitter.observe(
            flat.sanitized().to(device=body.device, dtype=body.dtype),
            flat_camera.to(device=body.device, dtype=body.dtype),
            torch.arange(people * num_views, device=body.device),
            cues,
        )
        present = observed.usable.view(people, num_views)
        params = _best_agreement(body, fitter, single, observed, present)
        return _fit_together(fitter, config, params, observed, present)


def _best_agreement(
    body: BodyModel, fitter: Fitter, single: FittedPeople, observed: Observations, present: Bool[Tensor, "person view"]
) -> BodyParams:
    """Give all views the body pose and shape of the one view that explains all of them best, each from its own side."""
    people, num_views = present.shape
    rigid = Fitter(body, fitter.targets.format, fitter.config, body_prior("none", body.skeleton))
    rows = torch.arange(people * num_views, device=body.device)
    spaces = rigid.spaces(rows)
    grouped = single.params.map(lambda x: x.unflatten(0, (people, num_views)))
    best_cost = torch.full((people,), math.inf, dtype=body.dtype, device=body.device)
    best: BodyParams | None = None
    for view in range(num_views):
        rotations = grouped.rotations[:, view : view + 1].expand_as(grouped.rotations).clone()
        rotations[:, :, 0] = grouped.rotations[:, :, 0]
        betas = grouped.betas[:, view : view + 1].expand_as(grouped.betas)
        candidate = replace(grouped, rotations=rotations, betas=betas).map(lambda x: x.flatten(0, 1))
        state = rigid.state_from(candidate, spaces)
        solution = rigid.run_stage(ALIGNMENT, state, observed, spaces)
        aligned = rigid.result(solution.state, solution, observed, solution.iterations, spaces).params
        cost = (solution.cost.view(people, num_views) * present).sum(-1)
        cost = torch.where(present[:, view], torch.nan_to_num(cost, nan=math.inf), math.inf)
        better = cost < best_cost
        if best is None:
            best = aligned
        mask = better.repeat_interleave(num_views)
        best = _choose(mask, aligned, best)
        best_cost = torch.minimum(best_cost, cost)
    assert best is not None
    return best


def _choose(mask: Bool[Tensor, "item"], a: BodyParams, b: BodyParams) -> BodyParams:
    rows = mask.nonzero()[:, 0]
    return BodyParams(
        *(
            y.index_copy(0, rows, x[rows])
            for x, y in (
                (a.rotations, b.rotations),
                (a.betas, b.betas),
                (a.expression, b.expression),
                (a.transl, b.transl),
            )
        )
    )


def _fit_together(
    fitter: Fitter,
    config: ViewsConfig,
    params: BodyParams,
    observed: Observations,
    present: Bool[Tensor, "person view"],
) -> FittedViews:
    people, num_views = present.shape
    rows = torch.arange(people * num_views, device=present.device)
    spaces = fitter.spaces(rows)
    state = fitter.state_from(params, spaces)
    stage = config.fit.schedule[-1]
    once = num_views**-0.5
    # One prior for all views, but each picture has cues of its own.
    stage = replace(stage, shape=stage.shape * once, pose=stage.pose * once, cues=stage.cues / once)
    active = fitter.active_parts(stage)
    solution: Solution[MultiViewState] | None = None
    for weight in config.consistency:
        views = fitter.problem(stage, state, observed, spaces)
        shared = tuple(joint for joint in views.moving_joints if joint != 0)
        problem = MultiViewProblem(views, num_views, consistency=weight, shared_joints=shared, present=present)
        moving = replace(state, poses=tuple(state.poses[row] for row in active))
        solver = LevenbergMarquardt(max_iterations=config.iterations)
        solution = solver.solve(problem, MultiViewState.of_views(moving, num_views))
        moved = solution.state.flat()
        poses = list(state.poses)
        for row, pose in zip(active, moved.poses, strict=True):
            poses[row] = pose
        state = replace(moved, poses=tuple(poses))
    assert solution is not None
    iterations = torch.zeros(people * num_views, dtype=torch.long, device=present.device)
    flat = Solution(state, iterations.to(state.transl), iterations, iterations)
    result = fitter.result(state, flat, observed, iterations, spaces)
    status = torch.where(present.any(-1), solution.status, int(Status.NO_EVIDENCE))
    return FittedViews(
        result.params.map(lambda x: x.unflatten(0, (people, num_views))),
        solution.cost,
        status,
        result.reprojection_px.view(people, num_views),
    )
