"""Distances between one-dimensional distributions, one dimension at a time.

Wasserstein-1 is the area between two distribution functions, in the unit of the data. Kolmogorov-Smirnov is the largest
difference between them. Both come from SciPy. With several dimensions the mean of the first and the maximum of the
second are taken.
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
    """Return the mean over dimensions for samples `[N, D]` against a reference `[M, D]`, in the unit of the data."""

    def distance(a: NDArray[Any]) -> float:
        return float(np.mean([scipy_wasserstein(a[:, d], reference[:, d]) for d in range(a.shape[1])]))

    return with_bootstrap_error(distance, samples)


def kolmogorov_smirnov(samples: NDArray[Any], reference: NDArray[Any]) -> Score:
    """Return the maximum over dimensions, from 0 to 1, for samples `[N, D]` against a reference `[M, D]`."""

    def distance(a: NDArray[Any]) -> float:
        gaps = [ks_2samp(a[:, d], reference[:, d], method="asymp").statistic for d in range(a.shape[1])]
        return float(max(gaps))

    return with_bootstrap_error(distance, samples)


def with_bootstrap_error(distance: Callable[[NDArray[Any]], float], samples: NDArray[Any]) -> Score:
    """Return a distance and its standard deviation over samples drawn with replacement, with the reference fixed."""
    generator = np.random.default_rng(0)
    resampled = [distance(samples[generator.integers(0, len(samples), len(samples))]) for _ in range(BOOTSTRAPS)]
    return Score(distance(samples), float(np.std(resampled, ddof=1)))
