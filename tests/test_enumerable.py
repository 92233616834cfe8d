"""All 256 outcomes of a small domain: a model's probabilities add up, and its samples follow them.

Four dimensions of four levels, as a vector, as an image of 2x2 pixels and as a column of them, whose lower half may be
told of levels by its upper one; and a row of eight pixels of two levels: four blocks for a network that goes from block
to block, three scales for one that goes from coarse to fine.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lookalike.core.config import Config, choices, compose
from lookalike.core.domain import Domain
from lookalike.core.likelihood import Kind
from lookalike.history import Silent
from lookalike.models import Fitted
from lookalike.models.build import build
from lookalike.training import train

SAMPLES = {"exact": 60_000, "lower bound": 20_000, "estimate": 20_000}
"""By the kind of the likelihood. So many that chance alone is half of what is allowed an exact one."""

SHAPES = {"vector": (4,), "image": (1, 2, 2), "row": (1, 1, 8), "column": (1, 4, 1)}
SQUARE = (0, 1), (0, 2), (1, 3), (2, 3)
NEIGHBOURS = {"column": ((0, 1), (1, 2), (2, 3), (0, 3))}
"""Of four dimensions, where they are not those of a square."""


def outcomes(kind: str) -> Tensor:
    """`[256, dimensions]`, in the order of a number of four digits, or of eight."""
    dimensions = math.prod(SHAPES[kind])
    return torch.tensor(list(itertools.product(range(levels(kind)), repeat=dimensions)))


def levels(kind: str) -> int:
    return 2 if kind == "row" else 4


def target(kind: str) -> Tensor:
    """`[256]`, float64: neighbours like to agree, on a square or in a ring whose grid's ends are rare, or in a row, as
    do its ends.

    A density that ends where the grid does is hard to learn in seconds, and what it puts beyond is lost to the sum.
    """
    x = outcomes(kind).double()
    if kind == "row":
        agreement = (x[:, 1:] == x[:, :-1]).sum(dim=1) + 2.0 * (x[:, 0] == x[:, -1])
        return torch.softmax(0.9 * agreement + 0.4 * x.sum(dim=1), dim=0)
    disagreement = sum((x[:, i] - x[:, j]).abs() for i, j in NEIGHBOURS.get(kind, SQUARE))
    ends = ((x == 0) | (x == 3)).sum(dim=1)
    return torch.softmax(-0.9 * disagreement - 1.2 * ends + 0.3 * x[:, 0], dim=0)


def kullback_leibler(p: Tensor, q: Tensor) -> float:
    return float((p * (p.log() - q.log())).sum())


def product_of_marginals(p: Tensor, kind: str) -> Tensor:
    """`[256]`: the best that any model of independent dimensions can do."""
    x, product = outcomes(kind), torch.ones_like(p)
    for column in x.T:
        marginal = torch.zeros(levels(kind), dtype=p.dtype).index_add(0, column, p)
        product = product * marginal[column]
    return product


FINE: dict[str, dict[str, Any]] = {
    "vae": {"importance_samples": 1000},
    "flow_matching": {"solver": "midpoint", "steps": 15, "probes": 0, "dequantizations": 64},
    "mixture": {"importance_samples": 1500},
    "flow": {"dequantizations": 64},
    "diffusion": {"levels": {"image": 2048, "vector": 2048}},
}
"""Settings that make a bound tight and an estimate accurate."""

AVERAGED = {
    "vae": "importance_samples",
    "flow_matching": "dequantizations",
    "mixture": "importance_samples",
    "flow": "dequantizations",
    "diffusion": "levels",
}
"""The setting that counts what a probability is a mean of. Half as many are the first half of them; of `diffusion` they
are one of two independent halves (see `halves_of_a_bound`)."""

STEPS = {"vae": 400, "flow_matching": 1500, "diffusion": 1200, "flow": 800, "autoregressive": 600}
"""Of training; others take 400."""

SHORTER = {("flow", "row"): 4, ("autoregressive", "row"): 3, ("autoregressive", "column"): 2}
"""By how much less is enough."""

LEAST = {"vae": (0.95, 0.02)}
"""What a bound adds up to at least, and the error of that at most, where it is more than (0.9, 0.03)."""

WIDE = {("flow_matching", "image"): (64, 6, 4), ("diffusion", "image"): (32, 3, 1)}
"""Width at both resolutions; by how much less such a network learns, and is averaged over.

At 1x1 two channels a group, as width 16 has, are normalized to ±1 whatever they are: a field with jumps, whose
divergence says nothing of them, and a network that learns next to no dependence. More channels a group make one that a
solver can follow."""

CASES = [(family, kind) for family in choices("model") if compose([f"model={family}"]).likelihood is not None
         for kind in ("vector", "image")]  # fmt: skip
CASES += [(family, "row") for family in ("independent", "autoregressive", "flow")]
CASES += [("autoregressive", "column")]


def divided(count: Any, by: int) -> Any:
    """A part of a number, or of each number in a section."""
    return {key: divided(part, by) for key, part in count.items()} if isinstance(count, dict) else count // by


@dataclasses.dataclass(frozen=True)
class Enumerated:
    """What a model says of each outcome, and how often it draws it."""

    kind: Kind
    probabilities: Tensor
    standard_errors: Tensor
    """Of the probabilities, from the two halves of what they are means of; zero where they are exact."""
    frequencies: Tensor
    count: int
    """Of samples drawn."""


def assert_intervals_move(model: Any, x: Tensor) -> None:
    """Else a column would be as good as a square."""
    counts = model.palette.above(model.pixels.split(x).flatten(2))
    edges, _ = model.palette(counts, model.pixels.units.edges)
    assert (edges[:, 0] - edges[:, 1]).abs().amax() > 0.01


def halves_of_a_bound(model: Any, x: Tensor, *, levels: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Probabilities `[N]` by the mean of two independent bounds of as many levels each, and the errors of that."""
    one = model.log_likelihood(x, levels=levels)
    other = model.bound(x, count=levels[model.domain.kind], seed=3)
    probabilities = (0.5 * (one + other)).exp()
    return probabilities, 0.5 * (one - other).abs() * probabilities


