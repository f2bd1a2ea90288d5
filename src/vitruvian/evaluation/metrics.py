"""Errors of bodies and keypoints, in millimetres and pixels, as the field reports them."""

import torch
from jaxtyping import Float
from torch import Tensor

MM = 1000.0


def procrustes_align(
    points: Float[Tensor, "*batch point 3"], target: Float[Tensor, "*batch point 3"]
) -> Float[Tensor, "*batch point 3"]:
    """`points` moved onto `target` by the best similarity: rotation, scale and translation (Umeyama 1991)."""
    mean, target_mean = points.mean(-2, keepdim=True), target.mean(-2, keepdim=True)
    centred, target_centred = points - mean, target - target_mean
    U, S, Vh = torch.linalg.svd(centred.transpose(-1, -2) @ target_centred)
    sign = torch.linalg.det(U @ Vh).sign()
    flip = torch.ones_like(S)
    flip[..., -1] = torch.where(sign == 0, torch.ones_like(sign), sign)
    R = (U * flip[..., None, :]) @ Vh
    eps = torch.finfo(points.dtype).tiny ** 0.5
    scale = (S * flip).sum(-1) / (centred * centred).sum((-1, -2)).clamp_min(eps)
    return scale[..., None, None] * centred @ R + target_mean


def point_error_mm(
    points: Float[Tensor, "*batch point 3"], target: Float[Tensor, "*batch point 3"]
) -> Float[Tensor, "*batch"]:
    """Mean distance of corresponding points: v2v (PVE) for vertices, MPJPE for joints already aligned at the root."""
    return (points - target).norm(dim=-1).mean(-1) * MM


def mpjpe_mm(
    joints: Float[Tensor, "*batch joint 3"], target: Float[Tensor, "*batch joint 3"], *, root: int = 0
) -> Float[Tensor, "*batch"]:
    """Mean per-joint position error after moving both roots to the origin."""
    return point_error_mm(joints - joints[..., root : root + 1, :], target - target[..., root : root + 1, :])


def pa_error_mm(
    points: Float[Tensor, "*batch point 3"], target: Float[Tensor, "*batch point 3"]
) -> Float[Tensor, "*batch"]:
    """Mean distance after Procrustes alignment: PA-MPJPE for joints, PA-v2v for vertices."""
    return point_error_mm(procrustes_align(points, target), target)


def best_of(errors: Float[Tensor, "*batch sample"]) -> Float[Tensor, "*batch"]:
    """Smallest error among the samples of each item."""
    return errors.amin(-1)


def pck(
    points: Float[Tensor, "*batch point 3"], target: Float[Tensor, "*batch point 3"], *, threshold_mm: float = 150.0
) -> Float[Tensor, "*batch"]:
    """Share of points within a distance of their target (3DPCK)."""
    return ((points - target).norm(dim=-1) * MM <= threshold_mm).to(points.dtype).mean(-1)


def coverage(
    truth: Float[Tensor, "*batch value"], samples: Float[Tensor, "sample *batch value"], *, level: float
) -> Float[Tensor, ""]:
    """Share of true values inside the central interval that holds `level` of the samples; `level` if calibrated."""
    tail = (1 - level) / 2
    low, high = torch.quantile(samples, torch.tensor([tail, 1 - tail], dtype=samples.dtype), dim=0)
    return ((truth >= low) & (truth <= high)).to(samples.dtype).mean()
