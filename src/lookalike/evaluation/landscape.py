"""Probabilities over the whole grid, for the report: a curve of one dimension, a map of two.

Those of a model and those of the truth come from the same functions, so that they can be drawn over one another.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.domain.domain import Domain
from lookalike.evaluation import truth

SIDE = 128
"""Largest number of squares along each axis of a map: as many as a picture shows."""


def has_one(domain: Domain) -> bool:
    """Return whether a domain has few enough places to be drawn, and few enough grid points to be summed over."""
    return domain.dimensions <= 2 and domain.levels**domain.dimensions <= truth.MAX_GRID_POINTS


def landscape(domain: Domain, nats: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Return curve or map of the probabilities of all grid points.

    Args:
        domain: a domain of one or two places.
        nats: log-probabilities `[levels ** D]`, in the order of `truth.whole_grid`.

    Returns:
        For one place `density_values` and `density_probabilities`, one number per grid point. For two places
        `density_map`, the probabilities of squares `[at most SIDE, at most SIDE]`, first place first, to seven digits.
    """
    if domain.dimensions == 1:
        values = domain.to_values(truth.whole_grid(domain)).reshape(-1)
        return {"density_values": values, "density_probabilities": np.exp(nats)}
    return {"density_map": squares(np.exp(nats).reshape(domain.levels, domain.levels)).astype(np.float32)}


def squares(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum a table `[levels, levels]` over squares with a side of `block(levels)`; the last ones may be smaller."""
    starts = np.arange(0, len(probabilities), block(len(probabilities)))
    summed: NDArray[np.float64] = np.add.reduceat(np.add.reduceat(probabilities, starts, axis=0), starts, axis=1)
    return summed


def block(levels: int) -> int:
    """Return the number of grid points along a side of a map's square."""
    return -(-levels // SIDE)


def true_landscape(domain: Domain, reader: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Return curve or map of the distribution that a reader draws from; nothing where it is unknown."""
    log_prob = truth.known(reader)
    return landscape(domain, log_prob(truth.whole_grid(domain))) if log_prob and has_one(domain) else {}
