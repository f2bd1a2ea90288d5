"""Learns the open body from sampled registrations and writes its files and its card (`vitruvian body learn`)."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitruvian.bodies.families import GENDERS, SMPLX_KEYPOINT_VERTICES
from vitruvian.bodies.hand_bases import synergy_hand_basis
from vitruvian.bodies.joint_rings import joint_rings
from vitruvian.bodies.landmark_tables import LandmarkTables, face_landmark_tables
from vitruvian.bodies.learning import (
    LinearSpace,
    LocalCorrectives,
    PosedRegistrations,
    fit_joint_regressor,
    fit_pose_correctives,
    fit_skinning_weights,
    influence_from_weights,
    principal_components,
)
from vitruvian.bodies.open_body import TOPOLOGY_FILE, Quantised, shape_file
from vitruvian.bodies.registration_posing import RegistrationPoser, TwistSegment, make_poser, smoothing_operator
from vitruvian.bodies.registrations_anny import AdultSampling, AnnySource, RestBodies
from vitruvian.bodies.rest_pose import local_rotations, t_pose_joints, t_pose_rotations
from vitruvian.bodies.skeletons import SMPLX
from vitruvian.bodies.skinning import forward_kinematics
from vitruvian.bodies.training_poses import random_rotations
from vitruvian.errors import OutputError

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
    corrective_slots: int = 4
    """Joints that may correct one vertex."""
    corrective_ridge: float = 0.02
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
class LearntBody:
    """All parts of the open body, unrounded."""

    topology: Topology
    shapes: dict[str, LinearSpace]
    expression: LinearSpace
    regressor: Float[Tensor, "joint vertex"]
    weights: Float[Tensor, "vertex joint"]
    correctives: LocalCorrectives
    landmarks: LandmarkTables


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
    painted = source.initial_weights()[order].float()
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
        bodies = source.adults(
            min(100, count - start), sampling=config.sampling, generator=generator, gender=gender
        )
        parts.append((bodies.vertices[:, order].float(), bodies.joints.float(), bodies.tips.float()))
    return RestBodies(*(torch.cat(column) for column in zip(*parts, strict=True)))


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


def learn_expression(source: AnnySource, topology: Topology, config: LearnBodyConfig) -> LinearSpace:
    """Expression components; their origin is the neutral face, not the mean expression."""
    generator = torch.Generator().manual_seed(config.seed + 5)
    offsets, _ = source.expressions(config.expression_samples, generator=generator)
    space = principal_components(offsets[:, topology.order].float(), config.num_expression)
    return LinearSpace(torch.zeros_like(space.mean), space.dirs, space.explained)


def always_together() -> list[list[int]]:
    """For each joint, the joints that share its bone by twist: the wrist with the elbow, the ankle with the knee."""
    companions: list[list[int]] = [[] for _ in SMPLX.names]
    for segment in SEGMENTS:
        if segment.carries_far:
            companions[SMPLX.index(segment.near)].append(SMPLX.index(segment.far))
    return companions


def _ignore(step: str, share: float) -> None:
    pass


def learn_body_parts(
    config: LearnBodyConfig,
    source: AnnySource,
    topology: Topology,
    people: dict[str, Registrations],
    poser: RegistrationPoser,
    progress: Progress = _ignore,
) -> LearntBody:
    """All parts of the body from registrations of both sexes (keys `female` and `male`)."""
    both = torch.cat((people["female"].vertices, people["male"].vertices))
    joints = torch.cat((people["female"].joints, people["male"].joints))
    shapes = {}
    for gender in GENDERS:
        progress(f"shape space, {gender}", 0.0)
        shapes[gender] = principal_components(both if gender == "neutral" else people[gender].vertices, config.num_shape)
    progress("joint regressor", 0.0)
    every = torch.arange(0, len(both), max(1, len(both) // 400))
    rings = joint_rings(SMPLX, both.mean(0), joints.mean(0), topology.painted_weights)
    regressor = fit_joint_regressor(both[every], joints[every], allowed=rings)
    everyone = Registrations(
        RestBodies(
            *(torch.cat([getattr(people[g].source, k) for g in ("female", "male")]) for k in ("vertices", "joints", "tips"))
        ),
        torch.cat([people[g].to_t_pose for g in ("female", "male")]),
        both,
        joints,
    )
    rotations = random_rotations(config.posed_bodies, generator=torch.Generator().manual_seed(config.seed + 6))
    batches = []
    for batch in posed_batches(poser, everyone, rotations):
        batches.append(batch)
        progress("posing", len(batches) * 10 / config.posed_bodies)
    progress("skinning weights", 0.0)
    weights = fit_skinning_weights(SMPLX, batches, topology.painted_weights)
    progress("pose correctives", 0.0)
    reach = widened(topology, weights)
    influence = influence_from_weights(reach, always=always_together(), slots=config.corrective_slots)
    correctives = fit_pose_correctives(SMPLX, batches, weights, influence, ridge=config.corrective_ridge)
    progress("face landmarks", 0.0)
    landmarks = locate_landmarks(topology, shapes["neutral"].mean)
    return LearntBody(
        topology, shapes, learn_expression(source, topology, config), regressor, weights, correctives, landmarks
    )


def widened(topology: Topology, weights: Float[Tensor, "vertex joint"]) -> Float[Tensor, "vertex joint"]:
    """Weights spread over the surface about as far as the smooth poser carries the influence of a joint."""
    operator = smoothing_operator(topology.faces, len(weights), torch.zeros(len(weights), 3))
    spread = weights
    for _ in range(16):
        spread = operator @ spread
    return torch.maximum(weights, spread * (1 - topology.rigid)[:, None])


def locate_landmarks(topology: Topology, template: Float[Tensor, "vertex 3"]) -> LandmarkTables:
    vertices, faces = template.double().numpy(), topology.faces.numpy()
    weights = topology.painted_weights
    eye = weights[:, [SMPLX.index("left_eye"), SMPLX.index("right_eye")]].sum(1) > 0.9
    head = weights[:, [SMPLX.index("head"), SMPLX.index("jaw"), SMPLX.index("neck")]].sum(1) > 0.9
    head &= template[:, 1] > template[int(SMPLX_KEYPOINT_VERTICES["nose"]), 1] - 0.16
    eye_faces = eye[topology.faces].all(1).nonzero()[:, 0].numpy()
    head_faces = (head[topology.faces].all(1) & ~eye[topology.faces].any(1)).nonzero()[:, 0].numpy()
    return face_landmark_tables(vertices, faces, head_faces, eyes=eye_faces)


def sample_people(
    config: LearnBodyConfig, source: AnnySource, topology: Topology, progress: Progress = _ignore
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
    poser = BodyPoser(
        make_body_poser(topology, sampled["female", False], iterations=config.mush_iterations), anchors
    )
    registered = {
        key: to_t_pose(poser.poser, bodies, progress, f"T-pose, {key[0]}") for key, bodies in sampled.items()
    }
    genders = ("female", "male")
    return {g: registered[g, False] for g in genders}, {g: registered[g, True] for g in genders}, poser


def learn_open_body(config: LearnBodyConfig, *, progress: Progress = _ignore) -> dict[str, Any]:
    """Learn the open body from Anny's registrations and write its files and card into `config.output`.

    Returns:
        The card: data, licences, configuration, version and the figures on held-out bodies and poses.

    Raises:
        MissingPackageError: the build extra is not installed.
        OutputError: the folder cannot be written.
    """
    from vitruvian.bodies.open_body_card import make_card, measure_body, write_card

    progress("loading Anny", 0.0)
    source = AnnySource()
    topology = make_topology(source, smoothing=config.weight_smoothing)
    people, held_out, poser = sample_people(config, source, topology, progress)
    body = learn_body_parts(config, source, topology, people, poser.poser, progress)
    write_body(body, config.output)
    progress("measuring", 0.0)
    figures = measure_body(body, held_out, poser, config, source, folder=config.output)
    card = make_card(config, source.version, figures)
    write_card(card, config.output)
    return card


def write_body(body: LearntBody, folder: Path) -> None:
    """Write `topology.npz` and the three `shape_<gender>.npz`.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(folder / TOPOLOGY_FILE, **_topology_arrays(body))
        for gender, space in body.shapes.items():
            dirs = Quantised.of(space.dirs.numpy())
            np.savez_compressed(
                folder / shape_file(gender),
                template=space.mean.numpy().astype(np.float32),
                shape_dirs=dirs.integers,
                shape_scales=dirs.scales,
                explained=space.explained.numpy().astype(np.float32),
            )
    except OSError as error:
        raise OutputError("the body cannot be written", seen=str(error), expected=f"a writable {folder}") from error


