"""Tests of the path from noise to data against numerical integration and Bayes' rule."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lookalike.domain.domain import Domain
from lookalike.domain.units import WorkingUnits
from lookalike.paths.ode import integrate
from lookalike.paths.path import Path as NoisePath
from lookalike.paths.path import log_snr, time_of
from lookalike.paths.posterior import Posterior


@pytest.fixture(params=[((1, 2, 2), 256), ((1,), 1120), ((3,), 16)], ids=["pixels", "heights", "table"])
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


def test_a_time_and_its_signal_to_noise_ratio_agree(path: NoisePath) -> None:
    t = torch.linspace(1e-4, path.end, 300, dtype=torch.float64)
    torch.testing.assert_close(time_of(log_snr(t)), t)
    torch.testing.assert_close(log_snr(t).exp(), (t / (1 - t)) ** 2)
    assert log_snr(torch.tensor(path.end, dtype=torch.float64)).item() == pytest.approx(path.log_snr, rel=1e-9)


def test_noise_at_the_end_is_half_a_step_of_the_grid(make_domain: Callable[..., Domain]) -> None:
    units = WorkingUnits(make_domain(1, 2, 2, levels=256))
    path = NoisePath(units)
    assert (1 - path.end) / path.end * float(units.scale) == pytest.approx(0.5)


def test_a_point_that_is_carried_along_reaches_the_data_with_its_own_noise(path: NoisePath) -> None:
    x, noise = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind()
    end = integrate(
        lambda s, y: path.speed(s) * (x - y), noise, solver="rk4", steps=100, tolerance=None, device=torch.device("cpu")
    )
    torch.testing.assert_close(end, path.noisy(x, noise, torch.full((5,), path.end)), atol=1e-4, rtol=1e-4)


def random_posterior(domain: Domain, n: int, *, t: Tensor | float) -> Posterior:
    """Return three components per dimension, and noisy points that may come from them; in double precision."""
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
    """Return log p(x) p(y_t | x) of values `[V]` in every dimension, `[V, N, *shape]`, up to a constant."""
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
        # One dimension at a time, or all of them where they share their units.
        scale, location = posterior.units.scale[d], posterior.units.location[d]
        expected = log_joint(posterior, (every - location) / scale).log_softmax(dim=0)
        ours = torch.stack([posterior.grid_log_prob(torch.full((50, *shape), k)) for k in every.tolist()])
        seen = expected > math.log(1e-9)
        if len(posterior.units.scale) > 1:
            seen, ours, expected = seen[..., d], ours[..., d], expected[..., d]
        torch.testing.assert_close(ours[seen], expected[seen], atol=1e-6, rtol=1e-6)
        assert seen.sum() > 2 * seen[0].numel(), "otherwise there is nothing to decide"


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