@functools.cache
def enumerated(family: str, kind: str, make: Any, small: Any, scratch: Path) -> Enumerated:
    domain: Domain = make(*SHAPES[kind], levels=levels(kind))
    middle = (levels(kind) - 1) / 2
    domain = dataclasses.replace(domain, location=(middle,) * len(domain.low), scale=(middle,) * len(domain.low))
    # The kernels that smooth heights would flatten four levels.
    narrow = {"independent": ["model.vector=[0.0,0.5]"], "mixture": ["model.vector.components=16"]}
    width, shorter, coarser = WIDE.get((family, kind), (64 if kind == "vector" else 16, 1, 1))
    more = [f"model.image.widths=[{width},{width}]"] if (family, kind) in WIDE else narrow.get(family, [])
    config: Config = small(family, "trainer.checks=1", "trainer.previews=0", *more, width=width)
    model = build(config.model, domain, seed=0)
    dtype = torch.int64 if kind == "vector" else torch.uint8
    every = outcomes(kind).to(dtype).view(256, *domain.shape)
    drawn = torch.multinomial(target(kind), 50_000, replacement=True, generator=torch.Generator().manual_seed(0))
    data = every[drawn]
    if isinstance(model, Fitted):
        model.fit(data)
    else:
        if hasattr(model, "start"):
            model.start(data)
        if kind == "column":
            assert_intervals_move(model, every)
        assert config.optimizer is not None
        train(model, (data.numpy(),), (data[:256].numpy(),), optimizer=config.optimizer, trainer=config.trainer,
              steps=STEPS.get(family, 400) // SHORTER.get((family, kind), shorter), batch_size=256, seed=0,
              scratch=scratch, observer=Silent(), preview=None)  # fmt: skip
    assert config.likelihood is not None
    settings = config.likelihood | FINE.get(family, {})
    if coarser > 1:
        settings[AVERAGED[family]] = divided(settings[AVERAGED[family]], coarser)
    count = SAMPLES[model.likelihood_kind]
    with torch.no_grad():
        if family == "diffusion":
            probabilities, errors = halves_of_a_bound(model, every, levels=divided(settings["levels"], 2))
        else:
            probabilities = model.log_likelihood(every, **settings).double().exp()
            errors = torch.zeros_like(probabilities)
        if family in AVERAGED and family != "diffusion":
            half = {AVERAGED[family]: divided(settings[AVERAGED[family]], 2)}
            # The mean of one half, less that of both, is half of the difference of the halves.
            errors = (model.log_likelihood(every, **settings | half).double().exp() - probabilities).abs()
        solver = {key: settings[key] for key in config.sampling if key in settings}
        torch.manual_seed(0)
        samples = model.sample(count, **config.sampling | solver).flatten(1)
    digits = levels(kind) ** torch.arange(samples.shape[1] - 1, -1, -1)
    frequencies = torch.bincount((samples * digits).sum(dim=1), minlength=256) / count
    return Enumerated(model.likelihood_kind, probabilities, errors, frequencies, count)


@pytest.fixture(params=CASES, ids=["-".join(case) for case in CASES])
def case(
    request: pytest.FixtureRequest,
    make_domain: Callable[..., Domain],
    small_config: Callable[..., Config],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, str, Enumerated]:
    family, kind = request.param
    scratch = tmp_path_factory.getbasetemp() / f"{family}-{kind}"
    return family, kind, enumerated(family, kind, make_domain, small_config, scratch)


def test_the_probabilities_of_all_outcomes_add_up(case: tuple[str, str, Enumerated]) -> None:
    family, _, model = case
    total = model.probabilities.sum().item()
    error = model.standard_errors.square().sum().sqrt().item()
    if model.kind == "exact":
        assert total == pytest.approx(1, abs=1e-6)
    elif model.kind == "lower bound":
        least, most_error = LEAST.get(family, (0.9, 0.03))
        assert least < total < 1 + 3 * error
        assert error < most_error
    else:
        assert 0.9 < total < 1.05
        assert error < 0.04


def test_samples_come_as_often_as_the_probabilities_say(case: tuple[str, str, Enumerated]) -> None:
    """Total variation is within what chance explains: E|p̂ - p| = √(2 p (1 - p) / π n) for the samples' frequencies,
    the probabilities' own errors, and for a bound or an estimate half of what its sum misses.
    """
    _, _, model = case
    p = model.probabilities
    distance = 0.5 * (model.frequencies - p).abs().sum().item()
    chance = 0.5 * (2 * p * (1 - p).clamp(min=0) / (math.pi * model.count)).sqrt().sum().item()
    chance += 0.5 * model.standard_errors.sum().item()
    missed = 0.0 if model.kind == "exact" else 0.5 * abs(1 - p.sum().item())
    assert distance < 1.25 * chance + missed
    if model.kind == "exact":
        assert distance < 0.05
    assert chance + missed < 0.12, "else the test would say little"


def test_a_model_of_dependence_beats_the_best_without(case: tuple[str, str, Enumerated]) -> None:
    family, kind, model = case
    p = target(kind)
    floor = kullback_leibler(p, product_of_marginals(p, kind))
    divergence = kullback_leibler(p, model.probabilities)
    if family == "uniform":
        assert divergence > floor
    elif family == "independent":
        assert floor < divergence < floor + 0.05
    else:
        assert divergence < 0.7 * floor
