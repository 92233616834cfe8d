"""Tests of units, dequantization, logistics and likelihoods against closed forms."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor, nn

from likelihood_helpers import EXTREME, ORDINARY, all_points, mixture
from lookalike.distributions.histogram import kernel
from lookalike.distributions.logistics import LogisticMixture
from lookalike.domain.domain import Domain
from lookalike.domain.grid import bits_per_dimension, log_mean_exp, row_noise
from lookalike.domain.units import WorkingUnits
from lookalike.families.build import build
from lookalike.families.flow_matching import divergence
from lookalike.families.independent import Independent
from lookalike.families.vae import StandardPrior
from lookalike.paths.ode import integrate
from lookalike.workspace.configuration import Config

jacobian_of: Callable[..., Tensor] = torch.autograd.functional.jacobian
Distribution = Literal["normal", "uniform", "sign"]


@pytest.mark.parametrize("parameters", [ORDINARY, *EXTREME.values()], ids=["ordinary", *EXTREME])
@pytest.mark.parametrize(("shape", "levels"), [((1, 2, 2), 256), ((1, 2, 2), 2), ((2,), 1120)])
def test_a_logistic_mixture_sums_to_one_over_the_grid(
    parameters: dict[str, list[float]], shape: tuple[int, ...], levels: int, make_domain: Callable[..., Domain]
) -> None:
    domain = make_domain(*shape, levels=levels)
    x = all_points(domain)
    mass = LogisticMixture(mixture(domain, **parameters, n=levels), WorkingUnits(domain)).log_prob(x).double().exp()
    torch.testing.assert_close(mass.sum(dim=0), torch.ones(shape, dtype=torch.float64), atol=3e-4, rtol=0)


def test_a_logistic_mixture_agrees_with_differences_of_sigmoids_in_double_precision(
    make_domain: Callable[..., Domain],
) -> None:
    domain = make_domain(1, 2, 2, levels=64)
    units = WorkingUnits(domain)
    x = all_points(domain)
    ours = LogisticMixture(mixture(domain, **ORDINARY, n=64), units).log_prob(x)[:, 0, 0, 0].double()
    edges = (torch.arange(65, dtype=torch.float64) - 0.5 - 31.5) / 31.5
    edges[0], edges[-1] = -torch.inf, torch.inf
    logits, means, log_scales = (torch.tensor(ORDINARY[name], dtype=torch.float64) for name in ORDINARY)
    cumulative = torch.sigmoid((edges[:, None] - means) / log_scales.exp())
    naive = torch.log((cumulative.diff(dim=0) * logits.softmax(dim=0)).sum(dim=1))
    torch.testing.assert_close(ours, naive, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("parameters", EXTREME.values(), ids=list(EXTREME))
@pytest.mark.parametrize(("shape", "levels"), [((1, 2, 2), 256), ((2,), 1120)])
def test_log_prob_and_its_gradient_are_finite_in_the_tails(
    parameters: dict[str, list[float]], shape: tuple[int, ...], levels: int, make_domain: Callable[..., Domain]
) -> None:
    domain = make_domain(*shape, levels=levels)
    leaf = mixture(domain, **parameters, n=levels).requires_grad_()
    log_prob = LogisticMixture(leaf, WorkingUnits(domain)).log_prob(all_points(domain))
    (gradient,) = torch.autograd.grad(log_prob.sum(), leaf)
    assert log_prob.isfinite().all()
    assert gradient.isfinite().all()
    assert (log_prob <= 1e-6).all()


@pytest.mark.parametrize("log_scale", [60.0, 80.0, 90.0, 120.0, 1e4, 1e30, float("inf")])
@pytest.mark.parametrize(("shape", "levels"), [((1, 2, 2), 256), ((2,), 1120), ((1,), 65536)])
def test_log_prob_and_its_gradient_are_finite_at_scales_without_an_inverse(
    log_scale: float, shape: tuple[int, ...], levels: int, make_domain: Callable[..., Domain]
) -> None:
    domain = make_domain(*shape, levels=levels)
    leaf = mixture(domain, logits=[0.0, 1.0], means=[0.0, 0.3], log_scales=[log_scale, 1.0], n=levels)
    log_prob = LogisticMixture(leaf.requires_grad_(), WorkingUnits(domain)).log_prob(all_points(domain))
    (gradient,) = torch.autograd.grad(log_prob.sum(), leaf)
    assert log_prob.isfinite().all()
    assert gradient.isfinite().all()
    assert LogisticMixture(leaf.detach()[:50], WorkingUnits(domain)).sample().max() < levels


def test_one_broad_logistic_leaves_half_its_mass_beyond_either_end(make_domain: Callable[..., Domain]) -> None:
    domain = make_domain(1, 2, 2, levels=64)
    broad = mixture(domain, logits=[0.0], means=[0.0], log_scales=[100.0], n=64)
    log_prob = LogisticMixture(broad, WorkingUnits(domain)).log_prob(all_points(domain))
    torch.testing.assert_close(log_prob[[0, -1]].exp(), torch.full((2, 1, 2, 2), 0.5))
    assert (log_prob[1:-1] < -50).all()


@pytest.mark.parametrize("parameters", [ORDINARY, EXTREME["broader than the grid"], EXTREME["needles"]])
def test_samples_of_a_logistic_mixture_come_as_often_as_log_prob_says(
    parameters: dict[str, list[float]], make_domain: Callable[..., Domain]
) -> None:
    torch.manual_seed(0)
    domain = make_domain(1, levels=16)
    n = 50_000
    samples = LogisticMixture(mixture(domain, **parameters, n=n), WorkingUnits(domain)).sample()
    assert samples.dtype == torch.int64
    observed = torch.bincount(samples[:, 0], minlength=16).numpy()
    mass = LogisticMixture(mixture(domain, **parameters, n=16), WorkingUnits(domain)).log_prob(all_points(domain))
    expected = mass[:, 0].double().exp().numpy()
    common = expected * n > 5
    assert observed[~common].sum() <= 10 + 10 * expected[~common].sum() * n
    ours = np.append(observed[common], observed[~common].sum())
    theirs = np.append(expected[common], expected[~common].sum()) * n
    keep = theirs > 0.5
    assert chisquare(ours[keep], theirs[keep] * ours[keep].sum() / theirs[keep].sum()).pvalue > 1e-3


@pytest.mark.parametrize(("shape", "levels"), [((1, 2, 2), 256), ((3, 2, 2), 2), ((1,), 1120), ((3,), 1120)])
def test_working_units_lead_back_to_the_grid(
    shape: tuple[int, ...], levels: int, make_domain: Callable[..., Domain]
) -> None:
    domain = make_domain(*shape, levels=levels)
    units, x = WorkingUnits(domain), all_points(domain)
    assert torch.equal(units.to_grid(units(x)), x)
    small = torch.uint8 if levels <= 256 else torch.int16
    assert torch.equal(units(x.to(small)), units(x))
    assert torch.equal(units.to_grid(torch.full(shape, 1e6)), torch.full(shape, levels - 1))
    assert torch.equal(units.to_grid(torch.full(shape, -1e6)), torch.zeros(shape, dtype=torch.int64))


@pytest.mark.parametrize("shape", [(1, 2, 2), (3,)])
def test_log_jacobian_is_the_determinant_of_the_map_to_working_units(
    shape: tuple[int, ...], make_domain: Callable[..., Domain]
) -> None:
    domain = make_domain(*shape, levels=16)
    units = WorkingUnits(domain)
    jacobian = jacobian_of(lambda k: units(k).flatten(), torch.rand(shape))
    log_det = jacobian.reshape(domain.dimensions, domain.dimensions).slogdet().logabsdet
    assert units.log_jacobian == pytest.approx(log_det.item(), rel=1e-5)
    assert not units.state_dict(), "units come from the domain, not from weights"


@pytest.mark.parametrize(("shape", "levels"), [((1, 2, 2), 256), ((2,), 1120)])
def test_dequantized_points_stay_in_their_interval_and_fill_it(
    shape: tuple[int, ...], levels: int, make_domain: Callable[..., Domain]
) -> None:
    domain = make_domain(*shape, levels=levels)
    units, x = WorkingUnits(domain), all_points(domain)
    for u in (0.001, 0.5, 0.999):
        assert torch.equal(units.to_grid(units.dequantize(x, torch.full(x.shape, u))), x)
    width = units.dequantize(x, torch.ones(x.shape)) - units.dequantize(x, torch.zeros(x.shape))
    torch.testing.assert_close(width * units.scale, torch.ones(x.shape), atol=1e-3, rtol=0)
    torch.testing.assert_close(units.dequantize(x, torch.full(x.shape, 0.5)), units(x))


@pytest.mark.parametrize(("shape", "levels"), [((1, 5, 7), 256), ((3,), 8), ((1,), 1120)])
def test_the_uniform_distribution_costs_the_logarithm_of_the_levels(
    shape: tuple[int, ...], levels: int, make_domain: Callable[..., Domain]
) -> None:
    domain = make_domain(*shape, levels=levels)
    nats = torch.tensor([-domain.dimensions * math.log(levels)], dtype=torch.float64)
    assert bits_per_dimension(nats, domain).item() == pytest.approx(math.log2(levels), rel=1e-12)


@pytest.mark.parametrize("distribution", ["normal", "uniform", "sign"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_noise_depends_on_the_row_and_the_seed_alone(distribution: Distribution, dtype: torch.dtype) -> None:
    x = torch.randint(0, 200, (20, 1, 3, 4), generator=torch.Generator().manual_seed(0)).to(dtype)
    noise = row_noise(x, (5, 2), distribution=distribution, seed=3)
    order = torch.randperm(20)
    torch.manual_seed(99)
    assert torch.equal(row_noise(x[order], (5, 2), distribution=distribution, seed=3), noise[order])
    assert torch.equal(row_noise(x[7:8], (5, 2), distribution=distribution, seed=3), noise[7:8])
    assert not torch.equal(row_noise(x, (5, 2), distribution=distribution, seed=4), noise)
    assert torch.equal(row_noise(torch.cat([x, x]), (5, 2), distribution=distribution, seed=3)[20:], noise)
    # Every row has noise of its own, even where rows differ in one value.
    y = x.clone()
    y[:, 0, 0, 0] ^= 1
    assert (row_noise(y, (5, 2), distribution=distribution, seed=3) != noise).flatten(1).any(dim=1).all()


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_more_noise_for_a_row_begins_with_what_less_noise_was(distribution: Distribution) -> None:
    """Bounds of K and of 2K samples share their first K, and tighten in step."""
    x = torch.arange(12).view(4, 3)
    longer = row_noise(x, (50, 2), distribution=distribution, seed=0)
    assert torch.equal(row_noise(x, (20, 2), distribution=distribution, seed=0), longer[:, :20])


@pytest.mark.parametrize(
    ("distribution", "moments"),
    [("normal", (0, 1, 0, 3)), ("uniform", (1 / 2, 1 / 3, 1 / 4, 1 / 5)), ("sign", (0, 1, 0, 1))],
)
def test_noise_has_the_moments_of_its_distribution(distribution: Distribution, moments: tuple[float, ...]) -> None:
    noise = row_noise(torch.arange(2000)[:, None], (50,), distribution=distribution, seed=0).double()
    for power, moment in enumerate(moments, start=1):
        terms = noise**power
        assert terms.mean().item() == pytest.approx(
            moment, abs=4.5 * terms.std().item() / math.sqrt(terms.numel()) + 1e-9
        )
    # Places of a row, and rows, are independent of each other.
    centred = noise - noise.mean()
    for other in (centred.roll(1, dims=0), centred.roll(1, dims=1)):
        assert abs((centred * other).mean() / centred.var()) < 4.5 / math.sqrt(noise.numel())


def test_log_mean_exp_is_what_its_name_says() -> None:
    weights = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(log_mean_exp(weights, dim=1), weights.exp().mean(dim=1).log())
    torch.testing.assert_close(log_mean_exp(weights, dim=0), weights.exp().mean(dim=0).log())
    torch.testing.assert_close(log_mean_exp(weights - 5000, dim=1), weights.exp().mean(dim=1).log() - 5000)


# The VAE's bound, against an integral over its one-dimensional code.


@pytest.fixture(scope="module")
def vae(small_config: Callable[..., Config], make_domain: Callable[..., Domain]) -> Any:
    """Return a VAE of rows with a one-dimensional code, trained briefly: its encoder is only near the posterior."""
    domain = make_domain(2, levels=16)
    section = small_config("vae").model
    model = build(section | {"latent": 1}, domain, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        middle = torch.randint(2, 14, (128, 1))
        x = (middle + torch.randint(-1, 3, (128, 2))).clamp(0, 15)
        optimizer.zero_grad()
        model.losses(x)["loss"].backward()
        optimizer.step()
    return model.eval()


def marginal(model: Any, x: Tensor) -> Tensor:
    """Return log ∫ p(x | z) N(z; 0, 1) dz `[N]` on a fine grid of z."""
    z = torch.linspace(-8, 8, 1601)[:, None]
    log_prior = -0.5 * z[:, 0].double() ** 2 - 0.5 * math.log(2 * math.pi) + math.log(16 / 1600)
    rows = []
    for row in x:
        log_conditional = model.log_conditional(row.expand(len(z), -1), z)
        rows.append(torch.logsumexp(log_conditional + log_prior, dim=0))
    return torch.stack(rows)


@torch.no_grad()
def test_the_importance_weighted_bound_tightens_to_the_marginal_likelihood(vae: Any) -> None:
    x = torch.cartesian_prod(torch.arange(16), torch.arange(16))
    x = x[(x[:, 0] - x[:, 1]).abs() <= 3]  # where the data are: the encoder has learned no other place
    truth = marginal(vae, x)
    bounds = {k: vae.log_likelihood(x, importance_samples=k) for k in (1, 5, 50, 1000, 2000)}

    def mean_and_error(gap: Tensor) -> tuple[float, float]:
        return gap.mean().item(), gap.std().item() / math.sqrt(len(gap))

    for fewer, more in pairwise(bounds):
        loosened, error = mean_and_error(bounds[fewer] - bounds[more])
        assert loosened < 3 * error
    one, many = ((bounds[k] - truth).abs().mean() for k in (1, 2000))
    assert one > 10 * many, "otherwise the encoder is exact and nothing is tested"
    # The weights' mean is unbiased; the difference of its two halves says how far from the truth it may be.
    ratio, half = ((bounds[k] - truth).exp() for k in (2000, 1000))
    deviation = (half - ratio).abs()
    assert abs((ratio - 1).mean()) < 4 * deviation.square().sum().sqrt() / len(x)
    assert 0.3 < (ratio - 1).abs().median() / deviation.median() < 3
    assert mean_and_error(bounds[2000] - truth)[0] == pytest.approx(0, abs=0.01)


@torch.no_grad()
def test_the_bound_of_one_sample_is_on_average_the_training_loss(vae: Any) -> None:
    x = torch.cartesian_prod(torch.arange(16), torch.arange(16))
    torch.manual_seed(0)
    losses = torch.stack([vae.losses(x)["loss"] for _ in range(50)]).double() * 2
    bound = -vae.log_likelihood(x, importance_samples=1)
    error = math.hypot(losses.std().item() / math.sqrt(50), losses.std().item())
    assert losses.mean().item() == pytest.approx(bound.mean().item(), abs=4 * error)


# The bound of a VAE whose parts are linear, where the truth is a normal distribution.


class LinearEncoder(nn.Module):
    """q(z | y): the posterior of a linear decoder, with something added to its mean and its log standard deviation."""

    def __init__(self, decoder: "LinearDecoder", *, shift: float, wider: float) -> None:
        super().__init__()
        self.decoder, self.shift, self.wider = decoder, shift, wider

    def forward(self, y: Tensor, one_hot: Tensor | None = None) -> Tensor:
        w, s = self.decoder.weight, self.decoder.deviation
        # Columns of w are orthogonal, so the posterior's covariance is diagonal.
        variance = 1 / (1 + (w**2).sum(0) / s**2)
        mean = (y - self.decoder.bias) @ w / s**2 * variance
        log_std = 0.5 * variance.log() + self.wider
        return torch.cat([mean + self.shift, log_std.expand_as(mean)], dim=1)


class LinearDecoder(nn.Module):
    """p(y | z) = N(y; W z + b, s² I), a density of working units."""

    weight: Tensor
    bias: Tensor

    def __init__(self, units: WorkingUnits, *, dimensions: int, latent: int) -> None:
        super().__init__()
        self.units, self.deviation = units, 0.3
        generator = torch.Generator().manual_seed(0)
        rotation = torch.linalg.qr(torch.randn(dimensions, dimensions, generator=generator)).Q
        self.register_buffer("weight", rotation[:, :latent] * torch.tensor([1.5, 0.4])[:latent])
        self.register_buffer("bias", torch.randn(dimensions, generator=generator))

    def log_prob(self, x: Tensor, code: Tensor) -> Tensor:
        return normal_log_density(self.units(x), code @ self.weight.T + self.bias, self.deviation)


def normal_log_density(y: Tensor, mean: Tensor, deviation: float) -> Tensor:
    return -0.5 * ((y - mean) / deviation) ** 2 - math.log(deviation) - 0.5 * math.log(2 * math.pi)


def linear(small_model: Callable[..., Any], domain: Domain, *, shift: float, wider: float) -> tuple[Any, Tensor]:
    """Return a linear VAE of four dimensions and two codes, and log p of the points `[N]` of `points(domain)`."""
    model = small_model("vae", domain)
    model.latent, model.prior = 2, StandardPrior(2)
    model.decoder = LinearDecoder(model.units, dimensions=4, latent=2)
    model.encoder = LinearEncoder(model.decoder, shift=shift, wider=wider)
    w, s = model.decoder.weight.double(), model.decoder.deviation
    truth = torch.distributions.MultivariateNormal(model.decoder.bias.double(), w @ w.T + s**2 * torch.eye(4).double())
    log_prob: Tensor = truth.log_prob(model.units(points(domain)).double())
    return model, log_prob


def points(domain: Domain) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, domain.levels, (4000, domain.dimensions), generator=generator)


@torch.no_grad()
@pytest.mark.parametrize("importance_samples", [1, 7])
def test_the_bound_of_a_linear_vae_with_the_true_posterior_is_the_marginal_likelihood(
    small_model: Callable[..., Any], make_domain: Callable[..., Domain], importance_samples: int
) -> None:
    domain = make_domain(4, levels=64)
    model, log_prob = linear(small_model, domain, shift=0.0, wider=0.0)
    bound = model.log_likelihood(points(domain), importance_samples=importance_samples)
    torch.testing.assert_close(bound.double(), log_prob, rtol=1e-5, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(("shift", "wider"), [(0.2, 0.0), (0.0, 0.4), (0.1, -0.5)])
def test_the_bound_of_a_linear_vae_is_off_by_the_divergence_from_the_true_posterior(
    small_model: Callable[..., Any], make_domain: Callable[..., Domain], shift: float, wider: float
) -> None:
    domain = make_domain(4, levels=64)
    model, log_prob = linear(small_model, domain, shift=shift, wider=wider)
    variance = 1 / (1 + (model.decoder.weight.double() ** 2).sum(0) / model.decoder.deviation**2)
    # KL(N(m + δ, e^2w v) || N(m, v)), summed over the codes.
    divergence = float((0.5 * (math.exp(2 * wider) + shift**2 / variance - 1) - wider).sum())
    assert divergence > 0.05
    gap = log_prob - model.log_likelihood(points(domain), importance_samples=1)
    assert gap.mean().item() == pytest.approx(divergence, abs=4 * gap.std().item() / math.sqrt(len(gap)))
    torch.manual_seed(0)
    losses = 4 * torch.stack([model.losses(points(domain))["loss"] for _ in range(20)]).double()
    expected = divergence - log_prob.mean().item()
    assert losses.mean().item() == pytest.approx(expected, abs=4 * losses.std().item() / math.sqrt(20))
    assert losses.std() < 0.003 * expected


# Flow matching's likelihood, where every dimension of the data is known to be N(m, s²).


class Known(NamedTuple):
    """The posterior of x given y_t with the prior N(m, s²): a ratio of normal densities."""

    m: float
    s: float
    y: Tensor
    t: Tensor
    units: WorkingUnits

    def mean(self) -> Tensor:
        t = self.t.view(-1, *[1] * (self.y.ndim - 1))
        gain = t * self.s**2 / (t**2 * self.s**2 + (1 - t) ** 2)
        return self.m + gain * (self.y - t * self.m)

    def grid_log_prob(self, x: Tensor) -> Tensor:
        """Return Bayes' rule over the whole grid, as if it were a sample of N(m, s²)."""
        every = torch.arange(self.units.levels).view(-1, *[1] * self.y.ndim).expand(-1, *self.y.shape)
        t = self.t.view(-1, *[1] * (self.y.ndim - 1))
        centres = self.units(every.flatten(0, 1)).view(every.shape)
        log_seen = -0.5 * ((self.y - t * centres) / (1 - t)) ** 2
        log_probs = (log_seen - 0.5 * ((centres - self.m) / self.s) ** 2).log_softmax(dim=0)
        chosen: Tensor = log_probs.gather(0, x[None]).squeeze(0)
        return chosen


