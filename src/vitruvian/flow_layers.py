"""Invertible layers whose log-determinant depends on the context alone, each with its forward-mode differential.

Every layer maps data to latent with `to_latent` and back with `from_latent`. What a layer needs of the context is made
once by `condition` and broadcasts over leading sample axes. `differential` pushes tangents of the latent through
`from_latent`: tangents are `(*batch, tangent, D)`, one row per direction.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vitruvian.tensors import LEAST_ROWS, row_product

Conditioning = tuple[Tensor, ...]
BATCH_NORM_EPS = 1e-3
"""Added to the variance in the coupling networks of ProHMR."""


class Tangents(NamedTuple):
    """A value and its derivatives along some directions."""

    value: Float[Tensor, "*batch D"]
    rows: Float[Tensor, "*batch tangent D"]


class FlowLayer(nn.Module):
    """Base of the layers; the defaults are those of a layer that ignores the context."""

    def condition(self, context: Float[Tensor, "*batch context"]) -> Conditioning:
        """What the other methods need of the context, computed once."""
        return ()

    def select(self, conditioning: Conditioning, index: Int[Tensor, "kept"]) -> Conditioning:
        """The conditioning of some of the batch items."""
        return tuple(value[index] for value in conditioning)

    def to_latent(self, x: Tensor, conditioning: Conditioning) -> Float[Tensor, "*batch D"]:
        raise NotImplementedError

    def from_latent(self, y: Tensor, conditioning: Conditioning) -> Float[Tensor, "*batch D"]:
        raise NotImplementedError

    def log_det(self, conditioning: Conditioning) -> Tensor:
        """log |det ∂to_latent/∂x|, a scalar or `(*batch)`: it never depends on x."""
        raise NotImplementedError

    def differential(self, y: Tangents, conditioning: Conditioning) -> Tangents:
        """`from_latent` of a value together with its tangents."""
        raise NotImplementedError


class RowLinear(nn.Linear):
    """A linear layer that gives a row the same bits whatever rows stand beside it (see `row_product`)."""

    def forward(self, input: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch N"]:
        rows = input.reshape(-1, self.in_features)
        missing = LEAST_ROWS - len(rows)
        if missing <= 0:
            return super().forward(input)
        filled = super().forward(F.pad(rows, (0, 0, 0, missing)))
        return filled[: len(rows)].view(*input.shape[:-1], self.out_features)


class ActNorm(FlowLayer):
    """Affine normalisation per feature, y = (x − m) exp(−s), started so that the first batch comes out standardised.

    With a context, m and s each gain a part computed from the context alone; the log-determinant −Σs then follows the
    evidence while z = 0 stays the mode. Without one this is the ActNorm of Glow (Kingma and Dhariwal 2018).

    Args:
        num_features: D.
        context_features: size of the context, or 0 for the unconditional layer.
        hidden: width of the one hidden layer between context and scales.
        bound: largest absolute log-scale that the context can add.
    """

    started: Tensor

    def __init__(self, num_features: int, *, context_features: int = 0, hidden: int = 256, bound: float = 3.0) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(num_features))
        self.log_scale = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("started", torch.tensor(False))
        self.bound = bound
        self.from_context: nn.Sequential | None = None
        if context_features:
            last = RowLinear(hidden, 2 * num_features)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.from_context = nn.Sequential(RowLinear(context_features, hidden), nn.SiLU(), last)

    def condition(self, context: Tensor) -> Conditioning:
        if self.from_context is None:
            return ()
        shift, log_scale = self.from_context(context).to(self.shift.dtype).chunk(2, dim=-1)
        return shift, self.bound * torch.tanh(log_scale / self.bound)

    def _affine(self, conditioning: Conditioning) -> tuple[Tensor, Tensor]:
        if not conditioning:
            return self.shift, self.log_scale
        return self.shift + conditioning[0], self.log_scale + conditioning[1]

    @torch.no_grad()
    def start_from(self, x: Float[Tensor, "*batch D"]) -> None:
        """Set shift and scale so that this batch comes out with zero mean and unit variance."""
        flat = x.detach().reshape(-1, x.shape[-1])
        self.shift.copy_(flat.mean(0))
        self.log_scale.copy_(flat.std(0).clamp_min(1e-4).log())
        self.started.fill_(True)

    def to_latent(self, x: Tensor, conditioning: Conditioning) -> Tensor:
        if self.training and not self.started:
            self.start_from(x)
        shift, log_scale = self._affine(conditioning)
        return (x - shift) * torch.exp(-log_scale)

    def from_latent(self, y: Tensor, conditioning: Conditioning) -> Tensor:
        shift, log_scale = self._affine(conditioning)
        return y * torch.exp(log_scale) + shift

    def log_det(self, conditioning: Conditioning) -> Tensor:
        return -self._affine(conditioning)[1].sum(-1)

    def differential(self, y: Tangents, conditioning: Conditioning) -> Tangents:
        scale = torch.exp(self._affine(conditioning)[1])
        return Tangents(self.from_latent(y.value, conditioning), y.rows * scale[..., None, :])


class LULinear(FlowLayer):
    """Invertible linear map y = L U x + b, L unit lower triangular, U upper triangular with a positive diagonal."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.lower = nn.Parameter(torch.zeros(num_features, num_features))
        self.upper = nn.Parameter(torch.zeros(num_features, num_features))
        self.log_diagonal = nn.Parameter(torch.zeros(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))

    def _factors(self) -> tuple[Tensor, Tensor]:
        identity = torch.eye(len(self.bias), dtype=self.bias.dtype, device=self.bias.device)
        return self.lower.tril(-1) + identity, self.upper.triu(1) + torch.diag(self.log_diagonal.exp())

    def condition(self, context: Tensor) -> Conditioning:
        """The matrix and its inverse, both transposed; they do not depend on the context."""
        with torch.autocast(self.bias.device.type, enabled=False):
            L, U = self._factors()
            identity = torch.eye(len(self.bias), dtype=L.dtype, device=L.device)
            inverse_L = torch.linalg.solve_triangular(L, identity, upper=False, unitriangular=True)
            inverse = torch.linalg.solve_triangular(U, inverse_L, upper=True)
            return (L @ U).T, inverse.T

    def select(self, conditioning: Conditioning, index: Int[Tensor, "kept"]) -> Conditioning:
        return conditioning

    def to_latent(self, x: Tensor, conditioning: Conditioning) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return row_product(x, conditioning[0]) + self.bias

    def from_latent(self, y: Tensor, conditioning: Conditioning) -> Tensor:
        with torch.autocast(y.device.type, enabled=False):
            return row_product(y - self.bias, conditioning[1])

    def log_det(self, conditioning: Conditioning) -> Tensor:
        return self.log_diagonal.sum()

    def differential(self, y: Tangents, conditioning: Conditioning) -> Tangents:
        return Tangents(self.from_latent(y.value, conditioning), y.rows @ conditioning[1])


