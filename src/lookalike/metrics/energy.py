"""Energy distance: zero if and only if two distributions are equal.

2 E|x - y| - E|x - x'| - E|y - y'|  (Székely & Rizzo, Energy statistics, 2013), which is the squared maximum mean
discrepancy with the kernel -|x - y|. The estimate is unbiased; SciPy's `energy_distance` is the root of the biased one.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.metrics.neighbours import squared_distances
from lookalike.metrics.pairs import mean_discrepancy
from lookalike.metrics.resamples import Resampled, Weights


def energy_distance(samples: NDArray[Any], reference: NDArray[Any], weights: Weights | None = None) -> Resampled:
    """Return the distance of samples `[N, D]` to a reference `[M, D]`, in their unit; it may be below zero."""
    return mean_discrepancy(samples, reference, closeness, weights)


def closeness(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return the kernel -|a_i - b_j| `[N, M]`."""
    distances = squared_distances(a, b)
    return np.negative(np.sqrt(distances, out=distances), out=distances)