class Flat(Known):
    """The same, except that the last step gives every grid point the same chance."""

    def grid_log_prob(self, x: Tensor) -> Tensor:
        return Known(0.0, 1e6, self.y, self.t, self.units).grid_log_prob(x)


class Exact(nn.Module):
    """The exact denoiser of these data."""

    def __init__(self, units: WorkingUnits, m: float, s: float, posterior: type[Known] = Known) -> None:
        super().__init__()
        self.units, self.m, self.s, self.posterior = units, m, s, posterior

    def forward(self, y: Tensor, t: Tensor, one_hot: Tensor | None = None) -> Known:
        return self.posterior(self.m, self.s, y, t, self.units)


@pytest.fixture
def flow(small_model: Callable[..., Any]) -> Callable[..., Any]:
    def make(domain: Domain, m: float, s: float, posterior: type[Known] = Known) -> Any:
        model = small_model("flow_matching", domain)
        model.denoise = Exact(model.units, m, s, posterior)
        return model

    return make


def log_weight(model: Any, x: Tensor, eps: Tensor) -> Tensor:
    """Return log p(y) + log P(x | y) - log q(y | x) `[N]`, float64, at the end of the path, for N(m, s²)."""
    end, m, s = model.path.end, model.denoise.m, model.denoise.s
    y = end * model.units(x) + (1 - end) * eps
    normal: Any = torch.distributions.Normal
    marginal = normal(end * m, math.hypot(end * s, 1 - end)).log_prob(y.double())
    seen = normal(end * model.units(x), 1 - end).log_prob(y).double()
    decoded = model.denoise(y, torch.full((len(x),), end)).grid_log_prob(x)
    nats: Tensor = (marginal + decoded - seen).flatten(1).sum(dim=1)
    return nats


