"""What each family computes, against closed forms, other libraries and automatic derivatives; and that it learns."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm, truncnorm, wasserstein_distance
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from lookalike.config import Config, choices
from lookalike.domain import Domain
from lookalike.likelihood import LogisticMixture, WorkingUnits
from lookalike.models import Fitted, autoregressive
from lookalike.models.build import build
from lookalike.models.mixture import between, log_mass, middle
from lookalike.networks.causal import CausalConv, CausalMixer, CausalResidual, Sequential
from lookalike.networks.ode import integrate
from lookalike.networks.paths import Path as NoisePath
from lookalike.networks.paths import Posterior, log_snr, time_of
from lookalike.training import Silent, train

jacobian_of: Callable[..., Tensor] = torch.autograd.functional.jacobian


def shaken(model: Any, scale: float) -> Any:
    """The model with noise on all of its parameters, so that no layer of it is idle."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += scale * torch.randn_like(parameter)
    return model.eval()


def skewed(domain: Domain, n: int) -> Tensor:
    """Grid points `[n, *shape]` that are rare where they are high, another way in every dimension."""
    powers = torch.linspace(1, 3, domain.dimensions).view(domain.shape)
    u = torch.rand(n, *domain.shape, generator=torch.Generator().manual_seed(0))
    return (domain.levels * u**powers).long().clamp(max=domain.levels - 1)


# The path from noise to data.


@pytest.fixture(params=[((1, 2, 2), 256), ((1,), 1120), ((3,), 16)], ids=["pixels", "heights", "vectors"])
def path(request: pytest.FixtureRequest, make_domain: Callable[..., Domain]) -> NoisePath:
    shape, levels = request.param
    return NoisePath(WorkingUnits(make_domain(*shape, levels=levels)))


def test_the_speed_is_the_derivative_of_the_time(path: NoisePath) -> None:
    s = torch.linspace(0.01, 0.999, 300, dtype=torch.float64, requires_grad=True)
    t = path.time(s)
    (derivative,) = torch.autograd.grad(t.sum(), s)
    torch.testing.assert_close(path.speed(s), derivative / (1 - t))
    assert path.time(torch.zeros(())) == 0
    assert path.time(torch.ones(())).item() == pytest.approx(path.end, rel=1e-6)


def test_a_time_and_its_signal_to_noise_ratio_say_the_same(path: NoisePath) -> None:
    t = torch.linspace(1e-4, path.end, 300, dtype=torch.float64)
    torch.testing.assert_close(time_of(log_snr(t)), t)
    torch.testing.assert_close(log_snr(t).exp(), (t / (1 - t)) ** 2)
    assert log_snr(torch.tensor(path.end, dtype=torch.float64)).item() == pytest.approx(path.log_snr, rel=1e-9)


def test_noise_at_the_end_is_half_a_step_of_the_grid(make_domain: Callable[..., Domain]) -> None:
    units = WorkingUnits(make_domain(1, 2, 2, levels=256))
    path = NoisePath(units)
    assert (1 - path.end) / path.end * float(units.scale) == pytest.approx(0.5)


def test_a_point_that_is_carried_along_reaches_the_data_with_the_noise_that_it_came_with(path: NoisePath) -> None:
    x, noise = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind()
    end = integrate(
        lambda s, y: path.speed(s) * (x - y), noise, solver="rk4", steps=100, tolerance=None, device=torch.device("cpu")
    )
    torch.testing.assert_close(end, path.noisy(x, noise, torch.full((5,), path.end)), atol=1e-4, rtol=1e-4)


