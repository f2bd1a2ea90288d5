"""Samples the people that the open body is learnt from: one topology, joints under the skin, T-pose, random poses."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitruvian.bodies.families import SMPLX_KEYPOINT_VERTICES
from vitruvian.bodies.skeletons import SMPLX
from vitruvian.bodies.skinning import forward_kinematics
from vitruvian.body_learning.joint_rings import joint_rings
from vitruvian.body_learning.learning import PosedRegistrations, fit_joint_regressor
from vitruvian.body_learning.registration_posing import RegistrationPoser, TwistSegment, make_poser, smoothing_operator
from vitruvian.body_learning.registrations_anny import AdultSampling, AnnySource, RestBodies
from vitruvian.body_learning.rest_pose import local_rotations, t_pose_joints, t_pose_rotations

Progress = Callable[[str, float], None]
"""Called with the name of the step at work and the share of it that is done."""

SEGMENTS = tuple(
    segment
    for side in ("left", "right")
    for segment in (
        TwistSegment(f"{side}_shoulder", f"{side}_elbow", carries_far=False, onset=0.0, full=0.9),
        TwistSegment(f"{side}_elbow", f"{side}_wrist", carries_far=True, onset=0.05, full=1.0),
        TwistSegment(f"{side}_hip", f"{side}_knee", carries_far=False, onset=-0.05, full=0.9),
        TwistSegment(f"{side}_knee", f"{side}_ankle", carries_far=True, onset=0.1, full=1.0),
    )
)


def no_progress(step: str, share: float) -> None:
    pass


@dataclass(frozen=True)
class LearnBodyConfig:
    """How the open body is learnt; saved with the result."""

    output: Path = Path("open_body")
    """Folder for the files; made if it does not exist."""
    bodies_per_gender: int = 700
    held_out_per_gender: int = 100
    posed_bodies: int = 900
    held_out_poses: int = 120
    expression_samples: int = 1500
    num_shape: int = 20
    num_expression: int = 24
    weight_smoothing: int = 4
    """Smoothing steps of the painted weights before they are fitted."""
    mush_iterations: int = 12
    corrective_slots: int = 5
    """Joints that may correct one vertex."""
    corrective_ridge: float = 0.003
    seed: int = 2024
    sampling: AdultSampling = field(default_factory=AdultSampling)


@dataclass(frozen=True, eq=False)
class Registrations:
    """Sampled people in T-pose with the pelvis at the origin, and what is needed to pose them again."""

    source: RestBodies
    to_t_pose: Float[Tensor, "body joint 3 3"]
    vertices: Float[Tensor, "body vertex 3"]
    joints: Float[Tensor, "body joint 3"]

    def __len__(self) -> int:
        return len(self.vertices)


@dataclass(frozen=True, eq=False)
class Topology:
    """The mesh that all bodies share, with its vertices in the final order."""

    order: Int[Tensor, "vertex"]
    """For each vertex, its row in the source mesh."""
    faces: Int[Tensor, "face 3"]
    uv: Float[Tensor, "corner 2"]
    uv_faces: Int[Tensor, "face 3"]
    painted_weights: Float[Tensor, "vertex joint"]
    rigid: Float[Tensor, "vertex"]
    """1 on the head, where nothing but joints and expression moves the skin."""


@dataclass(frozen=True, eq=False)
class BodyPoser:
    """The smooth poser of the topology, and the anchors that tell the joints of a body in the source's rest pose."""

    poser: RegistrationPoser
    anchors: Float[Tensor, "joint vertex"]


def published_order(keypoints: dict[str, int], kept: Int[Tensor, "kept"]) -> Int[Tensor, "vertex"]:
    """Order of the kept vertices in which each keypoint lies at the row that SMPL-X publishes for it."""
    fixed = {SMPLX_KEYPOINT_VERTICES[name]: vertex for name, vertex in keypoints.items()}
    others = iter(v for v in kept.tolist() if v not in set(fixed.values()))
    return torch.tensor([fixed[row] if row in fixed else next(others) for row in range(len(kept))])


def make_topology(source: AnnySource, *, smoothing: int) -> Topology:
    """Strip the inner geometry, order the vertices, and smooth the painted weights of body and limbs."""
    order = published_order(source.keypoint_vertices(), source.outer_vertices())
    row = torch.full((int(source.faces.max()) + 1,), -1)
    row[order] = torch.arange(len(order))
    faces = row[source.faces]
    kept = (faces >= 0).all(1)
    painted = without_lids(source.initial_weights()[order].float())
    head = painted[:, [SMPLX.index(n) for n in ("head", "jaw", "left_eye", "right_eye")]].sum(1)
    operator = smoothing_operator(faces[kept], len(order), torch.zeros(len(order), 3))
    smooth = painted
    for _ in range(smoothing):
        smooth = operator @ smooth
    smooth = torch.where(head[:, None] > 0.6, painted, smooth)
    return Topology(
        order=order,
        faces=faces[kept],
        uv=source.uv,
        uv_faces=source.uv_faces[kept],
        painted_weights=smooth / smooth.sum(1, keepdim=True),
        rigid=(1.2 * head).clamp(0, 1),
    )