SHAPES = [((1, 2, 2), 32), ((3,), 32), ((1,), 1120)]


@pytest.mark.parametrize(("m", "s"), [(0.3, 0.5), (-0.2, 1.4)])
@pytest.mark.parametrize(("shape", "levels"), SHAPES)
@pytest.mark.parametrize("probes", [0, 2])
def test_the_likelihood_of_a_flow_to_a_normal_distribution_is_the_closed_form(
    m: float, s: float, shape: tuple[int, ...], levels: int, probes: int,
    make_domain: Callable[..., Domain], flow: Callable[..., Any],
) -> None:  # fmt: skip
    model = flow(make_domain(*shape, levels=levels), m, s)
    x = torch.randint(levels // 4, 3 * levels // 4, (20, *shape), generator=torch.Generator().manual_seed(0))
    ours = model.log_likelihood(x, solver="rk4", steps=30, tolerance=None, probes=probes, dequantizations=3)
    noise = row_noise(x, (3, *shape), distribution="normal", seed=0).unbind(dim=1)
    expected = log_mean_exp(torch.stack([log_weight(model, x, eps) for eps in noise], dim=1), dim=1)
    torch.testing.assert_close(ours, expected, atol=1e-3, rtol=1e-4)


def test_many_dequantizations_give_the_mass_of_the_cell(
    make_domain: Callable[..., Domain], flow: Callable[..., Any]
) -> None:
    """A grid point owns ∫ p(y) P(x | y) dy, whatever decides between grid points at the path's end."""
    model = flow(make_domain(1, levels=12), -0.1, 0.35, Flat)
    x, end = torch.arange(12)[:, None], model.path.end
    y = torch.linspace(-4, 4, 4001)[:, None]
    density: Any = torch.distributions.Normal(-end * 0.1, math.hypot(end * 0.35, 1 - end))
    decoded = [model.denoise(y, torch.full((len(y),), end)).grid_log_prob(k.expand(len(y), 1)) for k in x]
    mass = (density.log_prob(y) + torch.stack(decoded)).double().exp().sum(dim=(1, 2)) * 8 / 4000
    assert mass.sum().item() == pytest.approx(1, abs=1e-4)

    def estimate(dequantizations: int) -> Tensor:
        nats: Tensor = model.log_likelihood(
            x, solver="rk4", steps=10, tolerance=None, probes=0, dequantizations=dequantizations
        )
        return nats.exp()

    one, many = estimate(1), estimate(200)
    torch.testing.assert_close(many, mass, atol=0, rtol=0.15)
    assert many.sum().item() == pytest.approx(1, abs=0.02)
    assert (one - mass).abs().sum() > 5 * (many - mass).abs().sum(), "otherwise one would be enough"


@pytest.mark.parametrize(
    ("solver", "order", "steps"), [("euler", 1, 32), ("midpoint", 2, 16), ("heun2", 2, 16), ("rk4", 4, 8)]
)
def test_the_error_of_a_likelihood_falls_at_the_order_of_its_solver(
    solver: str, order: int, steps: int, make_domain: Callable[..., Domain], flow: Callable[..., Any]
) -> None:
    model = flow(make_domain(2, levels=64), 0.3, 0.3)
    x = torch.randint(24, 44, (10, 2), generator=torch.Generator().manual_seed(0))
    truth = log_weight(model, x, row_noise(x, (1, 2), distribution="normal", seed=0)[:, 0])

    def error(steps: int) -> float:
        ours = model.log_likelihood(x, solver=solver, steps=steps, tolerance=None, probes=0, dequantizations=1)
        return float((ours - truth).abs().mean())

    coarse, fine = error(steps), error(2 * steps)
    assert fine > 1e-5, "rounding would hide the order"
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.4)


