"""Learns the parts of a statistical body model from registered meshes, by the way SMPL-X was learnt from scans.

Any set of registrations serves: meshes of one topology with known joints (shape), offsets from a neutral face
(expression), and posed meshes with their rotations (skinning weights, pose correctives).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitruvian.bodies.skeletons import Skeleton
from vitruvian.bodies.skinning import forward_kinematics, pose_features
from vitruvian.errors import InputError, MissingPackageError


@dataclass(frozen=True, eq=False)
class LinearSpace:
    """A mean and directions in order of variance; one unit of a coefficient is one standard deviation."""

    mean: Float[Tensor, "vertex 3"]
    dirs: Float[Tensor, "vertex 3 component"]
    explained: Float[Tensor, "component"]
    """Share of the total variance that each direction carries."""


@dataclass(frozen=True, eq=False)
class PosedRegistrations:
    """Meshes of people in known poses, with the same people in the rest pose."""

    rest: Float[Tensor, "body vertex 3"]
    rest_joints: Float[Tensor, "body joint 3"]
    rotations: Float[Tensor, "body joint 3 3"]
    vertices: Float[Tensor, "body vertex 3"]


def principal_components(samples: Float[Tensor, "sample vertex 3"], num_components: int) -> LinearSpace:
    """Principal components of registered meshes in one pose.

    The sign of each direction is fixed so that its largest coordinate change is positive in height (or, for a
    direction without height, in its largest entry): the result is deterministic.

    Raises:
        InputError: fewer samples than components, or numbers that are not finite.
    """
    count = samples.shape[0]
    if count <= num_components:
        raise InputError("too few registrations", seen=count, expected=f"more than {num_components}")
    if not torch.isfinite(samples).all():
        raise InputError("registrations hold numbers that are not finite")
    mean = samples.mean(0)
    centred = (samples - mean).flatten(1).to(torch.float64)
    gram = centred @ centred.T / (count - 1)
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(0)[:num_components].clamp_min(0), vectors.flip(1)[:, :num_components]
    # With centred = U S Vᵀ, a direction of one standard deviation is centredᵀ u / sqrt(count − 1).
    dirs = (centred.T @ vectors / (count - 1) ** 0.5).unflatten(0, mean.shape)
    heights = dirs[:, 1].amax(0) - dirs[:, 1].amin(0)
    taller = dirs[:, 1].gather(0, dirs[:, 1].abs().argmax(0)[None])[0]
    top = samples.mean(0)[:, 1].argmax()
    taller = torch.where(heights > 0, dirs[top, 1], taller)
    largest = dirs.flatten(0, 1).gather(0, dirs.flatten(0, 1).abs().argmax(0)[None])[0]
    sign = torch.where(taller.abs() > 0.05 * largest.abs(), taller.sign(), largest.sign())
    return LinearSpace(mean, (dirs * sign).to(samples), (values / gram.trace()).to(samples))


def project(
    space: LinearSpace, samples: Float[Tensor, "sample vertex 3"], *, num_components: int | None = None
) -> Float[Tensor, "sample component"]:
    """Coefficients, in standard deviations, of the nearest bodies of a space (least squares)."""
    dirs = space.dirs[..., :num_components].flatten(0, 1)
    return torch.linalg.lstsq(dirs, (samples - space.mean).flatten(1).T).solution.T


def fit_joint_regressor(
    vertices: Float[Tensor, "body vertex 3"],
    joints: Float[Tensor, "body joint 3"],
    *,
    allowed: Tensor | None = None,
    num_candidates: int = 600,
    ridge: float = 0.01,
) -> Float[Tensor, "joint vertex"]:
    """Sparse regressor of the joints: each row is non-negative, sums to one, and uses vertices around its joint.

    Non-negative least squares over the registrations, as for SMPL's regressor.

    Args:
        allowed: `(J, V)` booleans, vertices that may serve a joint; all by default.
        ridge: regularisation relative to the distance of the candidates; more spreads a row over more vertices.
    """
    try:
        from scipy.optimize import nnls
    except ImportError as error:
        raise MissingPackageError(
            "learning a joint regressor needs scipy", hint='pip install "vitruvian[build]"'
        ) from error
    num_bodies, num_vertices = vertices.shape[:2]
    distance = torch.cdist(joints.mean(0), vertices.mean(0))
    if allowed is not None:
        distance = distance.masked_fill(~allowed, torch.inf)
    regressor = torch.zeros(joints.shape[1], num_vertices, dtype=torch.float64)
    # The problem is homogeneous: any weight of the row that asks for the sum one gives the same directions, and one of
    # the size of the other entries keeps it well conditioned.
    one = 0.1 * num_bodies**0.5
    for j in range(joints.shape[1]):
        count = min(num_candidates, int(torch.isfinite(distance[j]).sum()))
        ids = distance[j].topk(count, largest=False).indices
        system = vertices[:, ids].transpose(1, 2).reshape(-1, len(ids)) - joints[:, j].reshape(-1, 1)
        spread = ridge * float(distance[j, ids].mean()) * num_bodies**0.5
        rows = [system, torch.full((1, len(ids)), one).to(system), spread * torch.eye(len(ids))]
        matrix = torch.cat([r.to(torch.float64) for r in rows]).numpy()
        target = np.zeros(len(matrix))
        target[3 * num_bodies] = one
        weights = torch.from_numpy(nnls(matrix, target, maxiter=20 * len(ids))[0])
        weights = torch.where(weights < 1e-4, 0.0, weights)
        regressor[j, ids] = weights / weights.sum()
    return regressor


def bone_transforms(skeleton: Skeleton, registrations: PosedRegistrations) -> Float[Tensor, "body joint 3 4"]:
    """Transforms that take each body's rest pose to its pose, bone by bone."""
    G, joints = forward_kinematics(skeleton, registrations.rotations, registrations.rest_joints)
    shift = joints - (G @ registrations.rest_joints[..., None])[..., 0]
    return torch.cat((G, shift[..., None]), dim=-1)


