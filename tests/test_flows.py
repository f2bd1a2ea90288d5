"""Flows: inverse, log-determinant, normalisation, the exact mode, differential, and what the context may change."""

import math
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file, save_file

from vitruvian.errors import InputError
from vitruvian.flow_layers import ActNorm, AdditiveCoupling, ContextResidualNet, LULinear
from vitruvian.flows import FlowConfig, FlowDistribution, Glow

CONTEXT = 5


def flow(
    num_features: int = 6,
    *,
    context_scales: bool = True,
    context: int = CONTEXT,
    dtype: torch.dtype = torch.float64,
    coupling: Literal["gated", "normalized"] = "gated",
) -> Glow:
    """A flow with random weights, so that no layer is at its start."""
    config = FlowConfig(
        num_features,
        context,
        num_layers=3,
        hidden=24,
        num_blocks=2,
        context_scales=context_scales,
        scale_hidden=16,
        coupling=coupling,
    )
    model = Glow(config).to(dtype).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.15 * torch.randn(parameter.shape, generator=generator, dtype=dtype)
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer += torch.rand(buffer.shape, generator=generator, dtype=dtype)
    return model


def contexts(*batch: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*batch, CONTEXT, generator=torch.Generator().manual_seed(4), dtype=dtype)


@pytest.fixture(params=["context scales", "constant scales", "as published"])
def model(request: pytest.FixtureRequest) -> Glow:
    coupling: Literal["gated", "normalized"] = "normalized" if request.param == "as published" else "gated"
    return flow(context_scales=request.param == "context scales", coupling=coupling)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_to_latent_inverts_from_latent(model: Glow, batch: tuple[int, ...], generator: torch.Generator) -> None:
    distribution = model(contexts(*batch))
    z = distribution.sample_latent(4, generator=generator)
    assert z.shape == (4, *batch, 6)
    torch.testing.assert_close(distribution.to_latent(distribution.from_latent(z)), z, atol=1e-9, rtol=1e-9)


def test_inverse_holds_in_single_precision(generator: torch.Generator) -> None:
    distribution = flow(dtype=torch.float32)(contexts(8, dtype=torch.float32))
    z = distribution.sample_latent(16, generator=generator)
    torch.testing.assert_close(distribution.to_latent(distribution.from_latent(z)), z, atol=1e-5, rtol=1e-5)


def test_log_det_is_that_of_the_autograd_jacobian(model: Glow, generator: torch.Generator) -> None:
    c = contexts(3)
    x = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    for row in range(3):
        jacobian = torch.autograd.functional.jacobian(model(c[row]).to_latent, x[row])
        torch.testing.assert_close(jacobian.det().abs().log(), model(c).log_det[row])