class ResidualBlock(nn.Module):
    """h + W₂ (gain(context) ∘ σ(W₁ σ(h)))."""

    def __init__(self, hidden: int, *, dropout: float) -> None:
        super().__init__()
        self.first = RowLinear(hidden, hidden)
        self.second = RowLinear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, gain: Tensor) -> Tensor:
        inner = F.silu(self.first(F.silu(h))) * gain
        return h + self.second(self.dropout(inner))

    def differential(self, h: Tangents, gain: Tensor) -> Tangents:
        value, slope = _silu_with_slope(h.value)
        rows = h.rows * slope[..., None, :]
        value, slope = _silu_with_slope(self.first(value))
        rows = (rows @ self.first.weight.T) * (slope * gain)[..., None, :]
        return Tangents(h.value + self.second(value * gain), h.rows + rows @ self.second.weight.T)


class ContextResidualNet(nn.Module):
    """Residual network of the coupling: the context enters at the input, and as the gain of every block.

    Args:
        num_inputs: features that pass unchanged.
        num_outputs: features that are shifted.
        context_features: size of the context.
        hidden: width.
        num_blocks: residual blocks.
        dropout: probability inside the blocks.
    """

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        *,
        context_features: int,
        hidden: int,
        num_blocks: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.hidden = hidden
        self.enter = RowLinear(num_inputs, hidden)
        self.from_context = RowLinear(context_features, hidden * (1 + num_blocks)) if context_features else None
        self.blocks = nn.ModuleList(ResidualBlock(hidden, dropout=dropout) for _ in range(num_blocks))
        self.leave = RowLinear(hidden, num_outputs)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def condition(self, context: Tensor) -> Conditioning:
        """The offset at the input and the gain of each block."""
        if self.from_context is None:
            zero = self.enter.bias.new_zeros(self.hidden)
            return (zero, *(zero + 1 for _ in self.blocks))
        offset, *gains = self.from_context(context).split(self.hidden, dim=-1)
        return (offset, *(1 + gain for gain in gains))

    def forward(self, x: Tensor, conditioning: Conditioning) -> Tensor:
        h = self.enter(x) + conditioning[0]
        for block, gain in zip(self.blocks, conditioning[1:], strict=True):
            h = block(h, gain)
        return self.leave(F.silu(h))

    def differential(self, x: Tangents, conditioning: Conditioning) -> Tangents:
        h = Tangents(self.enter(x.value) + conditioning[0], x.rows @ self.enter.weight.T)
        for block, gain in zip(self.blocks, conditioning[1:], strict=True):
            assert isinstance(block, ResidualBlock)
            h = block.differential(h, gain)
        value, slope = _silu_with_slope(h.value)
        return Tangents(self.leave(value), (h.rows * slope[..., None, :]) @ self.leave.weight.T)