def random_posterior(domain: Domain, n: int, *, t: Tensor | float) -> Posterior:
    """Three components a dimension, and noisy points that could have come from them; in double precision."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    times = torch.as_tensor(t, dtype=torch.float64).expand(n)
    shaped = times.view(-1, *[1] * len(domain.shape))
    y = shaped * 0.8 * normal(n, *domain.shape) + (1 - shaped) * normal(n, *domain.shape)
    return Posterior(
        logits=normal(n, 3, *domain.shape), means=0.7 * normal(n, 3, *domain.shape),
        variances=torch.exp(normal(n, 3, *domain.shape) - 2), y=y, t=times, units=WorkingUnits(domain).double(),
    )  # fmt: skip


def log_joint(posterior: Posterior, x: Tensor) -> Tensor:
    """log p(x) p(y_t | x) of values `[V]` in every dimension, `[V, N, *shape]`, but for a constant."""
    shaped = posterior.t.view(-1, *[1] * (posterior.y.ndim - 1))
    values = x.view(-1, *[1] * posterior.y.ndim)
    prior = sum(
        weight.exp() * torch.exp(-0.5 * (values - mean) ** 2 / variance) / variance.sqrt()
        for weight, mean, variance in zip(
            posterior.log_prior.unbind(1), posterior.means.unbind(1), posterior.variances.unbind(1), strict=True
        )
    )
    return torch.log(torch.as_tensor(prior)) - 0.5 * ((posterior.y - shaped * values) / (1 - shaped)) ** 2


def test_the_denoised_point_is_the_posterior_mean_by_numerical_integration(make_domain: Callable[..., Domain]) -> None:
    domain = make_domain(2, levels=32)
    for t in (0.0, 0.1, 0.5, 0.9):
        posterior = random_posterior(domain, 20, t=t)
        x = torch.linspace(-12, 12, 40_001, dtype=torch.float64)
        mass = log_joint(posterior, x).softmax(dim=0)
        torch.testing.assert_close(posterior.mean(), torch.einsum("v,vnd->nd", x, mass), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("shape", "levels"), [((1, 2, 2), 32), ((2,), 64)])
def test_the_grid_point_at_the_end_follows_by_bayes_rule(
    shape: tuple[int, ...], levels: int, make_domain: Callable[..., Domain]
) -> None:
    domain = make_domain(*shape, levels=levels)
    posterior = random_posterior(domain, 50, t=NoisePath(WorkingUnits(domain)).end)
    points, log_probs = posterior.window()
    torch.testing.assert_close(log_probs.exp().sum(dim=1), torch.ones(50, *shape, dtype=torch.float64))
    assert ((points >= 0) & (points < levels) | (log_probs == -torch.inf)).all()
    every = torch.arange(levels)
    for d in range(len(posterior.units.scale)):
        # The units of one dimension at a time; of all, where they share them.
        scale, location = posterior.units.scale[d], posterior.units.location[d]
        expected = log_joint(posterior, (every - location) / scale).log_softmax(dim=0)
        ours = torch.stack([posterior.grid_log_prob(torch.full((50, *shape), k)) for k in every.tolist()])
        seen = expected > math.log(1e-9)
        if len(posterior.units.scale) > 1:
            seen, ours, expected = seen[..., d], ours[..., d], expected[..., d]
        torch.testing.assert_close(ours[seen], expected[seen], atol=1e-6, rtol=1e-6)
        assert seen.sum() > 2 * seen[0].numel(), "else there was nothing to decide"


def test_grid_points_are_drawn_as_often_as_their_probabilities_say(make_domain: Callable[..., Domain]) -> None:
    domain = make_domain(1, 2, 2, levels=8)
    few = random_posterior(domain, 1, t=NoisePath(WorkingUnits(domain)).end)
    n = 40_000
    posterior = Posterior(
        logits=few.log_prior.expand(n, -1, 1, 2, 2), means=few.means.expand(n, -1, 1, 2, 2),
        variances=few.variances.expand(n, -1, 1, 2, 2), y=few.y.expand(n, 1, 2, 2), t=few.t.expand(n), units=few.units,
    )  # fmt: skip
    torch.manual_seed(0)
    drawn = posterior.grid_sample()
    assert drawn.dtype == torch.int64
    for k in range(8):
        expected = few.grid_log_prob(torch.full((1, 1, 2, 2), k)).exp()[0]
        expected = expected * (few.window()[0] == k).any(dim=1)[0]
        frequency = (drawn == k).double().mean(dim=0)
        assert ((frequency - expected).abs() < 4.5 * (expected * (1 - expected) / n).sqrt() + 1e-4).all()


# Diffusion, where every dimension of the data is known to be N(m, s²) on a fine grid.

M, S = 0.3, 0.5


class Exact(nn.Module):
    """A denoiser that nothing need be learned for."""

    def __init__(self, units: WorkingUnits) -> None:
        super().__init__()
        self.units = units

    def forward(self, y: Tensor, t: Tensor, one_hot: Tensor | None = None) -> Posterior:
        ones = torch.ones_like(y)[:, None]
        return Posterior(logits=0 * ones, means=M * ones, variances=S**2 * ones, y=y, t=t, units=self.units)


@pytest.fixture
def diffusion(small_model: Callable[..., Any], make_domain: Callable[..., Domain]) -> Any:
    """Of eight dimensions: noise is a function of the observation, so observations had better differ."""
    domain = dataclasses.replace(make_domain(8, levels=400), location=(200.0,) * 8, scale=(50.0,) * 8)
    model = small_model("diffusion", domain)
    model.denoise = Exact(model.units)
    return model


def normal_points(model: Any, n: int) -> Tensor:
    torch.manual_seed(0)
    points: Tensor = model.units.to_grid(M + S * torch.randn(n, 8))
    return points


@torch.no_grad()
def test_the_variational_bound_is_the_log_probability_where_the_denoiser_is_exact(diffusion: Any) -> None:
    """The bound's gap is the divergence of two distributions that are the same then: likely points or not."""
    x = normal_points(diffusion, 3000)
    every = diffusion.units(torch.arange(400)[:, None].expand(-1, 8))[:, 0].double()
    truth = torch.log_softmax(-0.5 * ((every - M) / S) ** 2, dim=0)[x].sum(dim=1)
    bound = diffusion.log_likelihood(x, levels={"image": 64, "vector": 64})
    gap = (bound - truth)[truth.argsort()]
    for part in (gap, *gap.chunk(3)):
        error = part.std().item() / math.sqrt(len(part))
        assert abs(part.mean().item()) < 4 * error
        assert error < 0.15, "of 44 nats"
    entropy = 8 * math.log(50 * S * math.sqrt(2 * math.pi * math.e))
    assert -bound.mean().item() == pytest.approx(entropy, abs=4 * bound.std().item() / math.sqrt(len(x)))