def without_lids(weights: Float[Tensor, "vertex joint"]) -> Float[Tensor, "vertex joint"]:
    """Weights in which the eyes move their eyeballs alone; the lids are the work of the expression."""
    out = weights.clone()
    eyes = [SMPLX.index("left_eye"), SMPLX.index("right_eye")]
    lids = out[:, eyes].sum(1) < 0.5
    out[lids[:, None] & torch.isin(torch.arange(len(SMPLX)), torch.tensor(eyes))] = 0
    return out / out.sum(1, keepdim=True)


def anchor_joints(
    topology: Topology, bodies: Sequence[RestBodies], *, most: int = 400
) -> Float[Tensor, "joint vertex"]:
    """Joints as fixed averages of the rings of skin around them, nearest on average to the source's joints.

    The source's joints slide along the limbs from body to body; what anatomy, and a regressor, can mean by a joint is
    its place under the skin. The strong regularisation spreads each average over its whole ring.
    """
    vertices, joints = (torch.cat([getattr(b, name) for b in bodies]) for name in ("vertices", "joints"))
    some = torch.arange(0, len(vertices), max(1, len(vertices) // most))
    rings = joint_rings(SMPLX, vertices[some].mean(0), joints[some].mean(0), topology.painted_weights)
    return fit_joint_regressor(vertices[some], joints[some], allowed=rings, ridge=0.3)


def anchored(bodies: RestBodies, anchors: Float[Tensor, "joint vertex"]) -> RestBodies:
    return replace(bodies, joints=torch.einsum("jv,nvk->njk", anchors.to(bodies.vertices), bodies.vertices))


def make_body_poser(topology: Topology, bodies: RestBodies, *, iterations: int) -> RegistrationPoser:
    return make_poser(
        SMPLX,
        topology.faces,
        topology.painted_weights,
        bodies.vertices[0],
        bodies.joints[0],
        segments=SEGMENTS,
        rigid=topology.rigid,
        iterations=iterations,
    )


def to_t_pose(poser: RegistrationPoser, bodies: RestBodies, progress: Progress, step: str) -> Registrations:
    """Bring sampled bodies to the T-pose, pelvis at the origin."""
    G = t_pose_rotations(bodies.joints, bodies.tips)
    local = local_rotations(G)
    vertices = []
    for start in range(0, len(G), 16):
        part = slice(start, start + 16)
        vertices.append(poser.pose(bodies.vertices[part], bodies.joints[part], local[part]))
        progress(step, min(1.0, (start + 16) / len(G)))
    joints = t_pose_joints(bodies.joints, G)
    pelvis = joints[:, :1]
    return Registrations(bodies, G, torch.cat(vertices) - pelvis, joints - pelvis)


def sample_adults(
    source: AnnySource, order: Int[Tensor, "vertex"], count: int, gender: str, config: LearnBodyConfig, seed: int
) -> RestBodies:
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for start in range(0, count, 100):
        bodies = source.adults(min(100, count - start), sampling=config.sampling, generator=generator, gender=gender)
        parts.append((bodies.vertices[:, order].float(), bodies.joints.float(), bodies.tips.float()))
    return RestBodies(*(torch.cat(column) for column in zip(*parts, strict=True)))


def sample_people(
    config: LearnBodyConfig, source: AnnySource, topology: Topology, progress: Progress = no_progress
) -> tuple[dict[str, Registrations], dict[str, Registrations], BodyPoser]:
    """Women and men to learn from, others to measure on, and the poser that brought them to the T-pose."""
    sampled: dict[tuple[str, bool], RestBodies] = {}
    for number, gender in enumerate(("female", "male")):
        for out, count in ((False, config.bodies_per_gender), (True, config.held_out_per_gender)):
            progress(f"sampling, {gender}", 0.0)
            seed = config.seed + number + (10 if out else 0)
            sampled[gender, out] = sample_adults(source, topology.order, count, gender, config, seed)
    progress("anchoring joints", 0.0)
    anchors = anchor_joints(topology, [bodies for (_, out), bodies in sampled.items() if not out])
    sampled = {key: anchored(bodies, anchors) for key, bodies in sampled.items()}
    poser = BodyPoser(make_body_poser(topology, sampled["female", False], iterations=config.mush_iterations), anchors)
    registered = {key: to_t_pose(poser.poser, bodies, progress, f"T-pose, {key[0]}") for key, bodies in sampled.items()}
    genders = ("female", "male")
    return {g: registered[g, False] for g in genders}, {g: registered[g, True] for g in genders}, poser


def posed_batches(
    poser: RegistrationPoser, people: Registrations, rotations: Float[Tensor, "pose joint 3 3"], size: int = 10
) -> Iterator[PosedRegistrations]:
    """Sampled people in the given poses, one person per pose, as posed by the smooth poser from their own rest."""
    for start in range(0, len(rotations), size):
        R = rotations[start : start + size]
        who = torch.arange(start, start + len(R)) * 7919 % len(people)
        rest_joints = people.joints[who]
        G, _ = forward_kinematics(SMPLX, R, rest_joints)
        source_joints = people.source.joints[who]
        from_source = local_rotations(G @ people.to_t_pose[who])
        vertices = poser.pose(people.source.vertices[who], source_joints, from_source)
        # The root turns about its own place, which the T-pose puts at the origin.
        vertices = vertices - source_joints[:, :1]
        yield PosedRegistrations(people.vertices[who], rest_joints, R, vertices)