class NormalizedBlock(nn.Module):
    """h + W₂ ReLU(BN(W₁ ReLU(BN(h)))): the residual block of ProHMR as published."""

    def __init__(self, hidden: int, *, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden, eps=BATCH_NORM_EPS) for _ in range(2))
        self.first = nn.Linear(hidden, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor) -> Tensor:
        inner = self.first(F.relu(self._normalized(0, h)))
        return h + self.second(self.dropout(F.relu(self._normalized(1, inner))))

    def _normalized(self, number: int, h: Tensor) -> Tensor:
        return self.norms[number](h.reshape(-1, h.shape[-1])).view(h.shape)

    def _slope(self, number: int) -> Tensor:
        norm = self.norms[number]
        assert isinstance(norm, nn.BatchNorm1d)
        assert norm.running_var is not None
        return norm.weight * (norm.running_var + norm.eps).rsqrt()

    def differential(self, h: Tangents) -> Tangents:
        """In evaluation mode, where the normalisation is an affine map of every feature."""
        value = self._normalized(0, h.value)
        rows = h.rows * (self._slope(0) * (value > 0))[..., None, :]
        inner = self.first(F.relu(value))
        rows = rows @ self.first.weight.T
        value = self._normalized(1, inner)
        rows = rows * (self._slope(1) * (value > 0))[..., None, :]
        return Tangents(h.value + self.second(F.relu(value)), h.rows + rows @ self.second.weight.T)


