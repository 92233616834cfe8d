"""Distances between one-dimensional distributions, one dimension at a time.

Wasserstein-1 is the area between two distribution functions, in the unit of the data. Kolmogorov-Smirnov is the largest
difference between them. Both come from SciPy. With several dimensions the mean of the first and the maximum of the
second are taken.

For resamples both come from distribution functions at knots, which are all values that occur, unless there are more
than `KNOTS` of them: then the difference counts by its integral between two knots, which differs from the area only
where it changes sign in between.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import ks_2samp
from scipy.stats import wasserstein_distance as scipy_wasserstein

from lookalike.metrics.resamples import Floats, Resampled, Weights, equal, of_difference

KNOTS = 8192
"""Largest number of knots of all dimensions together."""

MIN_KNOTS = 32
"""Smallest number of knots of a dimension that has as many values."""


class Curves(NamedTuple):
    """Weighted distribution functions `[1 + B, K]`: just before the next knot, and integrated from a knot to it."""

    below: Floats
    areas: Floats


def wasserstein_1(samples: NDArray[Any], reference: NDArray[Any], weights: Weights | None = None) -> Resampled:
    """Return the mean over dimensions for samples `[N, D]` against a reference `[M, D]`, in the unit of the data."""
    columns = range(samples.shape[1])
    value = float(np.mean([scipy_wasserstein(samples[:, d], reference[:, d]) for d in columns]))
    return mean_area(samples, reference, weights).at(value)


def kolmogorov_smirnov(samples: NDArray[Any], reference: NDArray[Any], weights: Weights | None = None) -> Resampled:
    """Return the maximum over dimensions, from 0 to 1, for samples `[N, D]` against a reference `[M, D]`."""
    columns = range(samples.shape[1])
    value = max(float(ks_2samp(samples[:, d], reference[:, d], method="asymp").statistic) for d in columns)
    ours, theirs = (
        np.hstack([of.below for of in side]) for side in zip(*curves(samples, reference, weights), strict=True)
    )
    return of_difference(lambda difference: np.abs(difference).max(axis=1), ours, theirs).at(value)


def mean_area(samples: NDArray[Any], reference: NDArray[Any], weights: Weights | None) -> Resampled:
    """Return the mean over dimensions of the area between distribution functions of sets `[N, D]` and `[M, D]`."""
    ours, theirs = (
        np.hstack([of.areas for of in side]) for side in zip(*curves(samples, reference, weights), strict=True)
    )
    return of_difference(lambda difference: np.abs(difference).sum(axis=1) / samples.shape[1], ours, theirs)


def curves(samples: NDArray[Any], reference: NDArray[Any], weights: Weights | None) -> list[tuple[Curves, Curves]]:
    """Return the curves of samples `[N, D]` and of a reference `[M, D]` for every dimension."""
    weights = weights or equal(len(samples), len(reference))
    # One row per point lies together in memory, as the products of `curve` read them.
    turned = [np.ascontiguousarray(side.T) for side in weights]
    most = max(MIN_KNOTS, KNOTS // samples.shape[1])
    found = []
    for ours, theirs in zip(samples.T, reference.T, strict=True):
        places = np.unique(np.concatenate([ours, theirs]).astype(np.float64))
        knots = places[np.linspace(0, len(places) - 1, min(most, len(places))).astype(np.int64)]
        found.append((curve(ours, knots, turned[0]), curve(theirs, knots, turned[1])))
    return found


def curve(values: NDArray[Any], knots: Floats, weights: NDArray[Any]) -> Curves:
    """Return the curves of values `[N]` under weights `[N, 1 + B]` at knots `[K]`, of which the first is the lowest."""
    count, pieces = len(values), len(knots)
    piece = np.searchsorted(knots, values, side="right") - 1
    ends = np.append(knots[1:], knots[-1])
    # One product sums the weights of each piece, and the distances from its points to its end.
    factors = np.concatenate([np.ones(count), ends[piece] - values]).astype(np.float32)
    places = np.concatenate([piece, pieces + piece]), np.tile(np.arange(count), 2)
    sums = (csr_array((factors, places), shape=(2 * pieces, count)) @ weights).T.astype(np.float64)
    counts, inside = sums[:, :pieces], sums[:, pieces:]
    below = np.cumsum(counts, axis=1)
    return Curves(below / below[:, -1:], ((below - counts) * (ends - knots) + inside) / below[:, -1:])
