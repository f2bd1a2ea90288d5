"""Baselines of ProHMR on the same encoder: deterministic regression, mixture density network, conditional VAE.

All give chart coordinates (recovery/chart.py) about a base pose, and samples of them, so that they are
compared with the flow on equal terms.
"""

import math
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vitruvian.flows import FlowConfig, Glow
from vitruvian.recovery.chart import CHART_SIZE

Generator = torch.Generator | None


@runtime_checkable
class ChartModel(Protocol):
    """A distribution of chart coordinates given a context."""

    def point(self, context: Float[Tensor, "batch context"]) -> Float[Tensor, "batch 66"]:
        """The point estimate."""
        ...

    def sample(
        self, context: Float[Tensor, "batch context"], num_samples: int, generator: Generator
    ) -> Float[Tensor, "sample batch 66"]:
        """Independent samples."""
        ...

    def loss(
        self, context: Float[Tensor, "batch context"], chart: Float[Tensor, "batch 66"], generator: Generator
    ) -> Tensor:
        """Loss per dimension at the true coordinates."""
        ...


class ConstantFlow(nn.Module):
    """The flow of the paper: scales of ActNorm that are the same for every picture."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.flow = Glow(config)

    def point(self, context: Tensor) -> Tensor:
        return self.flow(context).mode

    def sample(self, context: Tensor, num_samples: int, generator: Generator) -> Tensor:
        return self.flow(context).sample(num_samples, generator=generator)

    def loss(self, context: Tensor, chart: Tensor, generator: Generator) -> Tensor:
        return -self.flow(context).log_prob(chart).mean() / CHART_SIZE


class MixtureDensity(nn.Module):
    """Mixture of Gaussians with diagonal covariance, all of whose parameters come from the context (Bishop 1994).

    Args:
        num_context: length of the context.
        num_components: Gaussians.
        hidden: width of the hidden layer.
    """

    def __init__(self, num_context: int, *, num_components: int = 8, hidden: int = 512) -> None:
        super().__init__()
        self.num_components = num_components
        self.net = nn.Sequential(
            nn.Linear(num_context, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, num_components * (2 * CHART_SIZE + 1)),
        )  # fmt: skip
        last = self.net[-1]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=0.01)

    def _parameters_of(self, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        out = self.net(context).float().unflatten(-1, (self.num_components, -1))
        mean, log_scale, logit = out.split((CHART_SIZE, CHART_SIZE, 1), dim=-1)
        return mean, 5 * torch.tanh((log_scale - 1.5) / 5), F.log_softmax(logit[..., 0], dim=-1)

    def point(self, context: Tensor) -> Tensor:
        """Mean of the most likely component."""
        mean, _, log_weight = self._parameters_of(context)
        best = log_weight.argmax(-1)
        return mean[torch.arange(len(mean)), best]

    def sample(self, context: Tensor, num_samples: int, generator: Generator) -> Tensor:
        mean, log_scale, log_weight = self._parameters_of(context)
        chosen = torch.multinomial(log_weight.exp(), num_samples, replacement=True, generator=generator).T
        rows = torch.arange(len(mean))
        noise = torch.randn(num_samples, len(mean), CHART_SIZE, generator=generator)
        return mean[rows, chosen] + log_scale[rows, chosen].exp() * noise

    def loss(self, context: Tensor, chart: Tensor, generator: Generator) -> Tensor:
        mean, log_scale, log_weight = self._parameters_of(context)
        z = (chart[:, None] - mean) * torch.exp(-log_scale)
        log_prob = -0.5 * (z * z).sum(-1) - log_scale.sum(-1) - 0.5 * CHART_SIZE * math.log(2 * math.pi)
        return -torch.logsumexp(log_prob + log_weight, dim=-1).mean() / CHART_SIZE


class ConditionalVAE(nn.Module):
    """Conditional variational autoencoder (Sohn et al. 2015) with a unit Gaussian prior.

    Args:
        num_context: length of the context.
        num_latent: size of the latent.
        hidden: width of encoder and decoder.
        spread: standard deviation (radians) of the decoder's Gaussian.
    """

    def __init__(self, num_context: int, *, num_latent: int = 32, hidden: int = 512, spread: float = 0.1) -> None:
        super().__init__()
        self.num_latent = num_latent
        self.spread = spread
        self.encoder = nn.Sequential(
            nn.Linear(num_context + CHART_SIZE, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, 2 * num_latent),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(num_context + num_latent, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, CHART_SIZE),
        )  # fmt: skip

    def point(self, context: Tensor) -> Tensor:
        """Decoding of the latent zero."""
        zero = context.new_zeros(*context.shape[:-1], self.num_latent)
        return self.decoder(torch.cat((context, zero), dim=-1)).float()

    def sample(self, context: Tensor, num_samples: int, generator: Generator) -> Tensor:
        latent = torch.randn(num_samples, len(context), self.num_latent, generator=generator)
        expanded = context.expand(num_samples, *context.shape)
        return self.decoder(torch.cat((expanded, latent), dim=-1)).float()

    def loss(self, context: Tensor, chart: Tensor, generator: Generator) -> Tensor:
        mean, log_scale = self.encoder(torch.cat((context, chart), dim=-1)).float().chunk(2, dim=-1)
        log_scale = log_scale.clamp(-6, 3)
        latent = mean + log_scale.exp() * torch.randn(mean.shape, generator=generator).to(mean)
        rebuilt = self.decoder(torch.cat((context, latent), dim=-1)).float()
        kl = 0.5 * (mean.square() + (2 * log_scale).exp() - 1 - 2 * log_scale).sum(-1).mean()
        fit = 0.5 * ((rebuilt - chart) / self.spread).square().sum(-1).mean()
        return (fit + kl) / CHART_SIZE
