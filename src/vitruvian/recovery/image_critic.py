"""The discriminator of poses and shapes (HMR, Kanazawa et al. 2018; ProHMR): an output a joint, one each for the rest.

Least squares GAN: real poses shall score 1, those of the network 0.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call


class ImageCritic(nn.Module):
    """Scores of local rotations and shapes: one for each joint below the root, the shape, and the whole pose.

    Args:
        num_joints: joints below the root; 23 for SMPL, which makes the published 25 outputs.
        num_shape: shape coefficients.
        features: features of a joint.
        hidden: width of the network on the whole pose.
    """

    def __init__(self, *, num_joints: int = 23, num_shape: int = 10, features: int = 32, hidden: int = 1024) -> None:
        super().__init__()
        self.num_joints = num_joints
        # Convolutions of size one along the joints: every joint goes through the same layers.
        self.embed = nn.Sequential(nn.Conv2d(9, features, 1), nn.ReLU(), nn.Conv2d(features, features, 1), nn.ReLU())
        self.joints = nn.ModuleList(nn.Linear(features, 1) for _ in range(num_joints))
        self.shape = nn.Sequential(nn.Linear(num_shape, 10), nn.ReLU(), nn.Linear(10, 5), nn.ReLU(), nn.Linear(5, 1))
        self.whole = nn.Sequential(
            nn.Linear(features * num_joints, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, 1),
        )  # fmt: skip

    def forward(
        self, rotations: Float[Tensor, "batch joint 3 3"], betas: Float[Tensor, "batch shape"]
    ) -> Float[Tensor, "batch output"]:
        """Scores; the first rotation, that of the root, does not count."""
        features = self.embed(rotations[:, 1:].flatten(-2).transpose(1, 2)[:, :, None])[:, :, 0]
        joints = [score(features[..., row]) for row, score in enumerate(self.joints)]
        return torch.cat((*joints, self.shape(betas), self.whole(features.flatten(1))), dim=-1)

    def loss(self, fake: tuple[Tensor, Tensor], real: tuple[Tensor, Tensor]) -> Tensor:
        """Of the discriminator itself: sums over its outputs, means over rotations and shapes of both kinds."""
        fakes, reals = self(*(x.detach() for x in fake)), self(*real)
        return fakes.square().sum(-1).mean() + (reals - 1).square().sum(-1).mean()


def adversarial_loss(critic: ImageCritic, rotations: Tensor, betas: Tensor) -> Tensor:
    """Of the network that makes poses; the discriminator gets no gradient of it."""
    frozen = {name: value.detach() for name, value in critic.named_parameters()}
    scores = functional_call(critic, frozen, (rotations, betas))
    return (scores - 1).square().sum(-1).mean()
