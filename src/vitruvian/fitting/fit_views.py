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
from vitruvian.fitting.fitter import FittedPeople, Fitter
from vitruvian.fitting.multiview import MultiViewProblem, MultiViewState
from vitruvian.fitting.observed import Observations
from vitruvian.fitting.parts import BodyPrior, body_prior
from vitruvian.fitting.problem import Term
from vitruvian.fitting.residuals import Scaled
from vitruvian.fitting.solution import Solution, Status
from vitruvian.fitting.stages import Stage
from vitruvian.fitting.term_makers import TermMaker
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.observations import Keypoints
from vitruvian.tensors import BatchRecord

ALIGNMENT = Stage("alignment", robust_scale=40.0, articulated=False, iterations=10)


@dataclass(frozen=True)
class ViewsConfig:
    """How views are tied together.

    Attributes:
        fit: settings of the fit of each view; its last stage is also that of the joint fit.
        consistency: weight of the agreement of body rotations, raised from one solve to the next (ProHMR ends at 300).
        iterations: trial steps of each joint solve, where the solver does not say how many itself.
    """

    fit: FitConfig = field(default_factory=FitConfig)
    consistency: tuple[float, ...] = (30.0, 300.0)
    iterations: int = 15


@dataclass(frozen=True, eq=False)
class FittedViews(BatchRecord):
    """Result of a multi-view fit of N people in V views.

    Attributes:
        params: `(N, V, ...)`, in the camera frame of each view; shape is equal in all views of a person, and so are the
            body rotations but for the small differences that the consistency weight leaves.
        cost: objective of the joint fit.
        status: see `Status`, per person.
        reprojection_px: `(N, V)`; NaN where a view shows nothing of the person.
        reprojection_parts_px: the same over the keypoints of body, hands and face alone.
    """

    params: BodyParams
    cost: Float[Tensor, "person"]
    status: Int[Tensor, "person"]
    reprojection_px: Float[Tensor, "person view"]
    reprojection_parts_px: Float[Tensor, "person view 3"]


def fit_views(
    body: BodyModel,
    keypoints: Keypoints,
    camera: Camera,
    *,
    config: ViewsConfig | None = None,
    prior: BodyPrior | None = None,
    start: BodyParams | None = None,
    terms: tuple[TermMaker, ...] = (),
) -> FittedViews:
    """Fit N people, each seen in V views at the same moment, without knowing how the cameras stand (ProHMR, 3.5).

    Global orientation, translation and expression are free per view; shape is shared, and body rotations must agree.
    The objective is the mean of the views' own over the views that show the person, as in the paper but for a factor:
    what is believed of pose, hands, jaw and shape counts once however many views there are, and copies of one view give
    that view's fit.

    Args:
        body: the model.
        keypoints: `(N, V, K)`; a view in which a person is not seen has zero confidence throughout.
        camera: intrinsics `(N, V)`.
        config: settings.
        prior: belief about the body pose; one that differs between pictures has a row per (person, view).
        start: where the fit of each view starts, `(N·V, ...)` or `(N·V, H, ...)`; turns about the vertical if None.
        terms: makers of further terms, see fitting/term_makers.py; their rows are (person, view), view by view.

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
    single = fit_keypoints(body, flat, flat_camera, config=config.fit, prior=prior, start=start, terms=terms)
    fitter = Fitter(body, keypoints.format, config.fit, prior, terms=terms)
    with torch.no_grad():
        observed = fitter.observe(
            flat.evidence(config.fit.min_confidence).to(device=body.device, dtype=body.dtype),
            flat_camera.to(device=body.device, dtype=body.dtype),
            torch.arange(people * num_views, device=body.device),
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
    setting = fitter.setting(config.fit.schedule[-1], is_last=True)
    active = fitter.active_parts(setting.stage)
    terms = _averaged(fitter.terms(setting, observed), present.to(observed.weights))
    solution: Solution[MultiViewState] | None = None
    for weight in config.consistency:
        views = fitter.problem_of(setting, terms, state, spaces)
        shared = tuple(joint for joint in views.moving_joints if joint != 0)
        problem = MultiViewProblem(views, num_views, consistency=weight, shared_joints=shared, present=present)
        moving = replace(state, poses=tuple(state.poses[row] for row in active))
        solver = fitter.solver(config.iterations)
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
        _with_absent_views(result.params.map(lambda x: x.unflatten(0, (people, num_views))), present),
        solution.cost,
        status,
        result.reprojection_px.view(people, num_views),
        result.reprojection_parts_px.view(people, num_views, 3),
    )


def _averaged(terms: list[Term], present: Float[Tensor, "person view"]) -> list[Term]:
    """Terms whose sum over all views is their mean over the views that show the person."""
    share = (present / present.sum(-1, keepdim=True).clamp_min(1)).sqrt().flatten()
    return [Scaled(term, share) for term in terms]


def _with_absent_views(params: BodyParams, present: Bool[Tensor, "person view"]) -> BodyParams:
    """Give views that show nothing of a person the pose below the root of the first view that does."""
    first = present.to(torch.int).argmax(-1)
    seen = params.rotations[torch.arange(len(first), device=first.device), first][:, None, 1:]
    below = torch.where(present[:, :, None, None, None], params.rotations[:, :, 1:], seen)
    return replace(params, rotations=torch.cat((params.rotations[:, :, :1], below), dim=2))