def fit_skinning_weights(
    skeleton: Skeleton,
    batches: Iterable[PosedRegistrations],
    initial: Float[Tensor, "vertex joint"],
    *,
    max_bones: int = 6,
    prior: float = 0.02,
    steps: int = 400,
) -> Float[Tensor, "vertex joint"]:
    """Weights, non-negative and summing to one, whose linear blend skinning comes nearest to the posed meshes.

    Each vertex chooses among the `max_bones` joints of largest initial weight. Projected gradient descent on the
    simplex, all vertices at once.

    Args:
        initial: weights to start from, and to stay near where the poses do not tell.
        prior: metres that a unit of change from the initial weights is worth.
    """
    start, candidates = initial.topk(max_bones, dim=1)
    start = start / start.sum(1, keepdim=True)
    gram = torch.zeros(len(initial), max_bones, max_bones, dtype=initial.dtype)
    right = torch.zeros(len(initial), max_bones, dtype=initial.dtype)
    count = 0
    for batch in batches:
        A = bone_transforms(skeleton, batch)
        for body in range(len(A)):
            moved = torch.einsum("vkij,vj->vki", A[body][candidates][..., :3], batch.rest[body])
            moved = moved + A[body][candidates][..., 3] - batch.vertices[body][:, None]
            gram += moved @ moved.mT
        count += len(A)
    # Since the weights sum to one, |Σ w_k x_k − y|² = wᵀ G w with G of x_k − y.
    gram = gram / count + prior**2 * torch.eye(max_bones)
    right = prior**2 * start
    usable = start > 0
    weights = start.clone()
    step = 1.0 / torch.linalg.eigvalsh(gram)[:, -1:].clamp_min(1e-9)
    for _ in range(steps):
        gradient = (gram @ weights[..., None])[..., 0] - right
        weights = _onto_simplex(weights - step * gradient, usable)
    out = torch.zeros_like(initial)
    return out.scatter_(1, candidates, weights)


def _onto_simplex(points: Float[Tensor, "row k"], usable: Tensor) -> Float[Tensor, "row k"]:
    """Nearest points with non-negative entries that sum to one; unusable entries stay zero."""
    masked = torch.where(usable, points, -1e6)
    ordered = masked.sort(dim=1, descending=True).values
    excess = (ordered.cumsum(1) - 1) / torch.arange(1, points.shape[1] + 1).to(points)
    last = (ordered > excess).sum(1, keepdim=True) - 1
    return (masked - excess.gather(1, last)).clamp_min(0)