@torch.no_grad()
def test_the_training_loss_with_even_noise_levels_is_on_average_the_bound(diffusion: Any) -> None:
    x = normal_points(diffusion, 2000)
    diffusion.coarse = 0.0
    losses = torch.stack([diffusion.losses(x)["loss"] for _ in range(40)]).double()
    bound = diffusion.log_likelihood(x, levels={"image": 64, "vector": 64}).mean().item() / 8
    assert losses.mean().item() == pytest.approx(-bound, abs=0.01 + 4 * losses.std().item() / math.sqrt(40))
    assert losses.std() < 0.1


@torch.no_grad()
@pytest.mark.parametrize("sampler", ["ancestral", "deterministic"])
def test_samplers_of_many_steps_give_back_the_mean_and_the_spread(diffusion: Any, sampler: str) -> None:
    torch.manual_seed(0)
    y = diffusion.units(diffusion.sample(2500, sampler=sampler, steps={"image": 200, "vector": 200})).double().flatten()
    assert y.mean().item() == pytest.approx(M, abs=4 * S / math.sqrt(20_000) + 0.002)
    assert y.std().item() == pytest.approx(S, abs=4 * S / math.sqrt(40_000) + 0.002)
    assert kstest(y + (torch.rand(20_000) - 0.5) / 50, norm(M, S).cdf).pvalue > 1e-3


# The mixture of normal distributions, against scikit-learn and scipy.


def covariances(components: int, dimensions: int) -> Tensor:
    roots = torch.randn(components, dimensions, dimensions, dtype=torch.float64)
    return roots @ roots.transpose(1, 2) + 0.3 * torch.eye(dimensions)