class NormalizedResidualNet(nn.Module):
    """Coupling network of ProHMR as published: context at the input alone, batch normalisation, ReLU, a linear end.

    The published layer reads features and context side by side; here its matrix lies in two parts, `enter` and
    `from_context`, so that many samples of one person share the second product. Arguments as `ContextResidualNet`.
    """

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        *,
        context_features: int,
        hidden: int,
        num_blocks: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.hidden = hidden
        self.enter = nn.Linear(num_inputs, hidden)
        self.from_context = nn.Linear(context_features, hidden, bias=False) if context_features else None
        self.blocks = nn.ModuleList(NormalizedBlock(hidden, dropout=dropout) for _ in range(num_blocks))
        self.leave = nn.Linear(hidden, num_outputs)
        for block in self.blocks:
            assert isinstance(block, NormalizedBlock)
            nn.init.uniform_(block.second.weight, -1e-3, 1e-3)
            nn.init.uniform_(block.second.bias, -1e-3, 1e-3)

    def condition(self, context: Tensor) -> Conditioning:
        """The offset at the input."""
        if self.from_context is None:
            return (self.enter.bias.new_zeros(self.hidden),)
        return (self.from_context(context),)

    def forward(self, x: Tensor, conditioning: Conditioning) -> Tensor:
        h = self.enter(x) + conditioning[0]
        for block in self.blocks:
            h = block(h)
        return self.leave(h)

    def differential(self, x: Tangents, conditioning: Conditioning) -> Tangents:
        h = Tangents(self.enter(x.value) + conditioning[0], x.rows @ self.enter.weight.T)
        for block in self.blocks:
            assert isinstance(block, NormalizedBlock)
            h = block.differential(h)
        return Tangents(self.leave(h.value), h.rows @ self.leave.weight.T)


class AdditiveCoupling(FlowLayer):
    """y_b = x_b − t(x_a, context), y_a = x_a: volume-preserving, whatever the network t.

    Args:
        mask: true for the features a that pass unchanged.
        network: t.
    """

    passed: Tensor
    shifted: Tensor
    order: Tensor

    def __init__(self, mask: Bool[Tensor, "D"], network: ContextResidualNet | NormalizedResidualNet) -> None:
        super().__init__()
        passed, shifted = mask.nonzero()[:, 0], (~mask).nonzero()[:, 0]
        self.register_buffer("passed", passed, persistent=False)
        self.register_buffer("shifted", shifted, persistent=False)
        self.register_buffer("order", torch.cat((passed, shifted)).argsort(), persistent=False)
        self.network = network

    def condition(self, context: Tensor) -> Conditioning:
        return self.network.condition(context)

    def select(self, conditioning: Conditioning, index: Int[Tensor, "kept"]) -> Conditioning:
        if self.network.from_context is None:
            return conditioning
        return super().select(conditioning, index)

    def _moved(self, x: Tensor, sign: float, conditioning: Conditioning) -> Tensor:
        a, b = x[..., self.passed], x[..., self.shifted]
        shift = self.network(a, conditioning).to(x.dtype)
        return torch.cat((a, b + sign * shift), dim=-1)[..., self.order]

    def to_latent(self, x: Tensor, conditioning: Conditioning) -> Tensor:
        return self._moved(x, -1.0, conditioning)

    def from_latent(self, y: Tensor, conditioning: Conditioning) -> Tensor:
        return self._moved(y, 1.0, conditioning)

    def log_det(self, conditioning: Conditioning) -> Tensor:
        return self.network.enter.bias.new_zeros(())

    def differential(self, y: Tangents, conditioning: Conditioning) -> Tangents:
        a = Tangents(y.value[..., self.passed], y.rows[..., self.passed])
        shift = self.network.differential(a, conditioning)
        value = torch.cat((a.value, y.value[..., self.shifted] + shift.value), dim=-1)
        rows = torch.cat((a.rows, y.rows[..., self.shifted] + shift.rows), dim=-1)
        return Tangents(value[..., self.order], rows[..., self.order])


def _silu_with_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """x σ(x) and its derivative σ(x) (1 + x (1 − σ(x)))."""
    sigmoid = 1 / (1 + torch.exp(-x))  # the last few of a tensor get other bits from torch.sigmoid
    return x * sigmoid, sigmoid * (1 + x * (1 - sigmoid))
