"""Targets on a body for the keypoints of a format: which point of the body each keypoint shows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitruvian.bodies.model import BodyModel
from vitruvian.bodies.points import SkinnedPoints
from vitruvian.errors import InputError
from vitruvian.keypoints.formats import GROUPS, get_format
from vitruvian.keypoints.surface_targets import face_mesh_points
from vitruvian.keypoints.target_rules import Rule, default_weight, rules_for
from vitruvian.tensors import TensorRecord


@dataclass(frozen=True, eq=False)
class KeypointTargets(TensorRecord):
    """N points that follow a body, each the target of one keypoint of a format.

    Keypoints for which the body has no target (fingers on a body without hands) are left out, so N ≤ K.

    Attributes:
        format: name of the keypoint format.
        keypoint: index in the format of the keypoint that each point is the target of.
        group: its group, as a row of `formats.GROUPS`.
        weight: how much it counts in a fit by default, besides its confidence.
        points: the points, for `PosedBody.points` and for the solver.
    """

    format: str
    keypoint: Int[Tensor, "point"]
    group: Int[Tensor, "point"]
    weight: Float[Tensor, "point"]
    points: SkinnedPoints

    def __len__(self) -> int:
        return self.keypoint.shape[0]

    @property
    def names(self) -> tuple[str, ...]:
        names = get_format(self.format).names
        return tuple(names[row] for row in self.keypoint.tolist())

    def find(self, name: str) -> int | None:
        """Row of the target of a keypoint by name or place; None where the body has no target for it."""
        row = get_format(self.format).index(name)
        rows = (self.keypoint == row).nonzero()
        return int(rows[0, 0]) if len(rows) else None

    def select(self, keep: Int[Tensor, "kept"]) -> "KeypointTargets":
        """Only some of the targets, in the order given."""
        return replace(
            self,
            keypoint=self.keypoint[keep],
            group=self.group[keep],
            weight=self.weight[keep],
            points=self.points.select(keep),
        )

    def fitted(self) -> "KeypointTargets":
        """Only the targets that count in a fit by default."""
        return self.select(self.weight.nonzero()[:, 0])


def keypoint_targets(model: BodyModel, format: str) -> KeypointTargets:
    """The targets of a format's keypoints on a body.

    Raises:
        InputError: the format is unknown, or the body has no target for any of its keypoints.
    """
    definition = get_format(format)
    mesh = face_mesh_points(model.faces)
    found = []
    for row, name in enumerate(definition.names):
        combination = Combination(mesh[name], ()) if name in mesh else find_target(model, name)
        if combination is not None:
            found.append((row, combination))
    if not found:
        raise InputError(f"the {model.family} model has none of the keypoints of the format {definition.name}")
    group_of = {row: k for k, group in enumerate(GROUPS) for row in definition.groups[group]}
    rows = [row for row, _ in found]
    device = model.device
    return KeypointTargets(
        format=definition.name,
        keypoint=torch.tensor(rows, device=device),
        group=torch.tensor([group_of[row] for row in rows], device=device),
        weight=model.template.new_tensor([default_weight(definition.names[row], family=model.family) for row in rows]),
        points=combined_points(model, [combination for _, combination in found]),
    )


@dataclass(frozen=True)
class Combination:
    """A rule resolved on one body: weights of vertices and of joints, by index."""

    vertices: tuple[tuple[int, float], ...]
    joints: tuple[tuple[int, float], ...]


def find_target(model: BodyModel, name: str) -> Combination | None:
    """The best rule of a keypoint that the body has all sources of; None if it has those of none."""
    for rule in rules_for(name, family=model.family):
        combination = resolve_rule(model, rule)
        if combination is not None:
            return combination
    return None


def resolve_rule(model: BodyModel, rule: Rule) -> Combination | None:
    """Look up the sources of a rule on a body; None where it lacks one of them."""
    vertices: list[tuple[int, float]] = []
    joints: list[tuple[int, float]] = []
    for source, weight in rule.items():
        kind, _, name = source.rpartition(":")
        if not kind:
            if name not in model.skeleton.names:
                return None
            joints.append((model.skeleton.index(name), weight))
            continue
        corners = _surface_point(model, kind, name)
        if corners is None:
            return None
        vertices += [(vertex, weight * share) for vertex, share in corners]
    return Combination(tuple(vertices), tuple(joints))


def _surface_point(model: BodyModel, kind: str, name: str) -> tuple[tuple[int, float], ...] | None:
    if kind == "vertex":
        if name in model.vertex_ids:
            return ((model.vertex_ids[name], 1.0),)
        top = _head_top(model) if name == "head_top" else None
        return None if top is None else ((top, 1.0),)
    if kind == "landmark":
        return _face_landmark(model, int(name))
    raise InputError("unknown kind of source in a keypoint rule", seen=f"{kind}:{name}", expected="vertex, landmark")


def _head_top(model: BodyModel) -> int | None:
    """The highest vertex of the template among those that move mostly with the head."""
    if "head" not in model.skeleton.names:
        return None
    head = model.skinning_weights.argmax(-1) == model.skeleton.index("head")
    if not bool(head.any()):
        return None
    height = torch.where(head, model.template[:, 1], -torch.inf)
    return int(height.argmax())


def _face_landmark(model: BodyModel, number: int) -> tuple[tuple[int, float], ...] | None:
    """Corners and barycentric weights of a landmark of the 68-point face; the contour as seen from the front."""
    landmarks = model.face_landmarks
    if landmarks is None:
        return None
    if number >= 17:
        corners, weights = landmarks.corners[number - 17], landmarks.barycentric[number - 17]
    elif landmarks.contour_corners is not None and landmarks.contour_barycentric is not None:
        corners, weights = landmarks.contour_corners[0, number], landmarks.contour_barycentric[0, number]
    else:
        return None
    return tuple(zip(corners.tolist(), weights.tolist(), strict=True))


def combined_points(model: BodyModel, combinations: Sequence[Combination]) -> SkinnedPoints:
    """Turn combinations into points that follow the body without its mesh."""
    entries = [(row, v, w) for row, c in enumerate(combinations) for v, w in c.vertices]
    index = torch.tensor([(row, v) for row, v, _ in entries], dtype=torch.long).reshape(-1, 2).T
    values = model.template.new_tensor([w for _, _, w in entries])
    size = (len(combinations), model.num_vertices)
    vertex_weights = torch.sparse_coo_tensor(index.to(model.device), values, size, check_invariants=True)
    joint_weights = model.template.new_zeros(len(combinations), model.num_joints)
    for row, combination in enumerate(combinations):
        for joint, weight in combination.joints:
            joint_weights[row, joint] += weight
    return model.regressed_points(vertex_weights, joint_weights)
