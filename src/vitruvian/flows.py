"""Conditional normalizing flow: calling it with a context gives a distribution whose mode is exactly z = 0.

The flow stacks ActNorm, LU-parametrised linear maps and additive couplings (Glow with additive couplings, as in ProHMR,
Kolotouros et al. 2021). Its Jacobian never depends on the data, so log p(x | c) = log N(z; 0, I) + log-det(c), and
z = 0 has the highest density. In the paper the log-determinant is one constant for all contexts; here the scales of
ActNorm may come from the context, so the entropy follows the evidence and the mode stays exact. Two such layers do,
next to the data and next to the latent: one at every level multiplies up, and training then breaks down.
"""

import math
from copy import copy
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitruvian.errors import InputError
from vitruvian.flow_layers import (
    ActNorm,
    AdditiveCoupling,
    Conditioning,
    ContextResidualNet,
    FlowLayer,
    LULinear,
    NormalizedResidualNet,
    Tangents,
)


@dataclass(frozen=True)
class FlowConfig:
    """Size of a flow."""

    num_features: int
    """D, dimension of the data and of the latent."""
    context_features: int
    """Size of the context; 0 gives an unconditional flow."""
    num_layers: int = 4
    """Repetitions of ActNorm, linear, coupling."""
    hidden: int = 1024
    """Width of the coupling networks."""
    num_blocks: int = 2
    """Residual blocks of a coupling network."""
    dropout: float = 0.0
    """Dropout probability in the coupling networks."""
    context_scales: bool = True
    """Let scales at both ends of the flow come from the context; False is the flow of the paper."""
    scale_hidden: int = 256
    """Width of the hidden layer between context and scales."""
    coupling: Literal["gated", "normalized"] = "gated"
    """Coupling networks: ours, gated by the context, or those of ProHMR with batch normalisation."""


class Glow(nn.Module):
    """Conditional flow over D numbers.

    Raises:
        InputError: fewer than two features, which a coupling cannot split.
    """

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        if config.num_features < 2:
            raise InputError("a coupling flow needs two features or more", seen=config.num_features)
        self.config = config
        layers: list[FlowLayer] = []
        for number in range(config.num_layers):
            norm = self._norm(from_context=config.context_scales and number == 0)
            layers += [norm, LULinear(config.num_features), self._coupling(number)]
        if config.context_scales:
            layers.append(self._norm(from_context=True))
        self.layers = nn.ModuleList(layers)

    def _norm(self, *, from_context: bool) -> ActNorm:
        config = self.config
        context = config.context_features if from_context else 0
        return ActNorm(config.num_features, context_features=context, hidden=config.scale_hidden)

    def _coupling(self, number: int) -> AdditiveCoupling:
        config = self.config
        # Its values are looked at while the network is made, which on the device "meta" has no values.
        mask = torch.arange(config.num_features, device="cpu") % 2 == number % 2
        passed = (config.num_features + 1 - number % 2) // 2
        kind = ContextResidualNet if config.coupling == "gated" else NormalizedResidualNet
        network = kind(
            passed,
            config.num_features - passed,
            context_features=config.context_features,
            hidden=config.hidden,
            num_blocks=config.num_blocks,
            dropout=config.dropout,
        )
        return AdditiveCoupling(mask, network)

    def forward(self, context: Float[Tensor, "*batch context"]) -> "FlowDistribution":
        """The distribution of x given the context."""
        return FlowDistribution(self, context)


