"""Tests of the mixture of normal distributions against scikit-learn and SciPy."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm, truncnorm
from sklearn.mixture import GaussianMixture
from torch import Tensor

from family_helpers import skewed
from lookalike.distributions.truncated import between, log_mass, middle
from lookalike.domain.domain import Domain
from lookalike.families.build import build
from lookalike.workspace.configuration import Config


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
    density.WIDENING = 1.0
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
    model: Any = build(small_config("mixture", width=500).model, domain, seed=0)
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
