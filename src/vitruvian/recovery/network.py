"""The network of ProHMR from keypoints: encoder, heads, and conditional flows over body and hands."""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitruvian.flows import FlowConfig, FlowDistribution, Glow
from vitruvian.keypoints.canonical import canonical_format
from vitruvian.recovery.chart import BODY, CHART_SIZE
from vitruvian.recovery.heads import HeadOutput, KeypointEncoder, PoseHead
from vitruvian.recovery.refinement import PointedBody, Posed, Refiner, Rig, rig_rows
from vitruvian.recovery.views import View, local_points, num_view_features, view_features

_SIDES = ("left", "right")


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the network."""

    hidden: int = 768
    """Width of the encoder."""
    num_blocks: int = 2
    """Residual blocks of the encoder."""
    num_context: int = 384
    """Length of the context."""
    dropout: float = 0.0
    """Dropout of the encoder."""
    num_shape: int = 10
    num_expression: int = 10
    head_hidden: int = 384
    """Width of the heads."""
    num_refinements: int = 2
    """Corrections of the estimate that look back at the keypoints."""
    refine_hidden: int = 512
    """Width of the networks that correct."""
    flow: FlowConfig = field(
        default_factory=lambda: FlowConfig(
            num_features=CHART_SIZE, context_features=384, num_layers=6, hidden=160, num_blocks=1, scale_hidden=192
        )
    )
    """Flow over the body; its context has `num_context` numbers."""
    hand_hidden: int = 256
    """Width of the hand encoder."""
    num_hand_context: int = 128
    """Length of the context of a hand."""
    num_hand: int = 24
    """Components of a hand."""
    hand_flow: FlowConfig = field(
        default_factory=lambda: FlowConfig(
            num_features=24, context_features=128, num_layers=4, hidden=96, num_blocks=1, scale_hidden=128
        )
    )
    """Flow over the coefficients of one hand."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "flow", replace(self.flow, num_features=CHART_SIZE, context_features=self.num_context))
        object.__setattr__(
            self,
            "hand_flow",
            replace(self.hand_flow, num_features=self.num_hand, context_features=self.num_hand_context),
        )