@dataclass(frozen=True, eq=False)
class LocalCorrectives:
    """Pose correctives in which each vertex answers to few joints (those of the features R − I without the root)."""

    joints: Int[Tensor, "vertex slot"]
    """Joint rows (root = 0) whose rotation moves the vertex; −1 where a slot is empty."""
    dirs: Float[Tensor, "vertex slot 3 9"]


def fit_pose_correctives(
    skeleton: Skeleton,
    batches: Iterable[PosedRegistrations],
    weights: Float[Tensor, "vertex joint"],
    influence: Int[Tensor, "vertex slot"],
    *,
    ridge: float = 0.02,
) -> LocalCorrectives:
    """Offsets in the rest pose, linear in R − I of nearby joints, that bring skinning to the posed meshes.

    Ridge regression per vertex on the rest-pose offsets that would make skinning exact. No constant term: the rest
    pose stays as it is.

    Args:
        influence: joint rows per vertex that may move it, −1 for empty slots.
        ridge: regularisation relative to the mean variance of a feature.
    """
    features, offsets = [], []
    for batch in batches:
        features.append(pose_features(batch.rotations))
        offsets.append(rest_offsets(skeleton, batch, weights))
    X, Y = torch.cat(features), torch.cat(offsets)
    gram = X.T @ X / len(X)
    scale = gram.diagonal().clamp_min(1e-6)
    dirs = torch.zeros(*influence.shape, 3, 9)
    sets, members = torch.unique(influence, dim=0, return_inverse=True)
    for row, slots in enumerate(sets):
        joints = slots[slots > 0]
        if len(joints) == 0:
            continue
        columns = ((joints[:, None] - 1) * 9 + torch.arange(9)).flatten()
        ids = (members == row).nonzero()[:, 0]
        system = gram[columns][:, columns] + ridge * torch.diag(scale[columns].mean().expand(len(columns)))
        target = X[:, columns].T @ Y[:, ids].flatten(1) / len(X)
        solved = torch.linalg.solve(system.double(), target.double()).to(dirs)
        solved = solved.unflatten(1, (len(ids), 3)).unflatten(0, (len(joints), 9))
        filled = (slots > 0).nonzero()[:, 0]
        dirs[ids[:, None], filled] = solved.permute(2, 0, 3, 1)
    return LocalCorrectives(influence, dirs)


def rest_offsets(
    skeleton: Skeleton, registrations: PosedRegistrations, weights: Float[Tensor, "vertex joint"]
) -> Float[Tensor, "body vertex 3"]:
    """Offsets in the rest pose with which linear blend skinning gives the posed meshes.

    Where skinning collapses (its blended matrix is nearly singular) the least damped solution is returned.
    """
    A = bone_transforms(skeleton, registrations)
    out = []
    for body in range(len(A)):
        blended = (weights @ A[body].flatten(1)).unflatten(1, (3, 4))
        M = blended[..., :3]
        missing = registrations.vertices[body] - (M @ registrations.rest[body][..., None])[..., 0] - blended[..., 3]
        damped = M.mT @ M + 0.05 * torch.eye(3).to(M)
        out.append(torch.linalg.solve(damped, (M.mT @ missing[..., None]))[..., 0])
    return torch.stack(out)


def influence_from_weights(
    weights: Float[Tensor, "vertex joint"],
    *,
    always: Sequence[Sequence[int]] = (),
    threshold: float = 0.02,
    slots: int = 4,
) -> Int[Tensor, "vertex slot"]:
    """The joints (root excluded) that may correct each vertex: those of largest (widened) weight.

    Args:
        always: for each joint, further joints that come with it (the wrist for the vertices of the forearm).
    """
    reach = weights.clone()
    for joint, companions in enumerate(always):
        for companion in companions:
            reach[:, companion] = torch.maximum(reach[:, companion], 0.5 * weights[:, joint])
    reach[:, 0] = 0
    value, chosen = reach.topk(min(slots, reach.shape[1]), dim=1)
    return torch.where(value > threshold, chosen, -1).sort(dim=1, descending=True).values