@pytest.mark.parametrize("layer", ["actnorm", "context actnorm", "linear", "coupling"])
def test_each_layer_keeps_the_laws_alone(layer: str, generator: torch.Generator) -> None:
    network = ContextResidualNet(3, 2, context_features=CONTEXT, hidden=8, num_blocks=1, dropout=0.0)
    made = (
        {
            "actnorm": lambda: ActNorm(5),
            "context actnorm": lambda: ActNorm(5, context_features=CONTEXT, hidden=8),
            "linear": lambda: LULinear(5),
            "coupling": lambda: AdditiveCoupling(torch.tensor([True, False, True, False, True]), network),
        }[layer]()
        .double()
        .eval()
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    conditioning = made.condition(contexts())
    x = torch.randn(5, generator=generator, dtype=torch.float64)
    y = made.to_latent(x, conditioning)
    torch.testing.assert_close(made.from_latent(y, conditioning), x)
    jacobian = torch.autograd.functional.jacobian(lambda v: made.to_latent(v, conditioning), x)
    torch.testing.assert_close(jacobian.det().abs().log(), made.log_det(conditioning))
    assert not torch.allclose(x, y)


@pytest.mark.parametrize("context_scales", [True, False])
def test_density_integrates_to_one(context_scales: bool) -> None:
    model = flow(2, context_scales=context_scales)
    distribution = model(contexts())
    samples = distribution.sample(2000, generator=torch.Generator().manual_seed(0)).detach()
    low, high = samples.amin(0), samples.amax(0)
    low, high = low - 0.5 * (high - low), high + 0.5 * (high - low)
    axes = [torch.linspace(float(low[k]), float(high[k]), 600, dtype=torch.float64) for k in range(2)]
    grid = torch.cartesian_prod(*axes)
    cell = float(torch.prod((high - low) / 599))
    with torch.no_grad():
        total = sum(float(part.exp().sum()) for part in map(distribution.log_prob, grid.split(60_000))) * cell
    assert total == pytest.approx(1.0, abs=2e-3)


def test_mode_is_z_zero_and_denser_than_ten_thousand_samples(model: Glow, generator: torch.Generator) -> None:
    distribution = model(contexts(3))
    torch.testing.assert_close(
        distribution.to_latent(distribution.mode), torch.zeros(3, 6, dtype=torch.float64), atol=1e-9, rtol=0
    )
    samples = distribution.sample(10_000, generator=generator)
    assert (distribution.log_prob(distribution.mode) > distribution.log_prob(samples).amax(0)).all()


def test_sampled_log_probabilities_have_the_exact_entropy(model: Glow, generator: torch.Generator) -> None:
    distribution = model(contexts(2))
    log_prob = distribution.log_prob(distribution.sample(20_000, generator=generator))
    # The variance of log p is that of ½χ² with 6 degrees of freedom: 3.
    torch.testing.assert_close(-log_prob.mean(0), distribution.entropy, atol=5 * math.sqrt(3 / 20_000), rtol=0)


def test_differential_is_the_autograd_jacobian(model: Glow, generator: torch.Generator) -> None:
    c = contexts(3)
    z = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    value, differential = model(c).from_latent_with_differential(z)
    torch.testing.assert_close(value, model(c).from_latent(z))
    for row in range(3):
        jacobian = torch.autograd.functional.jacobian(model(c[row]).from_latent, z[row])
        torch.testing.assert_close(differential[row], jacobian)


def test_entropy_follows_the_context_only_with_context_scales() -> None:
    c = contexts(4)
    assert float(flow(context_scales=True)(c).entropy.detach().std()) > 1e-2
    assert float(flow(context_scales=False)(c).entropy.detach().std()) == 0


def test_flow_without_context_is_one_distribution(generator: torch.Generator) -> None:
    model = flow(context=0)
    distribution = model(torch.zeros(2, 0, dtype=torch.float64))
    z = distribution.sample_latent(3, generator=generator)
    torch.testing.assert_close(distribution.to_latent(distribution.from_latent(z)), z)


def test_each_item_of_a_batch_stands_alone(model: Glow, generator: torch.Generator) -> None:
    c = contexts(4)
    x = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    together = model(c).log_prob(x)
    alone = torch.stack([model(c[row]).log_prob(x[row]) for row in range(4)])
    torch.testing.assert_close(together, alone)
    c[1] = torch.nan
    torch.testing.assert_close(model(c).log_prob(x)[[0, 2, 3]], alone[[0, 2, 3]])


def test_first_training_batch_is_standardised_by_actnorm(generator: torch.Generator) -> None:
    layer = ActNorm(4).double()
    x = 3 + 0.2 * torch.randn(500, 4, generator=generator, dtype=torch.float64)
    y = layer.to_latent(x, ()).detach()
    torch.testing.assert_close(y.mean(0), torch.zeros(4, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(y.std(0), torch.ones(4, dtype=torch.float64))
    other = layer.to_latent(10 * x, ()).detach()
    assert float(other.std(0).min()) > 5, "only the first batch sets the scales"


def test_training_recovers_a_gaussian_whose_spread_depends_on_the_context() -> None:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = Glow(FlowConfig(2, 1, num_layers=2, hidden=16, num_blocks=1, scale_hidden=16))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(400):
        c = torch.rand(256, 1, generator=generator) * 2 - 1
        x = c + torch.exp(c) * torch.randn(256, 2, generator=generator)
        loss = -model(c).log_prob(x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    c = torch.tensor([[-0.8], [0.0], [0.8]])
    true_entropy = 2 * (0.5 * (1 + math.log(2 * math.pi)) + c[:, 0])
    torch.testing.assert_close(model(c).entropy.detach(), true_entropy, atol=0.2, rtol=0)
    torch.testing.assert_close(model(c).mode.detach(), c.expand(3, 2), atol=0.15, rtol=0)


def test_weights_survive_a_file(tmp_path: Path, model: Glow, generator: torch.Generator) -> None:
    save_file(model.state_dict(), tmp_path / "flow.safetensors")
    copy = Glow(model.config).double().eval()
    copy.load_state_dict(load_file(tmp_path / "flow.safetensors"))
    x = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    assert torch.equal(copy(contexts(3)).log_prob(x), model(contexts(3)).log_prob(x))


def test_samples_pass_gradients_to_the_context(generator: torch.Generator) -> None:
    c = contexts(2).requires_grad_()
    flow()(c).sample(3, generator=generator).sum().backward()
    assert c.grad is not None
    assert float(c.grad.abs().min()) > 0


def test_one_feature_cannot_be_coupled() -> None:
    with pytest.raises(InputError):
        Glow(FlowConfig(1, 0))


def test_calling_a_flow_gives_a_distribution() -> None:
    assert isinstance(flow()(contexts(2)), FlowDistribution)


@pytest.mark.parametrize("context_scales", [False, True])
def test_selected_items_keep_their_distribution(context_scales: bool) -> None:
    torch.manual_seed(0)
    flow = (
        Glow(FlowConfig(num_features=6, context_features=4, hidden=16, context_scales=context_scales)).double().eval()
    )
    context = torch.randn(5, 4, dtype=torch.float64)
    index = torch.tensor([3, 0, 3])
    z = torch.randn(3, 6, dtype=torch.float64)
    kept, afresh = flow(context).select(index), flow(context[index])
    torch.testing.assert_close(kept.from_latent(z), afresh.from_latent(z))
    torch.testing.assert_close(kept.log_prob(z), afresh.log_prob(z))
    assert kept.batch_shape == afresh.batch_shape
