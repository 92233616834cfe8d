"""Tests of the optimal coupling: it has the least distance within each class, and it straightens paths."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor

from family_helpers import learned_well
from lookalike.domain.domain import Domain
from lookalike.families.build import build, for_domain
from lookalike.paths.coupling import optimal_coupling
from lookalike.paths.ode import integrate
from lookalike.workspace.configuration import Config


def drawn(n: int, *, seed: int, shape: tuple[int, ...] = (3,)) -> tuple[Tensor, Tensor]:
    """Return noise and data, `[n, *shape]` each."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=generator), 2 * torch.randn(n, *shape, generator=generator) + 1


def cost(noise: Tensor, x: Tensor) -> float:
    return float((noise - x).square().sum())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [(3,), (2, 2, 2)])
def test_no_other_order_is_shorter(seed: int, shape: tuple[int, ...]) -> None:
    noise, x = drawn(6, seed=seed, shape=shape)
    order = optimal_coupling(noise, x, None)
    assert sorted(order.tolist()) == list(range(6))
    least = min(cost(noise[list(other)], x) for other in itertools.permutations(range(6)))
    assert cost(noise[order], x) == pytest.approx(least, rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_classes_keep_their_noise_and_no_other_order_within_them_is_shorter(seed: int) -> None:
    noise, x = drawn(7, seed=seed)
    labels = torch.tensor([0, 2, 0, 2, 2, 0, 5], dtype=torch.uint8)
    order = optimal_coupling(noise, x, labels)
    assert sorted(order.tolist()) == list(range(7))
    assert torch.equal(labels[order], labels)
    kept = [list(other) for other in itertools.permutations(range(7)) if torch.equal(labels[list(other)], labels)]
    assert len(kept) == 36
    assert cost(noise[order], x) == pytest.approx(min(cost(noise[other], x) for other in kept), rel=1e-5)


def test_coupled_noise_of_one_dimension_has_the_order_of_the_data() -> None:
    noise, x = drawn(50, seed=0, shape=(1,))
    order = optimal_coupling(noise, x, None)
    assert torch.equal(noise[order][:, 0].argsort(), x[:, 0].argsort())


def test_every_class_starts_from_the_same_noise() -> None:
    """A coupling over the whole batch would divide the noise between the two classes by its sign."""
    noise, _ = drawn(400, seed=0, shape=(1,))
    labels = torch.arange(400) % 2
    x = noise.flip(0) + 5 * labels[:, None]

    def apart(groups: Tensor | None) -> float:
        coupled = noise[optimal_coupling(noise, x, groups)]
        return float(coupled[labels == 1].mean() - coupled[labels == 0].mean())

    assert abs(apart(labels)) < 0.3
    assert apart(None) > 1


@pytest.fixture(scope="module")
def two_humps(make_domain: Callable[..., Domain]) -> tuple[Domain, Tensor]:
    """Return data `[8000, 1]` with two narrow humps: with few steps, samples easily end in the valley between them."""
    generator = torch.Generator().manual_seed(0)
    which = torch.rand(8000, 1, generator=generator) < 0.5
    x = torch.where(which, 60.0, 140.0) + 6 * torch.randn(8000, 1, generator=generator)
    return make_domain(1, levels=200, location=100.0, scale=41.0), x.round().long()


def trained(config: Config, domain: Domain, x: Tensor, scratch: Path) -> Any:
    model = build(config.model, domain, seed=0)
    learned_well(model, config, x, steps=500, batch_size=128, scratch=scratch)
    return model


def bend(model: Any) -> float:
    """Return the mean distance, in working units, between the ends of paths and where their first velocity points."""
    torch.manual_seed(0)
    noise = torch.randn(2000, 1)
    with torch.no_grad():
        straight = model.denoise(noise, torch.zeros(2000)).mean()
        carried = integrate(model.field, noise, solver="midpoint", steps=20, tolerance=None, device=torch.device("cpu"))
    return float((carried - straight).abs().mean())


def test_optimal_coupling_straightens_the_paths_and_keeps_what_they_lead_to(
    two_humps: tuple[Domain, Tensor], small_config: Callable[..., Config], tmp_path: Path
) -> None:
    domain, x = two_humps
    bends, distances = {}, {}
    for coupling in ("independent", "optimal"):
        overrides = [f"model.coupling={coupling}", "trainer.checks=1", "trainer.previews=0"]
        config = for_domain(small_config("flow_matching", *overrides, width=64), domain)
        model = trained(config, domain, x, tmp_path / coupling)
        bends[coupling] = bend(model)
        torch.manual_seed(0)
        few = model.sample(4000, solver="euler", steps=2, tolerance=None)
        distances[coupling] = wasserstein_distance(few[:, 0].numpy(), x[:, 0].numpy())
        samples = model.sample(4000, **config.sampling)[:, 0].float()
        assert samples.mean().item() == pytest.approx(x.float().mean().item(), abs=4)
        assert ((samples > 85) & (samples < 115)).float().mean() < 0.03
        assert config.likelihood is not None
        settings = config.likelihood | {"probes": 0, "dequantizations": 16}
        total = model.log_likelihood(torch.arange(200)[:, None], **settings).exp().sum().item()
        assert total == pytest.approx(1, abs=0.1), "importance weights vary more under optimal coupling"
    assert bends["optimal"] < 0.5 * bends["independent"]
    assert distances["optimal"] < 0.7 * distances["independent"]
