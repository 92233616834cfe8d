"""Sliced Wasserstein distance: Wasserstein-1 of both sets projected on a line, averaged over directions.

SW₁ = E_θ ∫ |F_θ(t) - G_θ(t)| dt, where F_θ and G_θ are the distribution functions of x · θ, and θ is uniform on the
sphere. (Rabin et al., Wasserstein barycenter and its application to texture mixing, 2011; Bonneel et al., 2015.) The
directions come from a fixed seed and are the same for all sets; one dimension has one direction.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.metrics import ScoredTest, jackknife
from lookalike.metrics.inputs import check
from lookalike.metrics.neighbours import pieces
from lookalike.metrics.pairs import p_value

DIRECTIONS = 64
PERMUTATIONS = 199
CACHED = 2**15
"""Size of the arrays that are processed at once, so that they stay in the cache."""


def sliced_wasserstein(samples: NDArray[Any], reference: NDArray[Any]) -> ScoredTest:
    """Return SW₁ of samples `[N, D]` and a reference `[M, D]`, in their unit.

    The error is that of drawing new samples with reference and directions fixed: a jackknife over groups. It takes
    `PERMUTATIONS` bytes of memory per point.
    """
    check(samples=samples, reference=reference)
    n, m = len(samples), len(reference)
    is_sample = np.arange(n + m) < n
    groups = jackknife.split(n)
    left_out = np.tile(is_sample, (len(groups), 1))
    for marks, members in zip(left_out, groups, strict=True):
        marks[members] = False
    kept = 1 / np.count_nonzero(left_out, axis=1)[:, None]
    permuted = np.random.default_rng(0).permuted(np.tile(is_sample, (PERMUTATIONS, 1)), axis=1)
    first = np.vstack([is_sample, permuted])
    lines = directions(samples.shape[1])
    values, without = np.zeros(1 + PERMUTATIONS), np.zeros(len(groups))
    for line in lines:
        places = np.concatenate([samples @ line, reference @ line])
        order = places.argsort(kind="stable")
        gaps, order = np.diff(places[order]), order[:-1]
        # With c samples among the first i of all: F = c / n, G = (i - c) / m.
        base = np.arange(1, n + m) / m
        values += areas(first, order, 1 / n + 1 / m, base, gaps)
        base = np.cumsum(~is_sample[order]) / m
        without += areas(left_out, order, kept, base, gaps)
    values, without = values / len(lines), without / len(lines)
    return ScoredTest(float(values[0]), float(jackknife.error(without)), p_value(values[0], values[1:]))


def areas(
    marks: NDArray[np.bool_], order: NDArray[np.int64], step: Any, base: NDArray[Any], gaps: NDArray[Any]
) -> NDArray[np.float64]:
    """Return ∫ |step · c - base| `[R]` along a line, where c counts the marks so far in a row `[R, n + m]`."""
    found, step = np.empty(len(marks)), np.broadcast_to(step, (len(marks), 1))
    together = max(1, CACHED // len(marks[0]))
    for rows in pieces(len(marks), together):
        height = np.cumsum(marks[rows].take(order, axis=1), axis=1, dtype=np.float64)
        height *= step[rows]
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
