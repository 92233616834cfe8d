"""Tests that every family learns a known distribution of one dimension."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm, wasserstein_distance
from torch import Tensor

from family_helpers import learned_well
from lookalike.domain.domain import Domain
from lookalike.families.build import build, for_domain
from lookalike.workspace.configuration import Config, choices

LEARNERS = sorted(set(choices("model")) - {"copycat", "uniform", "independent"})
FINER: dict[str, dict[str, Any]] = {
    "vae": {"importance_samples": 500},
    "flow_matching": {"probes": 0, "dequantizations": 16},
    "diffusion": {"levels": 4096},
}
"""Settings of likelihoods, which are evaluated on 200 points only."""


def two_humps() -> Tensor:
    """Return the probabilities `[200]`, float64, of two normal distributions, discretized."""
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
    domain = make_domain(1, levels=200, location=location, scale=scale)
    config = for_domain(small_config(family, "trainer.checks=1", "trainer.previews=0", width=1000), domain)
    model = build(config.model, domain, seed=0)
    learned_well(model, config, data, steps=600, batch_size=256, scratch=tmp_path)
    with torch.no_grad():
        torch.manual_seed(0)
        samples = model.sample(5000, **config.sampling)
        if config.likelihood is not None:
            outcomes, settings = torch.arange(200)[:, None], config.likelihood | FINER.get(family, {})
            nats = model.log_likelihood(outcomes, **settings).double()
            # The cross-entropy less the entropy, in expectation over the true distribution.
            excess = (truth * (truth.log() - nats)).sum().item()
            assert -0.02 < excess < 0.05
    assert wasserstein_distance(samples[:, 0].numpy(), fresh[:, 0].numpy()) / scale < 0.1