def _topology_arrays(body: LearntBody) -> dict[str, np.ndarray]:
    topology = body.topology
    expression = body.expression.dirs.numpy()
    moved = np.abs(expression).max((1, 2)) > 1e-6
    expression_dirs = Quantised.of(expression[moved])
    joints = body.correctives.joints
    vertex, slot = (joints > 0).nonzero(as_tuple=True)
    dirs = body.correctives.dirs[vertex, slot]
    felt = dirs.abs().amax((1, 2)) > 5e-5
    corrective = Quantised.of(dirs[felt].numpy())
    rows, columns = body.regressor.nonzero(as_tuple=True)
    skin, bones = body.weights.topk(6, dim=1)
    hands = {}
    for side in ("left", "right"):
        mean, components = synergy_hand_basis(side)
        hands[f"hands_mean{side[0]}"] = mean.astype(np.float32)
        hands[f"hands_components{side[0]}"] = components.astype(np.float32)
    return {
        "faces": topology.faces.numpy().astype(np.uint16),
        "uv": np.round(topology.uv.numpy().clip(0, 1) * np.iinfo(np.uint16).max).astype(np.uint16),
        "uv_faces": topology.uv_faces.numpy().astype(np.uint16),
        "skin_joints": bones.numpy().astype(np.uint8),
        "skin_weights": np.round(skin.numpy() * np.iinfo(np.uint16).max).astype(np.uint16),
        "regressor_rows": rows.numpy().astype(np.uint8),
        "regressor_columns": columns.numpy().astype(np.uint16),
        "regressor_values": body.regressor[rows, columns].numpy().astype(np.float32),
        "expression_vertices": moved.nonzero()[0].astype(np.uint16),
        "expression_dirs": expression_dirs.integers,
        "expression_scales": expression_dirs.scales,
        "expression_explained": body.expression.explained.numpy().astype(np.float32),
        "corrective_vertices": vertex[felt].numpy().astype(np.uint16),
        "corrective_joints": joints[vertex, slot][felt].numpy().astype(np.uint8),
        "corrective_dirs": corrective.integers,
        "corrective_scales": corrective.scales,
        "lmk_faces_idx": body.landmarks.lmk_faces_idx.astype(np.uint16),
        "lmk_bary_coords": body.landmarks.lmk_bary_coords.astype(np.float32),
        "dynamic_lmk_faces_idx": body.landmarks.dynamic_lmk_faces_idx.astype(np.uint16),
        "dynamic_lmk_bary_coords": body.landmarks.dynamic_lmk_bary_coords.astype(np.float32),
        "part_names": np.array(SMPLX.names),
        "vertex_parts": body.weights.argmax(1).numpy().astype(np.uint8),
        **hands,
    }


def config_as_json(config: LearnBodyConfig) -> dict[str, Any]:
    """The configuration without the output folder, as plain values."""
    values = asdict(config)
    del values["output"]
    out: dict[str, Any] = json.loads(json.dumps(values))
    return out
