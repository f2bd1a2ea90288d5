"""How well an image network does on people whose pose is known."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vitruvian.recovery.image_losses import Figure
from vitruvian.recovery.image_network import ImageNetwork
from vitruvian.tensors import TensorRecord
from vitruvian.training.image_batch import ViewedCrops

NUM_SAMPLES = 8
_MM = 1000.0


@dataclass(frozen=True, eq=False)
class ImageScores(TensorRecord):
    """Means over people.

    Attributes:
        mode_mm: error of the mode's joints, pelvis on pelvis.
        best_mm: of the best of the mode and eight samples.
        nats: negative log-likelihood of the true pose, per number.
        shape_std: root mean square error of each shape coefficient.
    """

    mode_mm: Float[Tensor, ""]
    best_mm: Float[Tensor, ""]
    nats: Float[Tensor, ""]
    shape_std: Float[Tensor, "shape"]

    def values(self) -> dict[str, float]:
        """For logs."""
        return {name: float(getattr(self, name)) for name in ("mode_mm", "best_mm", "nats")}


@torch.no_grad()
def score(network: ImageNetwork, figure: Figure, crops: Iterable[ViewedCrops]) -> ImageScores:
    """Scores over some batches, in evaluation mode; joints without truth do not count."""
    training = network.training
    network.eval()
    modes, best, nats, shapes = [], [], [], []
    for batch in crops:
        targets = batch.targets
        prediction = network(batch.view, batch.normalized())
        generator = torch.Generator().manual_seed(0)
        latent = torch.randn(
            1 + NUM_SAMPLES, *targets.rotations.shape[:1], prediction.flow.num_features, generator=generator
        )
        latent[0] = 0
        features = prediction.flow.from_latent(latent.to(prediction.betas))
        joints = figure.pose(network.coordinates.rotations(features, prediction.base), prediction.betas).joints
        errors = (joints - joints[..., :1, :] - (targets.joints - targets.joints[:, :1])).norm(dim=-1)
        known = targets.joints_confidence
        errors = (errors * known).sum(-1) / known.sum(-1).clamp_min(1e-6)
        rows = known.sum(-1) > 0
        modes.append(errors[0, rows])
        best.append(errors.amin(0)[rows])
        truth = network.coordinates.features(targets.rotations, prediction.base)
        log_prob = prediction.flow.log_prob(truth) / truth.shape[-1]
        nats.append(-log_prob[targets.has_pose])
        shapes.append((prediction.betas - targets.betas)[targets.has_shape])
    network.train(training)
    together = torch.cat(shapes)
    std = together.square().mean(0).sqrt() if len(together) else torch.ones_like(network.shape_std)
    return ImageScores(_MM * _mean(modes), _MM * _mean(best), _mean(nats), std)


def _mean(values: list[Tensor]) -> Tensor:
    together = torch.cat(values)
    return together.mean() if len(together) else together.new_full((), torch.nan)
