"""A probability over the whole grid, as a report draws it: the curve of one dimension, the map of two.

A model's and the truth's are made by the same functions, so that they can lie over one another.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike import truth
from lookalike.core.domain import Domain

SIDE = 128
"""Squares of a map along each axis at most: as many as a picture shows, in a quarter of a megabyte at most."""


def has_one(domain: Domain) -> bool:
    """Whether a domain has so few dimensions that it can be drawn, and so few grid points that they can be summed."""
    return domain.kind == "vector" and domain.dimensions <= 2 and domain.levels**domain.dimensions <= truth.MOST


def landscape(domain: Domain, nats: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """What is drawn of log-probabilities of every grid point `[levels ** D]`, in the order of `truth.whole_grid`.

    Returns:
        Of one dimension `density_values` and `density_probabilities`, one each a grid point; of two `density_map`, the
        probabilities of squares `[at most SIDE, at most SIDE]`, first dimension first, to seven digits.
    """
    if domain.dimensions == 1:
        values = domain.to_values(np.arange(domain.levels)[:, None])[:, 0]
        return {"density_values": values, "density_probabilities": np.exp(nats)}
    return {"density_map": squares(np.exp(nats).reshape(domain.levels, domain.levels)).astype(np.float32)}


def squares(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over squares of `block(levels)` grid points a side of a table `[levels, levels]`; the last may be cut."""
    starts = np.arange(0, len(probabilities), block(len(probabilities)))
    summed: NDArray[np.float64] = np.add.reduceat(np.add.reduceat(probabilities, starts, axis=0), starts, axis=1)
    return summed


def block(levels: int) -> int:
    """Grid points along a side of a map's square."""
    return -(-levels // SIDE)


def true_landscape(domain: Domain, reader: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """What is drawn of the distribution that a configured reader draws from; nothing where it isn't known."""
    log_prob = truth.known(reader)
    return landscape(domain, log_prob(truth.whole_grid(domain))) if log_prob and has_one(domain) else {}
