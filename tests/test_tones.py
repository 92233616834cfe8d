"""Tests of tones: each grid point has as much room as it is common."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from likelihood_helpers import EXTREME, ORDINARY
from lookalike.distributions.logistics import LogisticMixture
from lookalike.distributions.tones import Intervals, Tones
from lookalike.domain.domain import Domain
from lookalike.domain.units import WorkingUnits


def spiky(levels: int, count: int = 100_000) -> tuple[Tensor, Tensor]:
    """Return counts `[1, levels]` of pixels with spikes and gaps, half of them at the ends, and their weights."""
    weights = 1 + torch.arange(levels) % 3 + 40.0 * (torch.arange(levels) % 50 == 1)
    weights[[0, -1]] = weights[1:-1].sum() / 2
    weights = weights.double() / weights.double().sum()
    drawn = torch.multinomial(weights, count, replacement=True, generator=torch.Generator().manual_seed(0))
    return torch.bincount(drawn, minlength=levels)[None], weights


def mixture(parameters: dict[str, list[float]], n: int) -> Tensor:
    """Return parameters `[1, 3 components, n]` of the same mixture at every place."""
    row = [number for part in parameters.values() for number in part]
    return torch.tensor([row])[:, :, None].repeat(1, 1, n)


def every(levels: int) -> Tensor:
    """Return all grid points of one channel, `[1, levels]`."""
    return torch.arange(levels)[None]


@pytest.mark.parametrize("levels", [2, 3, 4, 256])
def test_tones_are_even_until_they_are_fitted(levels: int, make_domain: Callable[..., Domain]) -> None:
    domain = make_domain(2, 1, 1, levels=levels)
    tones, units, x = Tones(domain), WorkingUnits(domain), every(levels).repeat(2, 1)
    torch.testing.assert_close(tones.centres, units(x))
    torch.testing.assert_close(Intervals(tones.edges).interval(x), units.interval(x))
    assert torch.equal(Intervals(tones.edges).to_grid(units(x)), units.to_grid(units(x)))
    counts = torch.zeros(2, levels, dtype=torch.int64)
    counts[:, [0, -1]] = 1  # paper and ink, no grey
    tones.fit(counts)
    torch.testing.assert_close(tones.centres, units(x))


@pytest.mark.parametrize("levels", [3, 4, 256])
def test_tones_divide_the_same_range_by_how_common_grid_points_are(
    levels: int, make_domain: Callable[..., Domain]
) -> None:
    tones, x = Tones(make_domain(1, 1, 1, levels=levels)), every(levels)
    even_low, even_high = (end.flatten().double() for end in Intervals(tones.edges).interval(x))
    counts, _ = spiky(levels)
    tones.fit(counts)
    intervals = Intervals(tones.edges)
    low, high = (end.flatten().double() for end in intervals.interval(x))
    torch.testing.assert_close(high[:-1], low[1:], atol=0, rtol=0)
    ends = [torch.stack([a[0], a[1], b[-2], b[-1]]) for a, b in ((low, high), (even_low, even_high))]
    torch.testing.assert_close(*ends)
    inner = counts[0, 1:-1].double()
    expected = (1 - Tones.UNIFORM) * inner / inner.sum() + Tones.UNIFORM / len(inner)
    widths = (high - low)[1:-1]
    torch.testing.assert_close(widths / widths.sum(), expected, atol=1e-6, rtol=1e-3)
    assert torch.equal(intervals.to_grid(tones.centres), x)
    inside = torch.lerp(tones.edges[:, 1:-2], tones.edges[:, 2:-1], 0.999)
    assert torch.equal(intervals.to_grid(inside), x[:, 1:-1])
    assert intervals.to_grid(torch.tensor([[-1e9, 1e9]])).tolist() == [[0, levels - 1]]


def test_every_channel_has_tones_of_its_own(make_domain: Callable[..., Domain]) -> None:
    both, alone = Tones(make_domain(2, 1, 1, levels=16)), Tones(make_domain(1, 1, 1, levels=16))
    even = torch.full((1, 16), 3)
    both.fit(torch.cat([spiky(16)[0], even]))
    alone.fit(spiky(16)[0])
    assert torch.equal(both.edges[0], alone.edges[0])
    torch.testing.assert_close(both.edges[1], Tones(make_domain(1, 1, 1, levels=16)).edges[0])


@pytest.mark.parametrize("parameters", [ORDINARY, *EXTREME.values()], ids=["ordinary", *EXTREME])
@pytest.mark.parametrize("levels", [3, 256])
def test_a_logistic_mixture_sums_to_one_in_tones(
    parameters: dict[str, list[float]], levels: int, make_domain: Callable[..., Domain]
) -> None:
    tones = Tones(make_domain(1, 1, 1, levels=levels))
    tones.fit(spiky(levels)[0])
    leaf = mixture(parameters, levels).requires_grad_()
    log_prob = LogisticMixture(leaf, Intervals(tones.edges)).log_prob(every(levels))
    assert log_prob.double().exp().sum().item() == pytest.approx(1, abs=3e-4)
    log_prob.sum().backward()
    assert leaf.grad is not None
    assert log_prob.isfinite().all()
    assert leaf.grad.isfinite().all()


def test_one_flat_mixture_has_all_spikes_in_tones_and_none_on_an_even_grid(make_domain: Callable[..., Domain]) -> None:
    domain = make_domain(1, 1, 1, levels=256)
    counts, weights = spiky(256)
    fitted = Tones(domain)
    fitted.fit(counts)
    grey = weights[1:-1] / weights[1:-1].sum()
    cost = {}
    for name, tones in {"tones": fitted, "even": Tones(domain)}.items():
        flat = mixture({"logits": [0.0], "means": [0.0], "log_scales": [2.0]}, 256)
        mass = LogisticMixture(flat, Intervals(tones.edges)).log_prob(every(256)).flatten()[1:-1].double().exp()
        cost[name] = float((grey * (grey / (mass / mass.sum())).log()).sum())
    assert cost["even"] > 0.3
    assert cost["tones"] < 0.02


def test_samples_in_tones_come_as_often_as_log_prob_says(make_domain: Callable[..., Domain]) -> None:
    n, tones = 100_000, Tones(make_domain(1, 1, 1, levels=16))
    tones.fit(spiky(16)[0])
    intervals = Intervals(tones.edges)
    torch.manual_seed(0)
    drawn = LogisticMixture(mixture(ORDINARY, n), intervals).sample().flatten()
    expected = LogisticMixture(mixture(ORDINARY, 16), intervals).log_prob(every(16)).flatten().double().exp().numpy()
    assert chisquare(np.bincount(drawn.numpy(), minlength=16), n * expected / expected.sum()).pvalue > 1e-3
