"""Left and right treated alike: a network read twice, once in a mirror, so that the mirrored picture has the mirrored
answer.

Both readings have a mode; the answer's mode is their middle. The density about it is that of the reading with the lower
entropy, so the mirrored person has that of the mirrored reading: mode, density and samples all obey the law, with any
weights.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitruvian.bodies.skeletons import BODY_JOINTS
from vitruvian.flow_layers import Conditioning, FlowLayer, Tangents
from vitruvian.geometry.rotations import exp_so3, geodesic_angle
from vitruvian.keypoints.canonical import canonical_format
from vitruvian.keypoints.places import mirror_place
from vitruvian.recovery.chart import NUM_BODY, turns_of_chart
from vitruvian.recovery.heads import pelvis_position
from vitruvian.recovery.network import PoseNetwork
from vitruvian.recovery.views import View
from vitruvian.tensors import BatchRecord, concatenate_records

_LARGEST_DIFFERENCE_RAD = 1.2
"""Readings of which a bone differs by more than this are of two minds; their middle would be neither."""


@dataclass(frozen=True, eq=False)
class Reading(BatchRecord):
    """What the network says of people in their virtual cameras, the same for left and right.

    Attributes:
        context: context of the body flow.
        hand_context: context of the hand flow, left and right.
        base_world: world rotations of the base pose, the origin of the chart.
        mirrored: people whose flow speaks of chart coordinates in the mirror.
        betas, expression, jaw, pelvis: point estimates; the pelvis in the virtual camera frame, metres.
    """

    context: Float[Tensor, "batch context"]
    hand_context: Float[Tensor, "batch 2 hand_context"]
    base_world: Float[Tensor, "batch 22 3 3"]
    mirrored: Bool[Tensor, "batch"]
    betas: Float[Tensor, "batch shape"]
    expression: Float[Tensor, "batch expression"]
    jaw: Float[Tensor, "batch 3"]
    pelvis: Float[Tensor, "batch 3"]


class Mirror(FlowLayer):
    """Chart coordinates of the mirrored pose, for the people that its conditioning marks; its own inverse.

    Limbs change sides, and turns about the vertical and the optical axis change their sign.
    """

    def __init__(self, mirrored: Bool[Tensor, "batch"]) -> None:
        super().__init__()
        self.mirrored = mirrored

    def condition(self, context: Tensor) -> Conditioning:
        return (self.mirrored,)

    def _where_marked(self, x: Tensor, mirrored: Tensor) -> Tensor:
        return torch.where(mirrored[..., None], mirrored_chart(x), x)

    def to_latent(self, x: Tensor, conditioning: Conditioning) -> Tensor:
        return self._where_marked(x, conditioning[0])

    def from_latent(self, y: Tensor, conditioning: Conditioning) -> Tensor:
        return self._where_marked(y, conditioning[0])

    def log_det(self, conditioning: Conditioning) -> Tensor:
        return torch.zeros((), device=conditioning[0].device)

    def differential(self, y: Tangents, conditioning: Conditioning) -> Tangents:
        mirrored = conditioning[0]
        return Tangents(self._where_marked(y.value, mirrored), self._where_marked(y.rows, mirrored[..., None]))


@lru_cache(maxsize=8)
def _swap(device: torch.device) -> Tensor:
    return torch.tensor([BODY_JOINTS.index(mirror_place(name)) for name in BODY_JOINTS], device=device)


def mirrored_chart(w: Float[Tensor, "*batch 66"]) -> Float[Tensor, "*batch 66"]:
    """Chart coordinates of the mirrored pose about the mirrored base pose."""
    turns = w.unflatten(-1, (NUM_BODY, 3))[..., _swap(w.device), :]
    return (turns * w.new_tensor([1.0, -1.0, -1.0])).flatten(-2)


def mirrored_rotations(rotations: Float[Tensor, "*batch 22 3 3"]) -> Float[Tensor, "*batch 22 3 3"]:
    """World or local rotations of the 22 joints of the mirrored pose."""
    sign = rotations.new_tensor([-1.0, 1.0, 1.0])
    return (sign[:, None] * rotations * sign)[..., _swap(rotations.device), :, :]


def mirrored_view(view: View) -> View:
    """The view of the mirrored person in the mirrored picture."""
    flip = list(canonical_format().flip)
    across = view.points.new_tensor([-1.0, 1.0, 1.0])
    return View(
        across[:, None] * view.R_camera_view * across,
        view.half_size,
        view.points[..., flip, :] * across[:2],
        view.confidence[..., flip],
        view.gravity * across,
    )


@torch.no_grad()
def read_both_ways(network: PoseNetwork, view: View) -> Reading:
    """Read people and their mirror images, and bring both readings together.

    Where a bone of the two modes differs by more than 69°, the surer reading stands alone.
    """
    count = len(view.half_size)
    both = concatenate_records([view, mirrored_view(view)])
    estimate = network.regressor(both)
    flow = network.flow(estimate.context)
    turns = exp_so3(turns_of_chart(flow.mode))
    modes = turns @ estimate.posed[-1].G
    head = estimate.heads[-1]
    pelvis = pelvis_position(head.place, both.half_size)
    hand_context = network.hand_context(both, estimate)

    across = pelvis.new_tensor([-1.0, 1.0, 1.0])
    mirrored = flow.entropy[count:] < flow.entropy[:count]
    own, other = modes[:count], mirrored_rotations(modes[count:])
    agree = geodesic_angle(own, other).amax(-1) < _LARGEST_DIFFERENCE_RAD
    weight = torch.where(agree, 0.5, torch.where(mirrored, 0.0, 1.0)).to(pelvis)

    def middle(a: Tensor, b: Tensor) -> Tensor:
        w = weight.view(-1, *[1] * (a.dim() - 1))
        return w * a + (1 - w) * b

    def chosen(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(mirrored.view(-1, *[1] * (a.dim() - 1)), b, a)

    mode = nearest_rotation(middle(own, other))
    rows = torch.arange(count, device=mirrored.device) + count * mirrored
    shift = chosen(turns[:count], mirrored_rotations(turns[count:]))
    return Reading(
        context=estimate.context[rows],
        hand_context=chosen(hand_context[:count], hand_context[count:].flip(1)),
        base_world=shift.transpose(-1, -2) @ mode,
        mirrored=mirrored,
        betas=middle(head.betas[:count], head.betas[count:]),
        expression=middle(head.expression[:count], head.expression[count:]),
        jaw=middle(head.jaw[:count], head.jaw[count:] * -across),
        pelvis=middle(pelvis[:count], pelvis[count:] * across),
    )


def nearest_rotation(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation nearest to a matrix, the chordal mean where that is a mean of rotations (Hartley et al. 2013)."""
    U, _, Vh = torch.linalg.svd(matrix)
    det = torch.linalg.det(U @ Vh)
    flip = torch.stack((torch.ones_like(det), torch.ones_like(det), det), dim=-1)
    return (U * flip[..., None, :]) @ Vh
