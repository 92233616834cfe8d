"""Distances between one-dimensional distributions, a dimension at a time.

Wasserstein-1 is the area between two distribution functions, in the data's unit; Kolmogorov-Smirnov is the largest gap
between them. Both come from SciPy. For more than one dimension: the mean of the first and the largest of the second.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp
from scipy.stats import wasserstein_distance as scipy_wasserstein

from lookalike.metrics import Score

BOOTSTRAPS = 200


def wasserstein_1(samples: NDArray[Any], reference: NDArray[Any]) -> Score:
    """Mean over dimensions, in the data's unit, of samples `[N, D]` against a reference `[M, D]`."""

    def distance(a: NDArray[Any]) -> float:
        return float(np.mean([scipy_wasserstein(a[:, d], reference[:, d]) for d in range(a.shape[1])]))

    return with_bootstrap_error(distance, samples)


def kolmogorov_smirnov(samples: NDArray[Any], reference: NDArray[Any]) -> Score:
    """Largest over dimensions, between 0 and 1, of samples `[N, D]` against a reference `[M, D]`."""

    def distance(a: NDArray[Any]) -> float:
        gaps = [ks_2samp(a[:, d], reference[:, d], method="asymp").statistic for d in range(a.shape[1])]
        return float(max(gaps))

    return with_bootstrap_error(distance, samples)


def with_bootstrap_error(distance: Callable[[NDArray[Any]], float], samples: NDArray[Any]) -> Score:
    """A distance and the deviation it has over samples drawn anew, with replacement; the reference is held fixed."""
    generator = np.random.default_rng(0)
    resampled = [distance(samples[generator.integers(0, len(samples), len(samples))]) for _ in range(BOOTSTRAPS)]
    return Score(distance(samples), float(np.std(resampled, ddof=1)))
