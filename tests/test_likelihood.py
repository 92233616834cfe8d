"""Units, dequantization, discretized logistics, noise by row: against closed forms."""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from lookalike.domain import Domain
from lookalike.likelihood import LogisticMixture, WorkingUnits, bits_per_dimension, log_mean_exp, row_noise

Distribution = Literal["normal", "uniform", "sign"]


def all_points(domain: Domain) -> Tensor:
    """`[levels, *shape]`: every grid point, in all dimensions at once."""
    return torch.arange(domain.levels).view(-1, *[1] * len(domain.shape)).expand(-1, *domain.shape)


def mixture(domain: Domain, *, logits: list[float], means: list[float], log_scales: list[float], n: int) -> Tensor:
    """`[n, 3 components, *shape]`: the same mixture for every dimension."""
    row = torch.tensor([*logits, *means, *log_scales]).view(1, -1, *[1] * len(domain.shape))
    return row.expand(n, -1, *domain.shape).clone()


ORDINARY = {"logits": [0.0, 1.0, -1.0], "means": [-0.5, 0.1, 0.9], "log_scales": [-2.0, -1.0, 0.0]}
EXTREME = {
    "needles": {"logits": [0.0, 0.0], "means": [0.3, -0.3], "log_scales": [-7.0, -6.0]},
    "narrower than the floor of scales": {"logits": [0.0], "means": [0.123], "log_scales": [-30.0]},
    "broader than the grid": {"logits": [0.0, 3.0], "means": [0.0, 5.0], "log_scales": [5.0, 12.0]},
    "beyond the grid": {"logits": [0.0], "means": [40.0], "log_scales": [-3.0]},
    "far below the grid": {"logits": [0.0], "means": [-40.0], "log_scales": [-7.0]},
    "one component only": {"logits": [0.0, 80.0], "means": [0.0, 0.5], "log_scales": [0.0, -4.0]},
    "on the border of two points": {"logits": [0.0], "means": [0.0], "log_scales": [-7.0]},
}


@pytest.mark.parametrize("parameters", [ORDINARY, *EXTREME.values()], ids=["ordinary", *EXTREME])
@pytest.mark.parametrize(("shape", "levels"), [((1, 2, 2), 256), ((1, 2, 2), 2), ((2,), 1120)])
def test_a_logistic_mixture_sums_to_one_over_the_grid(
    parameters: dict[str, list[float]], shape: tuple[int, ...], levels: int, make_domain: Callable[..., Domain]
) -> None:
    domain = make_domain(*shape, levels=levels)
    x = all_points(domain)
    mass = LogisticMixture(mixture(domain, **parameters, n=levels), WorkingUnits(domain)).log_prob(x).double().exp()
    # float32: a place y far from 0, over a scale of e^-7, has lost digits that depend on the level; neighbours agree
    # on their border to about 1e-4 of a logit.
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
    jacobian = torch.autograd.functional.jacobian(lambda k: units(k).flatten(), torch.rand(shape))
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
    """So bounds of K and of 2K samples share their first K, and tighten in step."""
    x = torch.arange(12).view(4, 3)
    longer = row_noise(x, (50, 2), distribution=distribution, seed=0)
    assert torch.equal(row_noise(x, (20, 2), distribution=distribution, seed=0), longer[:, :20])


@pytest.mark.parametrize(
    ("distribution", "moments"), [("normal", (0, 1, 0, 3)), ("uniform", (1 / 2, 1 / 3, 1 / 4, 1 / 5)), ("sign", (0, 1, 0, 1))]
)
def test_noise_has_the_moments_of_its_distribution(distribution: Distribution, moments: tuple[float, ...]) -> None:
    noise = row_noise(torch.arange(2000)[:, None], (50,), distribution=distribution, seed=0).double()
    for power, moment in enumerate(moments, start=1):
        terms = noise**power
        assert terms.mean().item() == pytest.approx(moment, abs=4.5 * terms.std().item() / math.sqrt(terms.numel()) + 1e-9)
    # Places of a row, and rows, are independent of each other.
    centred = noise - noise.mean()
    for other in (centred.roll(1, dims=0), centred.roll(1, dims=1)):
        assert abs((centred * other).mean() / centred.var()) < 4.5 / math.sqrt(noise.numel())


def test_log_mean_exp_is_what_its_name_says() -> None:
    weights = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(log_mean_exp(weights, dim=1), weights.exp().mean(dim=1).log())
    torch.testing.assert_close(log_mean_exp(weights, dim=0), weights.exp().mean(dim=0).log())
    torch.testing.assert_close(log_mean_exp(weights - 5000, dim=1), weights.exp().mean(dim=1).log() - 5000)
