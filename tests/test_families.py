"""That every family learns a distribution of one dimension that is known."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm, wasserstein_distance
from torch import Tensor

from lookalike.core.config import Config, choices
from lookalike.core.domain import Domain
from lookalike.history import Silent
from lookalike.models import Fitted
from lookalike.models.build import build
from lookalike.training import train

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
    with torch.no_grad():
        torch.manual_seed(0)
        samples = model.sample(5000, **config.sampling)
        if config.likelihood is not None:
            outcomes, settings = torch.arange(200)[:, None], config.likelihood | FINER.get(family, {})
            nats = model.log_likelihood(outcomes, **settings).double()
            # Cross-entropy less entropy: what fresh data without end would cost more than they need.
            excess = (truth * (truth.log() - nats)).sum().item()
            assert -0.02 < excess < 0.05
    assert wasserstein_distance(samples[:, 0].numpy(), fresh[:, 0].numpy()) / scale < 0.1
