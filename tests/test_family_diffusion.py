"""Tests of diffusion on data whose dimensions are N(m, s²) on a fine grid."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.stats import kstest, norm
from torch import Tensor, nn

from lookalike.domain.domain import Domain
from lookalike.domain.units import WorkingUnits
from lookalike.paths.posterior import Posterior

M, S = 0.3, 0.5


class Exact(nn.Module):
    """The exact denoiser of these data."""

    def __init__(self, units: WorkingUnits) -> None:
        super().__init__()
        self.units = units

    def forward(self, y: Tensor, t: Tensor, one_hot: Tensor | None = None) -> Posterior:
        ones = torch.ones_like(y)[:, None]
        return Posterior(logits=0 * ones, means=M * ones, variances=S**2 * ones, y=y, t=t, units=self.units)


@pytest.fixture
def diffusion(small_model: Callable[..., Any], make_domain: Callable[..., Domain]) -> Any:
    """Return a model of eight dimensions; noise is a function of the observation, so observations should differ."""
    model = small_model("diffusion", make_domain(8, levels=400, location=200.0, scale=50.0))
    model.denoise = Exact(model.units)
    return model


def normal_points(model: Any, n: int) -> Tensor:
    torch.manual_seed(0)
    points: Tensor = model.units.to_grid(M + S * torch.randn(n, 8))
    return points


@torch.no_grad()
def test_the_variational_bound_is_the_log_probability_where_the_denoiser_is_exact(diffusion: Any) -> None:
    """The gap of the bound is a divergence of two equal distributions, for likely and for unlikely points."""
    x = normal_points(diffusion, 3000)
    every = diffusion.units(torch.arange(400)[:, None].expand(-1, 8))[:, 0].double()
    truth = torch.log_softmax(-0.5 * ((every - M) / S) ** 2, dim=0)[x].sum(dim=1)
    bound = diffusion.log_likelihood(x, levels=64)
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
    bound = diffusion.log_likelihood(x, levels=64).mean().item() / 8
    assert losses.mean().item() == pytest.approx(-bound, abs=0.01 + 4 * losses.std().item() / math.sqrt(40))
    assert losses.std() < 0.1


@torch.no_grad()
@pytest.mark.parametrize("sampler", ["ancestral", "deterministic"])
def test_samplers_of_many_steps_draw_the_right_mean_and_standard_deviation(diffusion: Any, sampler: str) -> None:
    torch.manual_seed(0)
    y = diffusion.units(diffusion.sample(2500, sampler=sampler, steps=200)).double().flatten()
    assert y.mean().item() == pytest.approx(M, abs=4 * S / math.sqrt(20_000) + 0.002)
    assert y.std().item() == pytest.approx(S, abs=4 * S / math.sqrt(40_000) + 0.002)
    assert kstest(y + (torch.rand(20_000) - 0.5) / 50, norm(M, S).cdf).pvalue > 1e-3