@dataclass(frozen=True, eq=False)
class Estimate:
    """Point estimates of each person in their virtual camera, from the first to the last correction.

    Attributes:
        context: what the flows are conditioned on.
        heads: base pose, shape, face and place; one more than there are corrections.
        posed: joints and keypoints of each of them.
    """

    context: Float[Tensor, "*batch context"]
    heads: tuple[HeadOutput, ...]
    posed: tuple[Posed, ...]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the network says of each person, in their virtual camera.

    Attributes:
        estimate: the point estimates; the last is the origin of the chart.
        body: distribution of chart coordinates (see recovery/chart.py).
        hands: distribution of hand coefficients; its batch is `(*batch, 2)`, left and right.
    """

    estimate: Estimate
    body: FlowDistribution
    hands: FlowDistribution

    @property
    def head(self) -> HeadOutput:
        """Base pose, shape, face and place after the last correction."""
        return self.estimate.heads[-1]

    @property
    def base_world(self) -> Float[Tensor, "*batch 22 3 3"]:
        """World rotations of the base pose, the origin of the chart."""
        return self.estimate.posed[-1].G


class HandEncoder(nn.Module):
    """Context of one hand from its keypoints, its wrist's rotation and the body's context; left hands are mirrored.

    Args:
        num_body_context: length of the body's context.
        hidden: width.
        num_context: length of the result.
    """

    def __init__(self, num_body_context: int, *, hidden: int, num_context: int) -> None:
        super().__init__()
        self.from_body = nn.ModuleList(nn.Linear(num_body_context, 32) for _ in _SIDES)
        self.net = nn.Sequential(
            nn.Linear(21 * 4 + 1 + 1 + 9 + 32, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, num_context), nn.SiLU(),
        )  # fmt: skip
        groups = canonical_format().groups
        self._rows = tuple(list(groups[f"{side}_hand"]) for side in _SIDES)
        self._wrists = tuple(BODY.index(f"{side}_wrist") for side in _SIDES)

    def forward(
        self, view: View, world: Float[Tensor, "*batch 22 3 3"], context: Float[Tensor, "*batch context"]
    ) -> Float[Tensor, "*batch 2 hand_context"]:
        inputs = []
        flip_points = view.points.new_tensor([-1.0, 1.0])
        flip_rotation = view.points.new_tensor([[1.0, -1.0, -1.0], [-1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]])
        for side, (rows, wrist) in enumerate(zip(self._rows, self._wrists, strict=True)):
            confidence = view.confidence[..., rows]
            points, scale = local_points(view.points[..., rows, :], confidence)
            rotation = world[..., wrist, :, :]
            if side == 0:
                points, rotation = points * flip_points, rotation * flip_rotation
            inputs.append(
                torch.cat(
                    (
                        points.flatten(-2),
                        confidence,
                        (confidence > 0).to(points.dtype),
                        scale,
                        torch.log(view.half_size)[..., None],
                        rotation.flatten(-2),
                        self.from_body[side](context).to(points.dtype),
                    ),
                    dim=-1,
                )
            )
        return self.net(torch.stack(inputs, dim=-2))


class PoseRegressor(nn.Module):
    """From views of people to a context and point estimates.

    Args:
        config: sizes.
        body: the body whose keypoints are compared with those of the picture; zeros, to be loaded, if None.
    """

    def __init__(self, config: NetworkConfig, body: PointedBody | None = None) -> None:
        super().__init__()
        self.encoder = KeypointEncoder(
            num_view_features(),
            hidden=config.hidden,
            num_blocks=config.num_blocks,
            num_context=config.num_context,
            dropout=config.dropout,
        )
        self.head = PoseHead(
            config.num_context,
            hidden=config.head_hidden,
            num_shape=config.num_shape,
            num_expression=config.num_expression,
        )
        self.rig = Rig(body or PointedBody.empty(num_shape=config.num_shape))
        self.refiners = nn.ModuleList(
            Refiner(
                config.num_context,
                num_points=len(rig_rows()),
                num_shape=config.num_shape,
                hidden=config.refine_hidden,
            )
            for _ in range(config.num_refinements)
        )

    def forward(self, view: View) -> Estimate:
        """The estimates of all people."""
        context = self.encoder(view_features(view))
        heads = [self.head(context)]
        posed = [self._pose(heads[0])]
        for refiner in self.refiners:
            context, head = refiner(view, self.rig, context, heads[-1], posed[-1])
            heads.append(head)
            posed.append(self._pose(head))
        return Estimate(context, tuple(heads), tuple(posed))

    def _pose(self, head: HeadOutput) -> Posed:
        with torch.autocast(head.betas.device.type, enabled=False):
            return self.rig.pose(head.rotations, head.betas)


class PoseNetwork(nn.Module):
    """From views of people to the distribution of their poses.

    Args:
        config: sizes.
        body: see `PoseRegressor`.
    """

    def __init__(self, config: NetworkConfig | None = None, body: PointedBody | None = None) -> None:
        super().__init__()
        self.config = config = config or NetworkConfig()
        self.regressor = PoseRegressor(config, body)
        self.flow = Glow(config.flow)
        self.hand_encoder = HandEncoder(
            config.num_context, hidden=config.hand_hidden, num_context=config.num_hand_context
        )
        self.hand_flow = Glow(config.hand_flow)

    @property
    def shape_std(self) -> Float[Tensor, "shape"]:
        """How far true shapes lie from the estimate, in standard deviations of people."""
        return self.regressor.head.shape_std

    def forward(self, view: View) -> Prediction:
        """Distribution and point estimates for each person."""
        estimate = self.regressor(view)
        # The hands learn from the body's context and do not change it: few hands are seen well.
        hands = self.hand_context(view, estimate, detached=True)
        return Prediction(estimate, self.flow(estimate.context), self.hand_flow(hands))

    def hand_context(
        self, view: View, estimate: Estimate, *, detached: bool = False
    ) -> Float[Tensor, "*batch 2 hand_context"]:
        """Context of the flow over hands, left and right; `detached` keeps gradients from the body."""
        world, context = estimate.posed[-1].G, estimate.context
        if detached:
            world, context = world.detach(), context.detach()
        return self.hand_encoder(view, world, context)
