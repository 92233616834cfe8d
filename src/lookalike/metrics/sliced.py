"""Sliced Wasserstein distance: Wasserstein-1 of both sets projected on a line, averaged over directions.

SW₁ = E_θ ∫ |F_θ(t) - G_θ(t)| dt, where F_θ and G_θ are the distribution functions of x · θ, and θ is uniform on the
sphere. (Rabin et al., Wasserstein barycenter and its application to texture mixing, 2011; Bonneel et al., 2015.) The
directions come from a fixed seed and are the same for all sets; one dimension has one direction.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.metrics.inputs import check
from lookalike.metrics.marginal import mean_area
from lookalike.metrics.neighbours import pieces
from lookalike.metrics.pairs import p_value
from lookalike.metrics.resamples import Resampled, Weights

DIRECTIONS = 64
PERMUTATIONS = 199
CACHED = 2**15
"""Size of the arrays that are processed at once, so that they stay in the cache."""


def sliced_wasserstein(samples: NDArray[Any], reference: NDArray[Any], weights: Weights | None = None) -> Resampled:
    """Return SW₁ of samples `[N, D]` and a reference `[M, D]`, in their unit.

    It takes `PERMUTATIONS` bytes of memory per point.
    """
    check(samples=samples, reference=reference)
    n, m = len(samples), len(reference)
    permuted = np.random.default_rng(0).permuted(np.tile(np.arange(n + m) < n, (PERMUTATIONS, 1)), axis=1)
    first = np.vstack([np.arange(n + m) < n, permuted])
    lines = directions(samples.shape[1])
    values = np.zeros(1 + PERMUTATIONS)
    ours, theirs = samples @ lines.T, reference @ lines.T
    for line in range(len(lines)):
        places = np.concatenate([ours[:, line], theirs[:, line]])
        order = places.argsort(kind="stable")
        gaps, order = np.diff(places[order]), order[:-1]
        # With c samples among the first i of all: F = c / n, G = (i - c) / m.
        values += areas(first, order, 1 / n + 1 / m, np.arange(1, n + m) / m, gaps)
    values /= len(lines)
    found = mean_area(ours, theirs, weights).at(float(values[0]))
    return found._replace(p_value=p_value(values[0], values[1:]))


def areas(
    marks: NDArray[np.bool_], order: NDArray[np.int64], step: float, base: NDArray[Any], gaps: NDArray[Any]
) -> NDArray[np.float64]:
    """Return ∫ |step · c - base| `[R]` along a line, where c counts the marks so far in a row `[R, n + m]`."""
    found = np.empty(len(marks))
    together = max(1, CACHED // len(marks[0]))
    for rows in pieces(len(marks), together):
        height = np.cumsum(marks[rows].take(order, axis=1), axis=1, dtype=np.float64)
        height *= step
        height -= base
        found[rows] = np.abs(height, out=height) @ gaps
    return found


def directions(dimension: int) -> NDArray[np.float64]:
    """Return unit vectors `[L, D]`."""
    if dimension == 1:
        return np.ones((1, 1))
    drawn = np.random.default_rng(0).normal(size=(DIRECTIONS, dimension))
    unit: NDArray[np.float64] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit
