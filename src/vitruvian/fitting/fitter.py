"""Fit some people at once: starts, stages, and the problem of each stage."""

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.params import BodyParams
from vitruvian.fitting.config import FitConfig
from vitruvian.fitting.directions import BoneDirections, prior_strength
from vitruvian.fitting.kinematics import PointKinematics
from vitruvian.fitting.levenberg_marquardt import LevenbergMarquardt
from vitruvian.fitting.parts import BodyPrior, Part, body_parts, body_prior
from vitruvian.fitting.problem import BodyProblem, FitState, Term
from vitruvian.fitting.residuals import CoefficientPrior, PosePrior, PoseSpacePrior, Reprojection, Upright
from vitruvian.fitting.solution import Solution, Status
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
from vitruvian.geometry.cameras import Camera
from vitruvian.geometry.rotations import orthonormalized
from vitruvian.keypoints.depth_cues import DepthCues
from vitruvian.keypoints.formats import GROUPS, place_of
from vitruvian.keypoints.observations import Keypoints
from vitruvian.keypoints.targets import keypoint_targets
from vitruvian.priors.pose_bank import PoseBank
from vitruvian.priors.pose_spaces import PoseSpace
from vitruvian.tensors import TensorRecord, resized

TRUNK_PLACES = ("neck", "shoulder", "hip", "pelvis", "spine", "collar")
HEAD_PLACES = ("nose", "eye", "ear", "head", "mouth")


@dataclass(frozen=True, eq=False)
class FittedPeople(TensorRecord):
    """Result of a fit, one row per person.

    Attributes:
        params: rotations, shape, expression and translation in the camera frame.
        cost: objective of the last stage.
        status: see `Status`.
        iterations: trial steps over all stages.
        reprojection_px: mean distance of the used keypoints from their targets, by confidence; NaN without any.
    """

    params: BodyParams
    cost: Float[Tensor, "person"]
    status: Int[Tensor, "person"]
    iterations: Int[Tensor, "person"]
    reprojection_px: Float[Tensor, "person"]


@lru_cache(maxsize=16)
def _structure(
    body: BodyModel,
    format: str,
    rows: tuple[int, ...],
    moving_joints: tuple[int, ...],
    num_shape: int,
    num_expression: int,
) -> PointKinematics:
    """Kinematics of some of the targets of a format, kept because building it costs more than a step of a fit."""
    points = keypoint_targets(body, format).fitted().points
    return PointKinematics.build(
        body,
        points.select(torch.tensor(rows, device=body.device)),
        moving_joints=moving_joints,
        num_shape=num_shape,
        num_expression=num_expression,
    )


@dataclass(frozen=True, eq=False)
class Observations(TensorRecord):
    """Keypoints brought to the order of the targets, and what follows from them."""

    positions: Float[Tensor, "batch point 2"]
    weights: Float[Tensor, "batch point"]
    sigma_px: Float[Tensor, "batch"]
    camera: Camera
    upright: Float[Tensor, "batch"]
    usable: Bool[Tensor, "batch"]
    shape: Float[Tensor, "batch shape"] | None = None
    """Centre of the shape prior."""
    cues: DepthCues | None = None
    """Which way bones point, where anything is known of it."""


