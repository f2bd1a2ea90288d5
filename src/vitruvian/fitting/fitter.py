"""Fit some people at once: starts, stages, and the problem of each stage."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.fitting.config import FitConfig
from vitruvian.fitting.levenberg_marquardt import LevenbergMarquardt
from vitruvian.fitting.observed import Observations
from vitruvian.fitting.parts import BodyPrior, Part, body_parts, body_prior
from vitruvian.fitting.problem import BodyProblem, FitState, Term
from vitruvian.fitting.solution import Solution, Solver, Status
from vitruvian.fitting.stages import Stage
from vitruvian.fitting.start import (
    HEAD_WEIGHT,
    LIMB_WEIGHT,
    TRUNK_WEIGHT,
    StartBank,
    evenly_turned,
    place_in_view,
    turned_orientations,
)
from vitruvian.fitting.structures import fitted_targets, point_kinematics, start_bank
from vitruvian.fitting.term_makers import StageSetting, TermMaker, built_in_makers
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.rotations import orthonormalized
from vitruvian.keypoints.evidence import spans_a_person
from vitruvian.keypoints.formats import GROUPS, place_of
from vitruvian.keypoints.observations import Keypoints
from vitruvian.priors.pose_spaces import PoseSpace
from vitruvian.tensors import BatchRecord, resized

TRUNK_PLACES = ("neck", "shoulder", "hip", "pelvis", "spine", "collar")
HEAD_PLACES = ("nose", "eye", "ear", "head", "mouth")


@dataclass(frozen=True, eq=False)
class FittedPeople(BatchRecord):
    """Result of a fit, one row per person.

    Attributes:
        params: rotations, shape, expression and translation in the camera frame.
        cost: objective of the last stage.
        status: see `Status`.
        iterations: trial steps over all stages.
        reprojection_px: mean distance of the used keypoints from their targets, by confidence; NaN without any.
        reprojection_parts_px: the same over the keypoints of body, hands and face alone.
    """

    params: BodyParams
    cost: Float[Tensor, "*batch"]
    status: Int[Tensor, "*batch"]
    iterations: Int[Tensor, "*batch"]
    reprojection_px: Float[Tensor, "*batch"]
    reprojection_parts_px: Float[Tensor, "*batch 3"]


class Fitter:
    """Everything about a fit that does not depend on the people: targets, parts, makers of terms.

    Args:
        body: the model.
        format: of the keypoints.
        config: settings.
        prior: belief about the body pose; the mixture learnt from motion capture if None.
        terms: makers of terms besides the built-in ones.
    """

    def __init__(
        self,
        body: BodyModel,
        format: str,
        config: FitConfig,
        prior: BodyPrior | None,
        *,
        terms: tuple[TermMaker, ...] = (),
    ) -> None:
        self.body = body
        self.config = config
        self.targets = fitted_targets(body, format)
        skeleton = body.skeleton
        self.prior = prior or (body_prior("mixture", skeleton) if "pelvis" in skeleton.names else None)
        search = self.prior.search if self.prior is not None else None
        self.search = None if search is None else Fitter(body, format, config, search, terms=terms)
        """Fits while several starts of a person compete."""
        self.parts: tuple[Part, ...] = body_parts(skeleton, self.prior, hand_components=config.hand_components)
        self.has_root = any(part.name == "root" for part in self.parts)
        self.num_shape = min(config.num_shape, body.num_shape)
        self.num_expression = min(config.num_expression, body.num_expression)
        names = [GROUPS[group] for group in self.targets.group.tolist()]
        self.is_body = torch.tensor([name == "body" for name in names], device=body.device)
        self.is_hand = torch.tensor([name.endswith("hand") for name in names], device=body.device)
        self.is_face = torch.tensor([name == "face" for name in names], device=body.device)
        self.start_weight, self.is_hip = self._start_weights()
        is_shoulder = torch.tensor(["shoulder" in place_of(name) for name in self.targets.names], device=body.device)
        self.trust = torch.where(self.is_hip, config.hip_weight, torch.where(is_shoulder, config.shoulder_weight, 1.0))
        self.trust = self.trust.to(body.template)
        groups = {"body": self.is_body, "hand": self.is_hand, "face": self.is_face}
        point_weights = {name: group.to(body.template) for name, group in groups.items()}
        self.makers = (*built_in_makers(self.parts, self.prior, point_weights), *terms)

    def _start_weights(self) -> tuple[Tensor, Tensor]:
        weights, hips = [], []
        for name, is_body in zip(self.targets.names, self.is_body.tolist(), strict=True):
            place = place_of(name)
            trunk = any(word in place for word in TRUNK_PLACES)
            head = any(word in place for word in HEAD_PLACES)
            weight = TRUNK_WEIGHT if trunk else HEAD_WEIGHT if head else LIMB_WEIGHT
            weights.append(weight if is_body or not bool(self.is_body.any()) else 0.02)
            hips.append(is_body and ("hip" in place or "pelvis" in place))
        template = self.body.template
        return template.new_tensor(weights), torch.tensor(hips, device=template.device)

    def observe(self, keypoints: Keypoints, camera: Camera, rows: Int[Tensor, "person"]) -> Observations:
        """What a fit needs of people; `rows` as in `fit`.

        Keypoints outside the picture are not used. People whose keypoints lie in one place or on a line have no fit.

        Raises:
            InputError: a camera that cannot take pictures.
        """
        config, targets = self.config, self.targets
        keypoints = keypoints.sanitized(camera.validated().image_size)
        positions = keypoints.positions[:, targets.keypoint]
        confidence = keypoints.confidence[:, targets.keypoint]
        confidence = torch.where(confidence >= config.min_confidence, confidence, 0.0)
        weights = confidence * targets.weight * self.trust
        box = keypoints.bounding_box(min_confidence=config.min_confidence)
        size = (box[:, 2:] - box[:, :2]).amax(-1)
        paper_unit = camera.image_size[:, 1] / 1000
        sigma = config.sigma_px + config.sigma_share * size
        sigma = torch.where(sigma > 0, sigma, paper_unit).clamp_min(1e-3)
        main = self.is_body if bool(self.is_body.any()) else torch.ones_like(self.is_body)
        usable = (weights[:, main] > 0).sum(-1) >= config.min_keypoints
        usable = usable & spans_a_person(positions, weights > 0)
        hips_seen = (weights[:, self.is_hip] > 0).any(-1)
        upright = torch.where(hips_seen, config.upright_seen, config.upright_hidden).to(weights)
        belief = None if self.prior is None else self.prior.shape
        shape = None if belief is None else belief.mean[rows].to(weights)
        return Observations(rows, positions, weights, sigma, camera, upright, usable, shape)

    def fit(
        self, keypoints: Keypoints, camera: Camera, start: BodyParams | None, rows: Int[Tensor, "person"]
    ) -> FittedPeople:
        """Fit some people; `rows` are theirs among all people, for priors that differ between people."""
        observed = self.observe(keypoints, camera, rows)
        people = observed.weights.shape[0]
        owner = torch.arange(people, device=self.body.device)
        if start is None:
            count = self.config.turns if self.bank is None else self.config.starts
            owner = owner.repeat_interleave(count)
            state = (self.search or self)._starts(observed, owner, rows)
        else:
            if start.rotations.dim() == 5:
                owner = owner.repeat_interleave(start.rotations.shape[1])
                start = start.map(lambda x: x.flatten(0, 1))
            state = self.state_from(start, self.spaces(rows[owner]))
        iterations = torch.zeros(people, dtype=torch.long, device=self.body.device)
        fitter = self if start is not None or self.search is None else self.search
        solution: Solution[FitState] | None = None
        for number, stage in enumerate(self.config.schedule, 1):
            if start is not None and not stage.articulated:
                continue
            if fitter is not self and len(owner) == people:
                state = self.state_from(fitter.params(state, fitter.spaces(rows)), self.spaces(rows))
                fitter = self
            spaces = fitter.spaces(rows[owner])
            last = number == len(self.config.schedule)
            solution = fitter.run_stage(stage, state, observed[owner], spaces, is_last=last)
            state = solution.state
            iterations.index_add_(0, owner, solution.iterations)
            owner, state, solution = _prune(owner, people, stage.keep, state, solution)
        assert solution is not None
        owner, state, solution = _prune(owner, people, 1, state, solution)
        return fitter.result(state, solution, observed, iterations, fitter.spaces(rows))

    def empty(self) -> FittedPeople:
        """The result of no people."""
        none = self.body.template.new_zeros(0)
        rotations = self.body.template.new_zeros(0, self.body.num_joints, 3, 3)
        coefficients = (none.new_zeros(0, count) for count in (self.num_shape, self.num_expression, 3))
        return FittedPeople(
            BodyParams(rotations, *coefficients), none, none.long(), none.long(), none, none.new_zeros(0, 3)
        )

    def spaces(self, rows: Int[Tensor, "start"]) -> tuple[PoseSpace, ...]:
        """The pose spaces of the parts; of spaces that differ between people, those of some people."""
        return tuple(part.space.select(rows) for part in self.parts)

    @cached_property
    def bank(self) -> StartBank | None:
        """Poses to start from, seen from all sides; None for bodies without a trunk."""
        body, config = self.body, self.config
        if config.starts == 0 or "pelvis" not in body.skeleton.names:
            return None
        return start_bank(
            body, self.targets.format, tuple(self.is_body.nonzero()[:, 0].tolist()), num_turns=config.bank_turns
        )

    def _starts(self, observed: Observations, owner: Int[Tensor, "start"], rows: Int[Tensor, "person"]) -> FitState:
        """Starts of each person: poses of the bank, else turns about the vertical at the mean of every prior."""
        body, config = self.body, self.config
        spaces = self.spaces(rows[owner])
        initial = tuple(s.initial(len(owner), dtype=body.dtype, device=body.device) for s in spaces)
        rotations = self._rotations(initial, spaces)
        if self.bank is None:
            turns = turned_orientations(evenly_turned(config.turns), dtype=body.dtype, device=body.device)
            rotations[:, 0] = turns.repeat(len(rows), 1, 1)
        else:
            keypoints = observed.positions[:, self.is_body], observed.weights[:, self.is_body]
            found = self.bank.nearest(
                *keypoints, observed.camera, count=config.starts, apart_m=config.starts_apart_m, level=config.level
            ).flatten()
            poses = self.bank.start(found)
            rotations[:, : poses.shape[1]] = poses
        posed = body.with_shape().with_pose(rotations)
        points = posed.points(self.targets.points) - posed.joints[:, :1]
        turn, root = place_in_view(
            points,
            observed.positions[owner],
            (observed.weights * self.start_weight)[owner],
            observed.camera[owner],
            level=config.level,
        )
        rotations[:, 0] = turn @ rotations[:, 0]
        betas = body.template.new_zeros(len(owner), self.num_shape)
        expression = body.template.new_zeros(len(owner), self.num_expression)
        return self.state_from(BodyParams(rotations, betas, expression, root - body.joint_template[0]), spaces)

    def state_from(self, params: BodyParams, spaces: tuple[PoseSpace, ...]) -> FitState:
        """The state nearest to given parameters."""
        params = params.to(dtype=self.body.dtype, device=self.body.device)
        poses = tuple(space.encode(params.rotations[:, list(space.joints)]) for space in spaces)
        betas, expression = resized(params.betas, self.num_shape), resized(params.expression, self.num_expression)
        return FitState(poses, betas, expression, params.transl)

    def _rotations(self, poses: tuple[Tensor, ...], spaces: tuple[PoseSpace, ...]) -> Float[Tensor, "batch joint 3 3"]:
        rotations = torch.eye(3, dtype=self.body.dtype, device=self.body.device)
        rotations = rotations.repeat(len(poses[0]), self.body.num_joints, 1, 1)
        for space, pose in zip(spaces, poses, strict=True):
            rotations[:, list(space.joints)] = space.decode(pose)
        return rotations

    def active_parts(self, stage: Stage) -> list[int]:
        """Rows of the parts that move in a stage."""
        moves = {
            "root": True,
            "body": stage.articulated,
            "jaw": stage.articulated and stage.face_keypoints > 0,
            "left_hand": stage.articulated and stage.hand_keypoints > 0,
            "right_hand": stage.articulated and stage.hand_keypoints > 0,
        }
        if not self.has_root:
            moves["body"] = True
        return [row for row, part in enumerate(self.parts) if moves[part.name]]

    def setting(self, stage: Stage, *, is_last: bool) -> StageSetting:
        """What a stage moves and which targets count in it."""
        parts = tuple(self.parts[row] for row in self.active_parts(stage))
        num_shape = self.num_shape if stage.articulated else 0
        num_expression = self.num_expression if stage.articulated and stage.face_keypoints > 0 else 0
        counts = self.is_body.clone()
        if stage.hand_keypoints > 0:
            counts |= self.is_hand
        if stage.face_keypoints > 0:
            counts |= self.is_face
        rows = counts.nonzero()[:, 0]
        kinematics = point_kinematics(
            self.body,
            self.targets.format,
            tuple(rows.tolist()),
            moving_joints=tuple(joint for part in parts for joint in part.space.joints),
            num_shape=num_shape,
            num_expression=num_expression,
        )
        return StageSetting(stage, is_last, self.body, self.targets, parts, kinematics, rows, num_shape, num_expression)

    def run_stage(
        self,
        stage: Stage,
        state: FitState,
        observed: Observations,
        spaces: tuple[PoseSpace, ...],
        *,
        is_last: bool = False,
    ) -> Solution[FitState]:
        """Minimise one stage."""
        active = self.active_parts(stage)
        problem = self.problem(stage, state, observed, spaces, is_last=is_last)
        solver = self.solver(stage.iterations)
        solution = solver.solve(problem, replace(state, poses=tuple(state.poses[row] for row in active)))
        poses = list(state.poses)
        for row, pose in zip(active, solution.state.poses, strict=True):
            poses[row] = pose
        return replace(solution, state=replace(solution.state, poses=tuple(poses)))

    def solver(self, iterations: int) -> Solver:
        """The configured solver; Levenberg-Marquardt that says nothing of its steps takes `iterations` at most."""
        solver = self.config.solver
        if isinstance(solver, LevenbergMarquardt) and solver.max_iterations is None:
            return replace(solver, max_iterations=iterations)
        return solver

    def terms(self, setting: StageSetting, observed: Observations) -> list[Term]:
        """The terms of a stage, of all makers that have something to say."""
        made = (maker(setting, observed) for maker in self.makers)
        return [term for term in made if term is not None]

    def problem(
        self,
        stage: Stage,
        state: FitState,
        observed: Observations,
        spaces: tuple[PoseSpace, ...],
        *,
        is_last: bool = False,
    ) -> BodyProblem:
        """The least-squares problem of a stage; parts that rest in it stay as in `state`."""
        setting = self.setting(stage, is_last=is_last)
        return self.problem_of(setting, self.terms(setting, observed), state, spaces)

    def problem_of(
        self, setting: StageSetting, terms: list[Term], state: FitState, spaces: tuple[PoseSpace, ...]
    ) -> BodyProblem:
        """The problem of given terms; parts that rest in the stage stay as in `state`."""
        return BodyProblem(
            self.body,
            [spaces[row] for row in self.active_parts(setting.stage)],
            terms,
            num_shape=setting.num_shape,
            num_expression=setting.num_expression,
            fixed_rotations=self._rotations(state.poses, spaces),
        )

    def params(self, state: FitState, spaces: tuple[PoseSpace, ...]) -> BodyParams:
        """The parameters of a state."""
        rotations = orthonormalized(self._rotations(state.poses, spaces))
        return BodyParams(rotations, state.betas, state.expression, state.transl)

    def result(
        self,
        state: FitState,
        solution: Solution,
        observed: Observations,
        iterations: Int[Tensor, "person"],
        spaces: tuple[PoseSpace, ...],
    ) -> FittedPeople:
        """What is returned for a final state."""
        params = self.params(state, spaces)
        posed = self.body.with_shape(state.betas, state.expression).with_pose(params.rotations, state.transl)
        error = (observed.camera.project(posed.points(self.targets.points)) - observed.positions).norm(dim=-1)
        weights = observed.weights * (self.targets.weight > 0)
        status = torch.where(observed.usable, solution.status, int(Status.NO_EVIDENCE))
        parts = [weighted_mean(error, weights * part) for part in (self.is_body, self.is_hand, self.is_face)]
        return FittedPeople(
            params, solution.cost, status, iterations, weighted_mean(error, weights), torch.stack(parts, dim=-1)
        )


def weighted_mean(
    values: Float[Tensor, "batch point"], weights: Float[Tensor, "batch point"]
) -> Float[Tensor, "batch"]:
    """Mean over the last axis; NaN where all weights are zero."""
    total = weights.sum(-1)
    return torch.where(total > 0, (weights * values).sum(-1) / total, math.nan)


def _prune(
    owner: Tensor, people: int, keep: int, state: FitState, solution: Solution[FitState]
) -> tuple[Tensor, FitState, Solution[FitState]]:
    """Keep the `keep` best starts of each person (all if 0)."""
    count = len(owner) // max(people, 1)
    if keep == 0 or count <= keep:
        return owner, state, solution
    cost = torch.nan_to_num(solution.cost, nan=math.inf).view(people, count)
    best = cost.topk(keep, dim=1, largest=False, sorted=False).indices.sort(dim=1).values
    rows = (best + count * torch.arange(people, device=owner.device)[:, None]).flatten()
    kept = replace(solution, history=())[rows]
    return owner[rows], state[rows], kept
