"""Helpers of the tests of several families: domains of all sizes, training data, models that learned a little."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lookalike.domain.domain import Domain
from lookalike.families.build import build, for_domain
from lookalike.training.history import Silent
from lookalike.training.loop import train
from lookalike.workspace.configuration import Config


def shaken(model: Any, scale: float) -> Any:
    """Return the model with noise on all of its parameters, so that none of its layers is idle."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += scale * torch.randn_like(parameter)
    return model.eval()


def skewed(domain: Domain, n: int) -> Tensor:
    """Return grid points `[n, *shape]`, of which high ones are rare, to another degree in every dimension."""
    powers = torch.linspace(1, 3, domain.dimensions).view(domain.shape)
    u = torch.rand(n, *domain.shape, generator=torch.Generator().manual_seed(0))
    return (domain.levels * u**powers).long().clamp(max=domain.levels - 1)


def observations(domain: Domain, n: int, *, seed: int = 0) -> tuple[Tensor, ...]:
    """Return random grid points `[n, *shape]` and, of labelled data, class numbers `[n]`, typed as data are."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, domain.levels, (n, *domain.shape), generator=generator)
    x = x.to(torch.uint8) if domain.kind == "image" else x
    if not domain.labels:
        return (x,)
    return x, torch.randint(0, len(domain.labels), (n,), generator=generator, dtype=torch.uint8)


class Case(NamedTuple):
    """A domain, sizes of networks for it, and how much a model of it learns in a test.

    Attributes:
        shape, levels: of the domain.
        widths: channels of convolutional networks at a half, a quarter, … of the resolution.
        ink: the setting of this name.
        at_ends: share of the training pixels on the two ends of the grid.
        rows: number of training observations.
        steps: number of training steps.
    """

    shape: tuple[int, ...]
    levels: int
    widths: tuple[int, ...] = (16, 16)
    ink: bool | None = None
    at_ends: float = 0.5
    rows: int = 40
    steps: int = 30


CASES = {
    "image 1x6x6": Case((1, 6, 6), 8),
    "image 1x5x7 without ink": Case((1, 5, 7), 256, ink=False),
    "image 3x6x5 with ink": Case((3, 6, 5), 8, ink=True, at_ends=0.0),
    "image 1x28x28 of one width": Case((1, 28, 28), 256, widths=(8,), rows=8, steps=4),
    "image 3x32x32 of three widths": Case((3, 32, 32), 256, widths=(8, 16, 16), at_ends=0.0, rows=8, steps=4),
    "image 3x13x17 of two widths with ink": Case((3, 13, 17), 256, widths=(8, 16), ink=True, rows=8, steps=4),
    "table 4": Case((4,), 16),
    "table 1": Case((1,), 1120),
}
"""Where `ink` is not given, it is learned: half of the pixels of a domain lie on the ends of the grid by default, but
none of those of the images of 3x32x32 pixels."""


def sized(config: Config, case: Case) -> Config:
    """Return a configuration with a case's widths and `ink`, for families whose networks have such settings."""
    size = config.model.get("sizes", {})
    given = {"widths": list(case.widths), "ink": case.ink}
    changed = {key: value for key, value in given.items() if key in size.get("image", {})}
    if not changed:
        return config
    model = config.model | {"sizes": size | {"image": size["image"] | changed}}
    return config.model_copy(update={"model": model})


def learned(config: Config, domain: Domain, *, count: int, steps: int) -> Any:
    """Return a model that is fitted to random observations, or trained on them for some steps."""
    return trained_on(config, domain, *observations(domain, count), steps=steps)


def trained_on(config: Config, domain: Domain, x: Tensor, labels: Tensor | None = None, *, steps: int) -> Any:
    """Return a model that is fitted, or trained for some steps of Adam on the whole training set at once."""
    model: Any = build(config.model, domain, seed=0)
    data = (x,) if model.classes is None or labels is None else (x, labels)
    if model.is_fitted:
        model.fit(x)
        return model.eval()
    model.start(*data)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        model.losses(*data)["loss"].backward()
        optimizer.step()
    return model.eval()


def for_case(config: Config, domain: Domain, case: Case | None = None) -> Config:
    """Return a configuration for the kind of a domain, with the sizes of a case."""
    return for_domain(config if case is None else sized(config, case), domain)


def learned_well(
    model: Any, config: Config, x: Tensor, labels: Tensor | None = None, *, steps: int, batch_size: int, scratch: Path
) -> None:
    """Fit a model, or train it with the optimizer of its configuration, which is resolved for its domain."""
    if model.is_fitted:
        torch.manual_seed(0)
        model.fit(x)
        return
    data = (x,) if labels is None else (x, labels)
    model.start(*data)
    assert config.optimizer is not None
    train(
        model,
        tuple(part.numpy() for part in data),
        tuple(part[:256].numpy() for part in data),
        optimizer=config.optimizer,
        trainer=config.trainer,
        steps=steps,
        batch_size=batch_size,
        seed=0,
        scratch=scratch,
        observer=Silent(),
        preview=None,
    )