class FlowDistribution:
    """Distribution of x given one context per batch item; sample axes lead the batch axes.

    Made by calling a `Glow`; holds what its layers need of the context, so that many samples share that work.
    """

    def __init__(self, flow: Glow, context: Float[Tensor, "*batch context"]) -> None:
        self._layers: tuple[FlowLayer, ...] = tuple(layer for layer in flow.layers if isinstance(layer, FlowLayer))
        self._conditioning: tuple[Conditioning, ...] = tuple(layer.condition(context) for layer in self._layers)
        self.num_features = flow.config.num_features
        self.batch_shape = context.shape[:-1]
        self._like = next(flow.parameters())

    def behind(self, layer: FlowLayer) -> "FlowDistribution":
        """The distribution of data that `layer` brings to the data of this one."""
        longer = copy(self)
        longer._layers = (layer, *self._layers)
        longer._conditioning = (layer.condition(self._empty()), *self._conditioning)
        return longer

    def select(self, index: Int[Tensor, "kept"]) -> "FlowDistribution":
        """The distributions of some of the batch items, without running the conditioning nets again."""
        kept = copy(self)
        pairs = zip(self._layers, self._conditioning, strict=True)
        kept._conditioning = tuple(layer.select(conditioning, index) for layer, conditioning in pairs)
        kept.batch_shape = torch.Size((len(index), *self.batch_shape[1:]))
        return kept

    def _empty(self, *shape: int) -> Tensor:
        return self._like.new_zeros(*shape, *self.batch_shape, self.num_features)

    def to_latent(self, x: Float[Tensor, "*sample_batch D"]) -> Float[Tensor, "*sample_batch D"]:
        """z of data x."""
        for layer, conditioning in zip(self._layers, self._conditioning, strict=True):
            x = layer.to_latent(x, conditioning)
        return x

    def from_latent(self, z: Float[Tensor, "*sample_batch D"]) -> Float[Tensor, "*sample_batch D"]:
        """x of a latent z; the inverse of `to_latent`."""
        for layer, conditioning in zip(reversed(self._layers), reversed(self._conditioning), strict=True):
            z = layer.from_latent(z, conditioning)
        return z

    def from_latent_with_differential(
        self, z: Float[Tensor, "*sample_batch D"]
    ) -> tuple[Float[Tensor, "*sample_batch D"], Float[Tensor, "*sample_batch D D"]]:
        """x of z, and ∂x/∂z with rows over x and columns over z; tangents in closed form, no autograd."""
        identity = torch.eye(self.num_features, dtype=z.dtype, device=z.device)
        state = Tangents(z, identity.expand(*z.shape[:-1], -1, -1))
        for layer, conditioning in zip(reversed(self._layers), reversed(self._conditioning), strict=True):
            state = layer.differential(state, conditioning)
        return state.value, state.rows.transpose(-1, -2)

    @property
    def log_det(self) -> Float[Tensor, "*batch"]:
        """log |det ∂z/∂x|: it depends on the context alone."""
        total = self._empty()[..., 0]
        for layer, conditioning in zip(self._layers, self._conditioning, strict=True):
            total = total + layer.log_det(conditioning)
        return total

    @property
    def entropy(self) -> Float[Tensor, "*batch"]:
        """Differential entropy in nats, exact: D/2 (1 + log 2π) − log-det."""
        return 0.5 * self.num_features * (1 + math.log(2 * math.pi)) - self.log_det

    @property
    def mode(self) -> Float[Tensor, "*batch D"]:
        """The point of highest density, x(z = 0)."""
        return self.from_latent(self._empty())

    def log_prob(self, x: Float[Tensor, "*sample_batch D"]) -> Float[Tensor, "*sample_batch"]:
        """Log-density of x, in nats."""
        return self.log_prob_of_latent(self.to_latent(x))

    def log_prob_of_latent(self, z: Float[Tensor, "*sample_batch D"]) -> Float[Tensor, "*sample_batch"]:
        """Log-density of the x that has this latent."""
        normal = -0.5 * (z * z).sum(-1) - 0.5 * self.num_features * math.log(2 * math.pi)
        # Read after `to_latent`: a first training batch sets the scales of ActNorm there.
        return normal + self.log_det

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Float[Tensor, "sample *batch D"]:
        """Independent samples; gradients pass to the flow and the context."""
        return self.from_latent(self.sample_latent(num_samples, generator=generator))

    def sample_latent(
        self, num_samples: int, *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "sample *batch D"]:
        """Latents of independent samples: unit Gaussian."""
        return self._empty(num_samples).normal_(generator=generator)
