"""Learns the open body from sampled registrations and writes its files and its card (`vitruvian body learn`)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.bodies.families import GENDERS, SMPLX_KEYPOINT_VERTICES
from vitruvian.bodies.skeletons import SMPLX
from vitruvian.body_learning.card import make_card, measure_body, write_card
from vitruvian.body_learning.joint_rings import joint_rings
from vitruvian.body_learning.landmark_tables import LandmarkTables, face_landmark_tables
from vitruvian.body_learning.learning import (
    LinearSpace,
    fit_joint_regressor,
    fit_pose_correctives,
    fit_skinning_weights,
    influence_from_weights,
    principal_components,
)
from vitruvian.body_learning.people import (
    SEGMENTS,
    LearnBodyConfig,
    Progress,
    Registrations,
    Topology,
    make_topology,
    no_progress,
    posed_batches,
    sample_people,
)
from vitruvian.body_learning.registration_posing import RegistrationPoser, smoothing_operator
from vitruvian.body_learning.registrations_anny import AnnySource, RestBodies
from vitruvian.body_learning.training_poses import random_rotations
from vitruvian.body_learning.writing import LearntBody, write_body


def learn_open_body(config: LearnBodyConfig, *, progress: Progress = no_progress) -> dict[str, Any]:
    """Learn the open body from Anny's registrations and write its files and card into `config.output`.

    Returns:
        The card: data, licences, configuration, version and the figures on held-out bodies and poses.

    Raises:
        MissingPackageError: the build extra is not installed.
        OutputError: the folder cannot be written.
    """
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


def learn_body_parts(
    config: LearnBodyConfig,
    source: AnnySource,
    topology: Topology,
    people: dict[str, Registrations],
    poser: RegistrationPoser,
    progress: Progress = no_progress,
) -> LearntBody:
    """All parts of the body from registrations of both sexes (keys `female` and `male`)."""
    both = torch.cat((people["female"].vertices, people["male"].vertices))
    joints = torch.cat((people["female"].joints, people["male"].joints))
    shapes = {}
    for gender in GENDERS:
        progress(f"shape space, {gender}", 0.0)
        shapes[gender] = principal_components(
            both if gender == "neutral" else people[gender].vertices, config.num_shape
        )
    progress("joint regressor", 0.0)
    every = torch.arange(0, len(both), max(1, len(both) // 400))
    rings = joint_rings(SMPLX, both.mean(0), joints.mean(0), topology.painted_weights)
    regressor = fit_joint_regressor(both[every], joints[every], allowed=rings)
    everyone = Registrations(
        RestBodies(
            *(
                torch.cat([getattr(people[g].source, k) for g in ("female", "male")])
                for k in ("vertices", "joints", "tips")
            )
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


def learn_expression(source: AnnySource, topology: Topology, config: LearnBodyConfig) -> LinearSpace:
    """Expression components; their origin is the neutral face, not the mean expression."""
    generator = torch.Generator().manual_seed(config.seed + 5)
    offsets, _ = source.expressions(config.expression_samples, generator=generator)
    space = principal_components(offsets[:, topology.order].float(), config.num_expression)
    return LinearSpace(torch.zeros_like(space.mean), space.dirs, space.explained)


def locate_landmarks(topology: Topology, template: Float[Tensor, "vertex 3"]) -> LandmarkTables:
    vertices, faces = template.double().numpy(), topology.faces.numpy()
    weights = topology.painted_weights
    eye = weights[:, [SMPLX.index("left_eye"), SMPLX.index("right_eye")]].sum(1) > 0.9
    head = weights[:, [SMPLX.index("head"), SMPLX.index("jaw"), SMPLX.index("neck")]].sum(1) > 0.9
    head &= template[:, 1] > template[int(SMPLX_KEYPOINT_VERTICES["nose"]), 1] - 0.16
    eye_faces = eye[topology.faces].all(1).nonzero()[:, 0].numpy()
    head_faces = (head[topology.faces].all(1) & ~eye[topology.faces].any(1)).nonzero()[:, 0].numpy()
    lower_jaw = (weights[:, SMPLX.index("jaw")][topology.faces].mean(1) > 0.5).numpy()
    return face_landmark_tables(vertices, faces, head_faces, eyes=eye_faces, lower_jaw=lower_jaw)


def widened(topology: Topology, weights: Float[Tensor, "vertex joint"]) -> Float[Tensor, "vertex joint"]:
    """Weights spread over the surface about as far as the smooth poser carries the influence of a joint."""
    operator = smoothing_operator(topology.faces, len(weights), torch.zeros(len(weights), 3))
    spread = weights
    for _ in range(16):
        spread = operator @ spread
    return torch.maximum(weights, spread * (1 - topology.rigid)[:, None])


def always_together() -> list[list[int]]:
    """For each joint, the joints that share its bone by twist: the wrist with the elbow, the ankle with the knee."""
    companions: list[list[int]] = [[] for _ in SMPLX.names]
    for segment in SEGMENTS:
        if segment.carries_far:
            companions[SMPLX.index(segment.near)].append(SMPLX.index(segment.far))
    return companions