def test_densities_with_full_covariances_are_those_of_scikit_learn(
    small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    density = small_model("mixture", make_domain(3, levels=64)).density
    torch.manual_seed(0)
    components = len(density.log_weights)
    full = covariances(components, 3)
    density.log_weights.copy_(torch.randn(components).log_softmax(dim=0))
    density.means.copy_(torch.randn(components, 3))
    density.factors.copy_(torch.linalg.cholesky(full))
    theirs = GaussianMixture(components)
    theirs.weights_, theirs.means_ = density.log_weights.exp().numpy(), density.means.numpy()
    theirs.covariances_ = full.numpy()
    theirs.precisions_cholesky_ = np.linalg.cholesky(np.linalg.inv(full.numpy()))
    y = 3 * torch.randn(50, 3, dtype=torch.float64)
    ours = density.log_densities(y)
    np.testing.assert_allclose(torch.logsumexp(ours, dim=1).numpy(), theirs.score_samples(y.numpy()), rtol=1e-9)
    np.testing.assert_allclose(ours.softmax(dim=1).numpy(), theirs.predict_proba(y.numpy()), rtol=1e-7, atol=1e-12)


def test_factor_analysers_have_the_densities_of_their_covariances(
    small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    density = small_model("mixture", make_domain(1, 2, 3, levels=8)).density.double()
    torch.manual_seed(0)
    components, dimensions, factors = density.loadings.shape
    assert factors > 1
    density.log_weights.copy_(torch.randn(components).log_softmax(dim=0))
    density.means.normal_()
    density.loadings.normal_()
    density.variances.copy_(torch.rand(components, dimensions) + 0.1)
    y = torch.randn(20, dimensions, dtype=torch.float64)
    full = density.loadings @ density.loadings.transpose(1, 2) + torch.diag_embed(density.variances)
    theirs: Any = torch.distributions.MultivariateNormal(density.means, full)
    expected = density.log_weights + theirs.log_prob(y[:, None])
    torch.testing.assert_close(density.log_densities(y), expected)


INTERVALS = {
    "narrow": (0.3, 0.3001),
    "around the centre": (-0.5, 1.5),
    "all to the left": (-math.inf, -1.0),
    "all to the right": (2.0, math.inf),
    "everything": (-math.inf, math.inf),
    "far left": (-30.0, -29.5),
    "far right": (20.0, math.inf),
    "narrow and far": (12.0, 12.001),
}
BEYOND = {"all beyond": (-math.inf, -45.0), "a little beyond": (44.0, 44.1)}
"""Where the distribution function is zero in double precision."""


def ends(interval: tuple[float, float], n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """An interval in standard units as one of N(0.4, 0.7²), and that mean and deviation, `[n, 1]`, float64."""
    mean, deviation = torch.full((n, 1), 0.4, dtype=torch.float64), torch.full((n, 1), 0.7, dtype=torch.float64)
    low, high = (mean + deviation * end for end in interval)
    return low, high, mean, deviation


@pytest.mark.parametrize("interval", [*INTERVALS.values(), *BEYOND.values()], ids=[*INTERVALS, *BEYOND])
def test_masses_and_means_of_cut_normal_distributions_are_those_of_scipy(interval: tuple[float, float]) -> None:
    low, high, mean, deviation = ends(interval, 1)
    theirs = truncnorm(*interval, loc=0.4, scale=0.7)
    finite = [0.4 + 0.7 * end for end in interval if math.isfinite(end)]
    inside = (
        np.mean(finite)
        if len(finite) == 2
        else next(v for v in (0.0, -50.0, 50.0) if theirs.support()[0] <= v <= theirs.support()[1])
    )
    log_scipy = norm.logpdf(inside, loc=0.4, scale=0.7) - theirs.logpdf(inside)
    assert log_mass(low, high, mean, deviation).item() == pytest.approx(log_scipy, rel=1e-7, abs=1e-9)
    assert middle(low, high, mean, deviation).item() == pytest.approx(theirs.mean(), rel=1e-5)


@pytest.mark.parametrize("interval", [*INTERVALS.values(), *BEYOND.values()], ids=[*INTERVALS, *BEYOND])
def test_draws_between_two_ends_follow_the_cut_normal_distribution(interval: tuple[float, float]) -> None:
    torch.manual_seed(0)
    low, high, mean, deviation = ends(interval, 4000)
    drawn = between(low, high, mean, deviation).double()
    assert ((drawn >= low.float()) & (drawn <= high.float())).all()
    if interval[1] - interval[0] > 0.01:  # what is drawn is of single precision
        assert kstest(drawn[:, 0], truncnorm(*interval, loc=0.4, scale=0.7).cdf).pvalue > 1e-3


@pytest.mark.parametrize("colours", [1, 3])
def test_factor_analysers_without_factors_are_independent_pixels(
    colours: int, small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    domain = make_domain(colours, 2, 3, levels=16)
    x = skewed(domain, 500)
    independent, density = small_model("independent", domain), small_model("mixture", domain).density
    independent.fit(x)
    density.marginals.fit(x)
    keep, density.LIKELY = 3, 1.0
    density.log_weights = torch.full((keep,), -math.log(keep))
    density.means, density.loadings, density.variances = (
        part[:keep] for part in (torch.zeros_like(density.means), torch.zeros_like(density.loadings), density.variances)
    )
    expected = independent.log_likelihood(x)
    bound = density.log_likelihood(x, 200)
    assert bound.mean().item() == pytest.approx(expected.mean().item(), abs=0.1)
    assert not torch.allclose(bound, expected, atol=1e-3), "the proposal is wider than the prior"
    density.WIDER = 1.0
    torch.testing.assert_close(density.log_likelihood(x, 2), expected, atol=1e-3, rtol=1e-4)


def test_the_bound_of_factor_analysers_tightens_to_the_integral_over_their_factors(
    small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    domain = make_domain(1, 2, 2, levels=4)
    density = small_model("mixture", domain, width=2).density
    assert density.loadings.shape == (2, 4, 2)
    density.marginals.fit(skewed(domain, 500))
    torch.manual_seed(0)
    density.log_weights.copy_(torch.tensor([0.3, 0.7]).log())
    density.means.normal_(std=0.5)
    density.loadings.normal_(std=0.4)
    density.variances.uniform_(0.3, 1.0)
    axis = torch.linspace(-6, 6, 61)
    z = torch.cartesian_prod(axis, axis)
    log_prior = -0.5 * (z**2).sum(dim=1).double() - math.log(2 * math.pi) + 2 * math.log(12 / 60)
    x = torch.cartesian_prod(*[torch.arange(4)] * 4)
    low, high = (end[:, None] for end in density.interval(x.view(-1, 1, 2, 2)))
    given = [
        torch.logsumexp(log_mass(low, high, m + z @ loadings.T, variances.sqrt()).sum(dim=2) + log_prior, dim=1)
        for m, loadings, variances in zip(density.means, density.loadings, density.variances, strict=True)
    ]
    truth = torch.logsumexp(torch.stack(given, dim=1) + density.log_weights, dim=1)
    assert truth.exp().sum().item() == pytest.approx(1, abs=1e-4)
    one, many = (density.log_likelihood(x.view(-1, 1, 2, 2), draws) for draws in (1, 1000))
    assert many.exp().sum().item() == pytest.approx(1, abs=0.01)
    torch.testing.assert_close(many, truth, atol=0.25, rtol=0)
    assert (one - truth).mean() < (many - truth).mean() < 0.01


def test_expectation_and_maximization_recover_a_known_mixture(
    small_config: Callable[..., Config], make_domain: Callable[..., Domain]
) -> None:
    domain = make_domain(2, levels=400)
    model = build(small_config("mixture", width=500).model, domain, seed=0)
    rng = np.random.default_rng(0)
    means = np.array([[160.0, 240.0], [210.0, 190.0]])
    spreads = np.array([[[900.0, 500.0], [500.0, 600.0]], [[400.0, -300.0], [-300.0, 1200.0]]])
    first = rng.random(20_000) < 0.3
    draws = [rng.multivariate_normal(m, c, 20_000) for m, c in zip(means, spreads, strict=True)]
    x = np.where(first[:, None], draws[0], draws[1]).round().clip(0, 399).astype(np.int64)
    torch.manual_seed(0)
    model.fit(torch.from_numpy(x))
    density, scale = model.density, model.density.units.scale.double()
    assert len(density.log_weights) == 2
    order = (density.means[:, 0]).argsort()
    torch.testing.assert_close(density.log_weights.exp()[order], torch.tensor([0.3, 0.7]).double(), atol=0.015, rtol=0)
    found = density.means[order] * scale + density.units.location
    torch.testing.assert_close(found, torch.from_numpy(means), atol=1.5, rtol=0)
    full = density.factors @ density.factors.transpose(1, 2) * torch.outer(scale, scale)
    torch.testing.assert_close(full[order], torch.from_numpy(spreads), atol=60, rtol=0)
    torch.manual_seed(0)
    samples = model.sample(20_000).double()
    np.testing.assert_allclose(np.cov(samples.T), np.cov(x.T), atol=120)


# The autoregressive model sees what comes before, and computes the same at one place as at all.

IMAGES = [(1, 6, 6), (1, 7, 5), (3, 4, 3)]


@pytest.fixture(params=IMAGES, ids=["x".join(map(str, shape)) for shape in IMAGES])
def reader(request: pytest.FixtureRequest, small_model: Callable[..., Any], make_domain: Callable[..., Domain]) -> Any:
    return shaken(small_model("autoregressive", make_domain(*request.param, levels=8)), 0.3)


def reading_order(domain: Domain) -> list[tuple[int, int, int] | None]:
    """Pixels block by block, in a block colour by colour; None where a block is beyond the border."""
    colours, height, width = domain.shape
    order = [
        (c, i + di, j + dj)
        for i in range(0, height, 2) for j in range(0, width, 2)
        for c in range(colours) for di in (0, 1) for dj in (0, 1)
    ]  # fmt: skip
    return [pixel if pixel[1] < height and pixel[2] < width else None for pixel in order]


@torch.no_grad()
def test_a_pixel_is_told_of_those_before_it_and_of_no_others(reader: Any) -> None:
    order = reading_order(reader.domain)
    inside = torch.tensor([pixel is not None for pixel in order])
    x = torch.randint(8, (4, *reader.domain.shape), generator=torch.Generator().manual_seed(0))
    before = reader.log_probs(x)
    assert (before[:, ~inside] == 0).all()
    for place, pixel in enumerate(order):
        if pixel is None:
            continue
        changed = x.clone()
        changed[:, *pixel] = (x[:, *pixel] + 3) % 8
        moved = (reader.log_probs(changed) - before).abs().amax(dim=0)
        assert (moved[:place] < 1e-5).all()
        assert (moved[place:][inside[place:]] > 1e-5).all()


@torch.no_grad()
def test_the_start_of_a_row_is_told_of_the_end_of_the_row_above(
    small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    model = shaken(small_model("autoregressive", make_domain(1, 4, 12, levels=8)), 0.3)
    x = torch.randint(8, (4, 1, 4, 12), generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[:, 0, 1, 11] = (x[:, 0, 1, 11] + 3) % 8
    moved = (model.log_probs(changed) - model.log_probs(x)).abs().amax(dim=0)
    assert (moved[:23] == 0).all()
    assert (moved[24:] > 1e-5).all()


@torch.no_grad()
def test_a_vector_is_read_from_its_first_dimension_to_its_last(
    small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    model = shaken(small_model("autoregressive", make_domain(4, levels=16)), 0.3)
    x = torch.randint(16, (6, 4), generator=torch.Generator().manual_seed(0))
    for d in range(4):
        changed = x.clone()
        changed[:, d] = (x[:, d] + 5) % 16
        moved = (model.log_probs(changed) - model.log_probs(x)).abs()
        assert (moved[:, :d] == 0).all()
        assert (moved[:, d:].amax(dim=0) > 1e-5).all()


@torch.no_grad()
@pytest.mark.parametrize("shape", [*IMAGES, (4,)], ids=lambda shape: "x".join(map(str, shape)))
def test_the_sampler_draws_from_the_distributions_that_score(
    shape: tuple[int, ...], small_model: Callable[..., Any], make_domain: Callable[..., Domain],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What it draws is replaced by given observations, dimension by dimension."""
    domain = make_domain(*shape, levels=8)
    model = shaken(small_model("autoregressive", domain), 0.3)
    x = torch.randint(8, (3, *shape), generator=torch.Generator().manual_seed(0))
    order = reading_order(domain) if len(shape) == 3 else [(d,) for d in range(shape[0])]
    given = iter([x[:, *place] for place in order if place is not None])
    log_probs: list[Tensor] = []

    class Given(LogisticMixture):
        def sample(self) -> Tensor:
            value = next(given)[:, None].expand(-1, self.means.shape[2])
            # Pixels share their units, so which one of a block it is matters to vectors only.
            log_probs.append(self.log_prob(value)[:, len(log_probs) % value.shape[1]])
            return value

    monkeypatch.setattr(autoregressive, "LogisticMixture", Given)
    assert torch.equal(model.sample(3), x)
    expected = model.log_probs(x)[:, torch.tensor([place is not None for place in order])]
    torch.testing.assert_close(torch.stack(log_probs, dim=1), expected, atol=1e-3, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("itself", [False, True])
def test_a_causal_convolution_is_the_same_at_one_place_as_at_all(itself: bool) -> None:
    torch.manual_seed(0)
    layer = shaken(CausalConv(inputs=3, outputs=5, rows=2, reach=2, itself=itself), 0.1)
    h = torch.randn(2, 4, 5, 3)
    buffer = layer.buffer(h, 4, 5)
    for place, expected in enumerate(layer(h).flatten(1, 2).unbind(dim=1)):
        i, j = divmod(place, 5)
        if itself:
            layer.put(buffer, h[:, i, j], i, j)
        torch.testing.assert_close(layer.at(buffer, i, j), expected)
        layer.put(buffer, h[:, i, j], i, j)


@torch.no_grad()
def test_a_causal_residual_is_the_same_at_one_place_as_at_all() -> None:
    torch.manual_seed(0)
    layer = shaken(CausalResidual(channels=6), 0.1)
    h = torch.randn(2, 4, 5, 6)
    buffer = layer.conv.buffer(h, 4, 5)
    for place, expected in enumerate(layer(h).flatten(1, 2).unbind(dim=1)):
        i, j = divmod(place, 5)
        torch.testing.assert_close(layer.at(buffer, h[:, i, j], i, j), expected)


@torch.no_grad()
def test_a_causal_mixer_is_the_same_at_one_place_as_at_all() -> None:
    torch.manual_seed(0)
    layer = shaken(CausalMixer(channels=6, places=12, width=4), 0.1)
    h = torch.randn(2, 3, 4, 6)
    buffer = torch.zeros(2, 48)
    for place, expected in enumerate(layer(h).flatten(1, 2).unbind(dim=1)):
        torch.testing.assert_close(layer.at(buffer, h.flatten(1, 2)[:, place], place), expected)


@torch.no_grad()
@pytest.mark.parametrize("dimensions", [1, 4])
@pytest.mark.parametrize("context", [0, 5])
def test_networks_in_a_row_are_the_same_one_by_one_as_all_at_once(context: int, dimensions: int) -> None:
    torch.manual_seed(0)
    layer = shaken(Sequential(context=context, dimensions=dimensions, features=3, hidden=8, outputs=7), 0.1)
    told, described = torch.randn(6, context) if context else None, torch.randn(6, dimensions * 3)
    for d, expected in enumerate(layer(told, described).unbind(dim=1)):
        seen = described.clone()
        seen[:, 3 * d :] = torch.nan
        torch.testing.assert_close(layer.at(told, seen, d), expected)


# The flows are invertible maps, and know their Jacobians.


def image_to_noise(density: Any, x: Tensor, u: Tensor) -> Tensor:
    """The image of places u in the intervals of grid points, `[N, D]` in the order of pixels, in [0, 1]."""
    low, high = (end.view(x.shape) for end in density.marginals.interval(x))
    uniform = (low + (high - low) * u).float()
    values = 2 * (x + u - 0.5) / (density.domain.levels - 1) - 1
    pixels = torch.arange(density.domain.dimensions).view(1, *density.domain.shape)
    where, noise = [], []
    for scale, couplings in enumerate(density.scales):
        known, changed = density.lattices(values, scale), density.lattices(uniform, scale)
        places = density.lattices(pixels, scale, beyond=-1)
        seen = [known[0]]
        for coupling, part in zip(couplings, density.PARTS, strict=True):
            noise.append(coupling.splines(torch.cat(seen, dim=1)).forward(changed[part])[0].flatten(1))
            where.append(places[part].flatten())
            seen.append(known[part])
        values, uniform, pixels = known[0], changed[0], places[0]
    index = torch.cat([*where, pixels.flatten()])
    flat = torch.cat([*noise, uniform.flatten(1)], dim=1)[:, index >= 0]
    return flat[:, index[index >= 0].argsort()]


FLOWN = [(1, 3, 3), (2, 2, 3), (1, 1, 5)]


@pytest.fixture(params=FLOWN, ids=["x".join(map(str, shape)) for shape in FLOWN])
def image_flow(
    request: pytest.FixtureRequest, small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> Any:
    domain = make_domain(*request.param, levels=8)
    model = small_model("flow", domain)
    model.start(skewed(domain, 500))
    return shaken(model, 0.3).density


def test_a_flow_of_images_knows_the_determinant_of_its_jacobian(image_flow: Any) -> None:
    dimensions, shape = image_flow.domain.dimensions, image_flow.domain.shape
    x, u = skewed(image_flow.domain, 4), torch.rand(4, *shape, generator=torch.Generator().manual_seed(1))
    ours = image_flow.log_prob(x, u)
    untouched = torch.stack([end.log() for end in (lambda low, high: high - low)(*image_flow.marginals.interval(x))])
    assert (ours - untouched.sum(dim=1)).abs().min() > 0.01, "splines that are idle would prove nothing"
    for i in range(4):
        jacobian = jacobian_of(lambda u, i=i: image_to_noise(image_flow, x[i : i + 1], u)[0], u[i : i + 1])
        log_determinant = jacobian.reshape(dimensions, dimensions).double().slogdet().logabsdet
        assert ours[i].item() == pytest.approx(log_determinant.item(), abs=2e-3)


@torch.no_grad()
def test_a_sampled_image_is_the_one_whose_noise_was_drawn(image_flow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    n, dimensions = 200, image_flow.domain.dimensions
    u = torch.full((n, dimensions), torch.nan)
    locate = image_flow.marginals.locate

    def watched(places: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        points, rest = locate(places, pixels)
        u[:, pixels] = rest.float()
        return points, rest

    monkeypatch.setattr(image_flow.marginals, "locate", watched)
    torch.manual_seed(3)
    x = image_flow.sample(n)
    torch.manual_seed(3)
    noise = torch.rand(n, dimensions)
    ours = image_to_noise(image_flow, x, u.view(x.shape))
    torch.testing.assert_close(ours, noise, atol=1e-3, rtol=0)
    assert (x.flatten(1).float().std(dim=0) > 0).all()


def test_an_untrained_flow_of_images_is_independent_pixels(
    small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    domain = make_domain(2, 3, 3, levels=16)
    x = skewed(domain, 300)
    independent, model = small_model("independent", domain), small_model("flow", domain)
    independent.fit(x)
    model.start(x)
    ours = model.log_likelihood(x, dequantizations=3)
    torch.testing.assert_close(ours, independent.log_likelihood(x), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("dimensions", [1, 3])
def test_a_flow_of_vectors_knows_the_determinant_of_its_jacobian(
    dimensions: int, small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    density = shaken(small_model("flow", make_domain(dimensions, levels=64)), 0.3).density
    x = torch.randint(64, (5, dimensions), generator=torch.Generator().manual_seed(0))
    u = torch.rand(5, dimensions, generator=torch.Generator().manual_seed(1))

    def to_noise(u: Tensor, i: int) -> Tensor:
        noise: Tensor = density.flow().transform((x[i] + u - 0.5 - density.units.location) / density.units.scale)
        return noise

    for i, ours in enumerate(density.log_prob(x, u)):
        log_determinant = jacobian_of(lambda u, i=i: to_noise(u, i), u[i]).double().slogdet().logabsdet
        standard: Any = torch.distributions.Normal(0, 1)
        expected = standard.log_prob(to_noise(u[i], i).double()).sum() + log_determinant
        assert ours.item() == pytest.approx(expected.item(), abs=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("dimensions", [1, 3])
def test_a_sampled_vector_is_the_one_whose_noise_was_drawn(
    dimensions: int, small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    density = shaken(small_model("flow", make_domain(dimensions, levels=100_000)), 0.1).density
    torch.manual_seed(0)
    x = density.sample(1000)
    torch.manual_seed(0)
    noise = density.flow().base.sample((1000,))
    inside = ((x > 0) & (x < 99_999)).all(dim=1)
    assert inside.sum() > 100
    torch.testing.assert_close(density.flow().transform(density.units(x))[inside], noise[inside], atol=1e-2, rtol=0)


# Learning a distribution of one dimension that is known.

LEARNERS = sorted(set(choices("model")) - {"copycat", "uniform", "independent"})
FINER: dict[str, dict[str, Any]] = {
    "vae": {"importance_samples": 500},
    "flow_matching": {"probes": 0, "dequantizations": 16},
    "diffusion": {"levels": {"image": 4096, "vector": 4096}},
}
"""All is evaluated on no more than 200 points."""


def two_humps() -> Tensor:
    """`[200]`, float64: two normal distributions, discretized."""
    edges = np.arange(201) - 0.5
    mass = 0.4 * np.diff(norm.cdf(edges, 60, 10)) + 0.6 * np.diff(norm.cdf(edges, 125, 18))
    return torch.from_numpy(mass / mass.sum())


@pytest.mark.parametrize("family", LEARNERS)
def test_a_family_learns_two_humps(
    family: str, small_config: Callable[..., Config], make_domain: Callable[..., Domain], tmp_path: Path
) -> None:
    truth = two_humps()
    x = torch.multinomial(truth, 29_000, replacement=True, generator=torch.Generator().manual_seed(0))[:, None]
    data, fresh = x[:20_000], x[20_000:]
    location, scale = data.float().mean().item(), data.float().std().item()
    domain = dataclasses.replace(make_domain(1, levels=200), location=(location,), scale=(scale,))
    config = small_config(family, "trainer.checks=1", "trainer.previews=0", width=1000)
    model = build(config.model, domain, seed=0)
    torch.manual_seed(0)
    if isinstance(model, Fitted):
        model.fit(data)
    else:
        if hasattr(model, "start"):
            model.start(data)
        assert config.optimizer is not None
        train(model, (data.numpy(),), (data[:256].numpy(),), optimizer=config.optimizer, trainer=config.trainer,
              steps=600, batch_size=256, seed=0, scratch=tmp_path, observer=Silent(), preview=None)  # fmt: skip
    assert config.likelihood is not None
    with torch.no_grad():
        nats = model.log_likelihood(torch.arange(200)[:, None], **config.likelihood | FINER.get(family, {})).double()
        torch.manual_seed(0)
        samples = model.sample(5000, **config.sampling)
    # Cross-entropy less entropy: what fresh data without end would cost more than they need.
    excess = (truth * (truth.log() - nats)).sum().item()
    assert -0.02 < excess < 0.05
    assert wasserstein_distance(samples[:, 0].numpy(), fresh[:, 0].numpy()) / scale < 0.1
