"""Tones: grid points that take as much room as they are common."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from likelihood_helpers import EXTREME, ORDINARY, all_points, mixture
from scipy.stats import chisquare
from torch import Tensor

from lookalike.core.domain import Domain
from lookalike.core.likelihood import LogisticMixture, Tones, WorkingUnits


def spiky(levels: int, count: int = 100_000) -> tuple[Tensor, Tensor]:
    """Pixels `[count, 1, 1, 1]` with spikes and gaps, half of them at the ends, and what they are drawn from."""
    weights = 1 + torch.arange(levels) % 3 + 40.0 * (torch.arange(levels) % 50 == 1)
    weights[[0, -1]] = weights[1:-1].sum() / 2
    weights = weights.double() / weights.double().sum()
    drawn = torch.multinomial(weights, count, replacement=True, generator=torch.Generator().manual_seed(0))
    return drawn.to(torch.uint8).view(-1, 1, 1, 1), weights


@pytest.mark.parametrize("levels", [2, 3, 4, 256])
def test_tones_are_even_until_they_are_fitted(levels: int, make_domain: Callable[..., Domain]) -> None:
    domain = make_domain(1, 1, 1, levels=levels)
    tones, units, x = Tones(domain), WorkingUnits(domain), all_points(domain)
    torch.testing.assert_close(tones(x), units(x))
    torch.testing.assert_close(tones.interval(x), units.interval(x))
    assert torch.equal(tones.to_grid(units(x)), units.to_grid(units(x)))
    tones.fit(torch.tensor([0, levels - 1], dtype=torch.uint8).view(-1, 1, 1, 1))  # paper and ink, no grey
    torch.testing.assert_close(tones(x), units(x))


@pytest.mark.parametrize("levels", [3, 4, 256])
def test_tones_divide_the_same_range_by_how_common_grid_points_are(
    levels: int, make_domain: Callable[..., Domain]
) -> None:
    domain = make_domain(1, 1, 1, levels=levels)
    tones, x = Tones(domain), all_points(domain)
    even_low, even_high = (end.flatten().double() for end in tones.interval(x))
    pixels, _ = spiky(levels)
    tones.fit(pixels)
    low, high = (end.flatten().double() for end in tones.interval(x))
    torch.testing.assert_close(high[:-1], low[1:], atol=0, rtol=0)
    torch.testing.assert_close(torch.stack([low[0], low[1], high[-2], high[-1]]),
                               torch.stack([even_low[0], even_low[1], even_high[-2], even_high[-1]]))  # fmt: skip
    counts = torch.bincount(pixels.flatten().long(), minlength=levels)[1:-1].double()
    expected = (1 - Tones.RARE) * counts / counts.sum() + Tones.RARE / len(counts)
    widths = (high - low)[1:-1]
    torch.testing.assert_close(widths / widths.sum(), expected, atol=1e-6, rtol=1e-3)
    assert torch.equal(tones.to_grid(tones(x)), x)
    inside = torch.lerp(tones.edges[1:-2], tones.edges[2:-1], 0.999).view(-1, 1, 1, 1)
    assert torch.equal(tones.to_grid(inside), x[1:-1])
    places = tones.dequantize(x[1:-1], torch.full(x[1:-1].shape, 0.25))
    torch.testing.assert_close(places, torch.lerp(tones.edges[1:-2], tones.edges[2:-1], 0.25).view(-1, 1, 1, 1))
    far = torch.tensor([-1e9, 1e9]).view(-1, 1, 1, 1)
    assert tones.to_grid(far).flatten().tolist() == [0, levels - 1]


@pytest.mark.parametrize("parameters", [ORDINARY, *EXTREME.values()], ids=["ordinary", *EXTREME])
@pytest.mark.parametrize("levels", [3, 256])
def test_a_logistic_mixture_sums_to_one_in_tones(
    parameters: dict[str, list[float]], levels: int, make_domain: Callable[..., Domain]
) -> None:
    domain = make_domain(1, 1, 1, levels=levels)
    tones = Tones(domain)
    tones.fit(spiky(levels)[0])
    leaf = mixture(domain, **parameters, n=levels).requires_grad_()
    log_prob = LogisticMixture(leaf, tones).log_prob(all_points(domain))
    assert log_prob.double().exp().sum().item() == pytest.approx(1, abs=3e-4)
    log_prob.sum().backward()
    assert leaf.grad is not None
    assert log_prob.isfinite().all()
    assert leaf.grad.isfinite().all()


def test_one_flat_mixture_has_all_spikes_in_tones_and_none_on_an_even_grid(make_domain: Callable[..., Domain]) -> None:
    domain = make_domain(1, 1, 1, levels=256)
    pixels, weights = spiky(256)
    tones = Tones(domain)
    tones.fit(pixels)
    grey = weights[1:-1] / weights[1:-1].sum()
    cost = {}
    for name, units in {"tones": tones, "even": WorkingUnits(domain)}.items():
        flat = mixture(domain, logits=[0.0], means=[0.0], log_scales=[2.0], n=256)
        mass = LogisticMixture(flat, units).log_prob(all_points(domain)).flatten()[1:-1].double().exp()
        cost[name] = float((grey * (grey / (mass / mass.sum())).log()).sum())
    assert cost["even"] > 0.3
    assert cost["tones"] < 0.02


def test_samples_in_tones_come_as_often_as_log_prob_says(make_domain: Callable[..., Domain]) -> None:
    domain, n = make_domain(1, 1, 1, levels=16), 100_000
    tones = Tones(domain)
    tones.fit(spiky(16)[0])
    torch.manual_seed(0)
    drawn = LogisticMixture(mixture(domain, **ORDINARY, n=n), tones).sample().flatten()
    mass = LogisticMixture(mixture(domain, **ORDINARY, n=16), tones).log_prob(all_points(domain)).flatten()
    expected = mass.double().exp().numpy()
    assert chisquare(np.bincount(drawn.numpy(), minlength=16), n * expected / expected.sum()).pvalue > 1e-3
