"""An untrained network and people of random points, for laws that hold whatever the weights are."""

import torch

from vitruvian.flows import FlowConfig
from vitruvian.geometry.cameras import Camera
from vitruvian.keypoints.canonical import CANONICAL, canonical_format
from vitruvian.keypoints.observations import Keypoints
from vitruvian.recovery.network import NetworkConfig, PoseNetwork

PEOPLE = 3


def small_network() -> PoseNetwork:
    torch.manual_seed(5)
    config = NetworkConfig(
        hidden=32,
        num_blocks=1,
        num_context=16,
        head_hidden=16,
        flow=FlowConfig(66, 16, num_layers=2, hidden=16, num_blocks=1, scale_hidden=8),
        hand_hidden=16,
        num_hand_context=8,
        num_hand=6,
        hand_flow=FlowConfig(6, 8, num_layers=2, hidden=8, num_blocks=1, scale_hidden=8),
    )
    network = PoseNetwork(config).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.03 * torch.randn(parameter.shape, dtype=torch.float64)
    return network.requires_grad_(False)


def people(count: int = PEOPLE) -> tuple[Keypoints, Camera]:
    generator = torch.Generator().manual_seed(2)
    points = len(canonical_format())
    positions = 400 + 150 * torch.randn(count, points, 2, generator=generator, dtype=torch.float64)
    confidence = torch.rand(count, points, generator=generator, dtype=torch.float64)
    one = Camera.from_image_size(1000, 800, dtype=torch.float64)
    return Keypoints(positions, confidence, CANONICAL), one.map(lambda x: x.expand(count, 2))