def test_an_adaptive_solver_agrees_with_a_fine_fixed_one(
    make_domain: Callable[..., Domain], flow: Callable[..., Any]
) -> None:
    model = flow(make_domain(2, levels=64), 0.3, 0.1)
    x = torch.randint(24, 44, (10, 2), generator=torch.Generator().manual_seed(0))
    common = {"probes": 0, "dequantizations": 1}
    fixed = model.log_likelihood(x, solver="rk4", steps=100, tolerance=None, **common)
    adaptive = model.log_likelihood(x, solver="dopri5", steps=None, tolerance=1e-5, **common)
    torch.testing.assert_close(adaptive, fixed, atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("shape", [(1, 2, 3), (3,)])
def test_the_likelihood_is_the_determinant_of_the_map_to_noise(
    shape: tuple[int, ...], make_domain: Callable[..., Domain], small_model: Callable[..., Any]
) -> None:
    """log p(y_1) = log N(y_0(y_1)) + log |∂y_0 / ∂y_1| for the family's own network, by differentiating the solver."""
    domain = make_domain(*shape, levels=16)
    model = small_model("flow_matching", domain).eval()
    x = torch.randint(0, 16, (3, *shape), generator=torch.Generator().manual_seed(0))
    fine: dict[str, Any] = {"solver": "rk4", "steps": 25, "tolerance": None}
    ours = model.log_likelihood(x, **fine, probes=0, dequantizations=1)
    noise = row_noise(x, (1, *shape), distribution="normal", seed=0)[:, 0]
    end = torch.full((3,), model.path.end)
    noisy = model.path.noisy(model.units(x), noise, end)
    decoded = model.denoise(noisy, end).grid_log_prob(x).flatten(1).sum(dim=1)

    def to_noise(y: Tensor) -> Tensor:
        start = integrate(model.field, y.view(1, *shape), **fine, device=torch.device("cpu"), reverse=True)
        flat: Tensor = start.flatten()
        return flat

    standard: Any = torch.distributions.Normal(0, 1)
    for y, eps, log_decoded, value in zip(noisy, noise, decoded, ours, strict=True):
        jacobian = jacobian_of(to_noise, y.flatten()).double()
        log_density = standard.log_prob(to_noise(y.flatten()).double()).sum() + jacobian.slogdet().logabsdet
        log_seen = standard.log_prob(eps.double()).sum() - domain.dimensions * math.log(1 - model.path.end)
        torch.testing.assert_close(value, (log_density + log_decoded - log_seen).detach(), atol=2e-2, rtol=2e-3)


@pytest.mark.parametrize("shape", [(3,), (1, 2, 2)])
def test_the_trace_is_exact_and_all_signs_together_estimate_it_exactly(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    dimensions = math.prod(shape)
    weights = torch.randn(dimensions, dimensions)
    y = torch.randn(5, *shape, requires_grad=True)
    v = (torch.tanh(y).flatten(1) @ weights.T + y.flatten(1).roll(1, dims=1) ** 2).view(5, *shape)
    jacobian = torch.stack([
        torch.autograd.grad(v[i].flatten()[d], y, retain_graph=True)[0][i].flatten()[d]
        for i in range(5) for d in range(dimensions)
    ]).view(5, dimensions)  # fmt: skip
    trace = jacobian.sum(dim=1)
    torch.testing.assert_close(divergence(v, y, None), trace)
    every = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * dimensions).view(1, -1, *shape).expand(5, -1, *shape)
    torch.testing.assert_close(divergence(v, y, every), trace, atol=1e-5, rtol=1e-5)
    one = divergence(v, y, every[:, :1])
    assert not torch.allclose(one, trace, atol=1e-2), "one sign is not enough for the trace of a full matrix"


# The smoothed histogram.


def leave_one_out(column: list[int], *, levels: int, bandwidth: float, uniform: float) -> float:
    """Return Σ_i log p_{-i}(x_i), where p_{-i} is made of all the others, one at a time."""

    def kernel(k: int, centre: int) -> float:
        if bandwidth == 0:
            return float(k == centre)
        mass = [math.exp(-0.5 * ((j - centre) / bandwidth) ** 2) for j in range(levels)]
        return mass[k] / sum(mass)

    score = 0.0
    for i, k in enumerate(column):
        others = column[:i] + column[i + 1 :]
        mean = sum(kernel(k, other) for other in others) / len(others)
        score += math.log(uniform / levels + (1 - uniform) * mean)
    return score


def test_the_histogram_chooses_the_bandwidth_that_leave_one_out_by_hand_chooses(
    make_domain: Callable[..., Domain],
) -> None:
    domain = make_domain(3, levels=20)
    generator = np.random.default_rng(0)
    x = np.stack([generator.integers(0, 20, 40), generator.normal(10, 2, 40).round().clip(0, 19),
                  np.where(generator.random(40) < 0.5, 3, 15)], axis=1).astype(np.int64)  # fmt: skip
    bandwidths = [0.0, 0.5, 1.0, 3.0]
    model = Independent(domain=domain, bandwidths=bandwidths, uniform=0.01)
    model.fit(torch.from_numpy(x))
    chosen = []
    for d in range(3):
        scores = [leave_one_out(x[:, d].tolist(), levels=20, bandwidth=b, uniform=0.01) for b in bandwidths]
        chosen.append(best := bandwidths[int(np.argmax(scores))])
        counts = torch.bincount(torch.from_numpy(x[:, d]), minlength=20).double()
        smooth = 0.01 / 20 + 0.99 * (kernel(20, best) @ counts) / 40
        torch.testing.assert_close(model.log_probs[d].double().exp(), smooth, atol=1e-6, rtol=1e-5)
    assert len(set(chosen)) > 1, "the columns have to differ"


def test_smoothing_beats_the_bare_histogram_on_unseen_heights(make_domain: Callable[..., Domain]) -> None:
    generator = torch.Generator().manual_seed(0)
    heights = (667 + 36 * torch.randn(2000, 1, generator=generator)).round().long()
    domain = make_domain(1, levels=1120)

    def bits(bandwidths: list[float]) -> float:
        model = Independent(domain=domain, bandwidths=bandwidths, uniform=1e-3)
        model.fit(heights[:600])
        return bits_per_dimension(model.log_likelihood(heights[600:]), domain).mean().item()

    entropy = math.log2(36 * math.sqrt(2 * math.pi * math.e))
    smooth, bare = bits([0, 0.5, 1, 2, 4, 8, 16]), bits([0])
    assert entropy - 0.1 < smooth < entropy + 0.1
    assert bare > smooth + 0.5


def test_the_histogram_is_a_distribution(make_domain: Callable[..., Domain]) -> None:
    domain = make_domain(2, levels=12)
    model = Independent(domain=domain, bandwidths=[0.0, 2.0], uniform=0.01)
    model.fit(torch.randint(0, 12, (30, 2), generator=torch.Generator().manual_seed(0)))
    every = torch.cartesian_prod(torch.arange(12), torch.arange(12))
    assert model.log_likelihood(every).exp().sum().item() == pytest.approx(1, abs=1e-6)