class Fitter:
    """Everything about a fit that does not depend on the people: targets, parts, and the structure of each stage."""

    def __init__(self, body: BodyModel, format: str, config: FitConfig, prior: BodyPrior | None) -> None:
        self.body = body
        self.config = config
        self.targets = keypoint_targets(body, format).fitted()
        skeleton = body.skeleton
        self.prior = prior or (body_prior("mixture", skeleton) if "pelvis" in skeleton.names else None)
        search = self.prior.search if self.prior is not None else None
        self.search = None if search is None else Fitter(body, format, config, search)
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

    def observe(
        self, keypoints: Keypoints, camera: Camera, rows: Int[Tensor, "person"], cues: DepthCues | None = None
    ) -> Observations:
        """What a fit needs of people; `rows` as in `fit`."""
        config, targets = self.config, self.targets
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
        hips_seen = (weights[:, self.is_hip] > 0).any(-1)
        upright = torch.where(hips_seen, config.upright_seen, config.upright_hidden).to(weights)
        belief = None if self.prior is None else self.prior.shape
        shape = None if belief is None else belief.mean[rows].to(weights)
        return Observations(positions, weights, sigma, camera, upright, usable, shape, cues)

    def fit(
        self,
        keypoints: Keypoints,
        camera: Camera,
        start: BodyParams | None,
        rows: Int[Tensor, "person"],
        cues: DepthCues | None = None,
    ) -> FittedPeople:
        """Fit some people; `rows` are theirs among all people, for priors that differ between people."""
        observed = self.observe(keypoints, camera, rows, cues)
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
        for stage in self.config.schedule:
            if start is not None and not stage.articulated:
                continue
            if fitter is not self and len(owner) == people:
                state = self.state_from(fitter.params(state, fitter.spaces(rows)), self.spaces(rows))
                fitter = self
            solution = fitter.run_stage(stage, state, observed[owner], fitter.spaces(rows[owner]))
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
        return FittedPeople(BodyParams(rotations, *coefficients), none, none.long(), none.long(), none)

    def spaces(self, rows: Int[Tensor, "start"]) -> tuple[PoseSpace, ...]:
        """The pose spaces of the parts; of spaces that differ between people, those of some people."""
        return tuple(
            select(rows) if (select := getattr(part.space, "select", None)) else part.space for part in self.parts
        )

    @cached_property
    def bank(self) -> StartBank | None:
        """Poses to start from, seen from all sides; None for bodies without a trunk."""
        body, config = self.body, self.config
        if config.starts == 0 or "pelvis" not in body.skeleton.names:
            return None
        poses = PoseBank.learnt().rotations.to(body.template)
        rotations = torch.eye(3, dtype=body.dtype, device=body.device).repeat(len(poses), body.num_joints, 1, 1)
        rotations[:, : poses.shape[1]] = poses
        posed = body.with_shape().with_pose(rotations)
        rows = self.is_body.nonzero()[:, 0]
        points = posed.points(self.targets.points.select(rows)) - posed.joints[:, :1]
        return StartBank.of_points(poses, points, config.bank_turns)

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
                *keypoints, observed.camera, count=config.starts, apart_m=config.starts_apart_m
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

    def _structure(self, stage: Stage) -> tuple[PointKinematics, Tensor]:
        """Kinematics of the points that count in a stage, and their rows among the targets."""
        active = self.active_parts(stage)
        num_shape = self.num_shape if stage.articulated else 0
        num_expression = self.num_expression if stage.articulated and stage.face_keypoints > 0 else 0
        counts = self.is_body.clone()
        if stage.hand_keypoints > 0:
            counts |= self.is_hand
        if stage.face_keypoints > 0:
            counts |= self.is_face
        rows = counts.nonzero()[:, 0]
        moving = tuple(joint for row in active for joint in self.parts[row].space.joints)
        format, kept = self.targets.format, tuple(rows.tolist())
        return _structure(self.body, format, kept, moving, num_shape, num_expression), rows

    def run_stage(
        self, stage: Stage, state: FitState, observed: Observations, spaces: tuple[PoseSpace, ...]
    ) -> Solution[FitState]:
        """Minimise one stage."""
        active = self.active_parts(stage)
        problem = self.problem(stage, state, observed, spaces)
        solver = self.config.solver
        if isinstance(solver, LevenbergMarquardt):
            solver = replace(solver, max_iterations=stage.iterations)
        solution = solver.solve(problem, replace(state, poses=tuple(state.poses[row] for row in active)))
        poses = list(state.poses)
        for row, pose in zip(active, solution.state.poses, strict=True):
            poses[row] = pose
        return replace(solution, state=replace(solution.state, poses=tuple(poses)))

    def problem(
        self, stage: Stage, state: FitState, observed: Observations, spaces: tuple[PoseSpace, ...]
    ) -> BodyProblem:
        """The least-squares problem of a stage; parts that rest in it stay as in `state`."""
        active = self.active_parts(stage)
        kinematics, rows = self._structure(stage)
        gamma = self.is_body + stage.hand_keypoints * self.is_hand + stage.face_keypoints * self.is_face
        num_coefficients = kinematics.joint_dirs.shape[-1]
        num_shape = min(self.num_shape, num_coefficients)
        num_expression = num_coefficients - num_shape
        terms: list[Term] = [
            Reprojection(
                kinematics,
                observed.positions[:, rows],
                (observed.weights * gamma)[:, rows],
                observed.sigma_px,
                observed.camera,
                stage.robust_scale,
            )
        ]
        if observed.cues is not None:
            moving = tuple(joint for row in active for joint in self.parts[row].space.joints)
            term = BoneDirections.of(
                observed.cues, self.body, moving, num_shape, num_expression, spread=self.config.cue_spread
            )
            terms.append(term.times(stage.pose * stage.cues * prior_strength(spaces[row] for row in active)))
        weights = {"body": stage.pose, "jaw": stage.jaw, "left_hand": stage.hands, "right_hand": stage.hands}
        for column, row in enumerate(active):
            part = self.parts[row]
            if part.name != "root":
                terms.append(PoseSpacePrior(column, weights[part.name]))
        if stage.articulated and self.prior is not None:
            terms += [PosePrior(extra, stage.extra) for extra in self.prior.extra]
        if num_shape:
            belief = None if self.prior is None else self.prior.shape
            std = None if belief is None else belief.std.to(observed.weights)
            terms.append(CoefficientPrior("betas", stage.shape, observed.shape, std))
        if num_expression:
            terms.append(CoefficientPrior("expression", stage.expression))
        if self.has_root and "pelvis" in self.body.skeleton.names:
            up = self.body.template.new_tensor([0.0, -1.0, 0.0])
            terms.append(Upright(up, observed.upright))
        return BodyProblem(
            self.body,
            [spaces[row] for row in active],
            terms,
            num_shape=num_shape,
            num_expression=num_expression,
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
        total = weights.sum(-1)
        reprojection = torch.where(total > 0, (weights * error).sum(-1) / total, math.nan)
        status = torch.where(observed.usable, solution.status, int(Status.NO_EVIDENCE))
        return FittedPeople(params, solution.cost, status, iterations, reprojection)


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
