"""Kernel distance: the squared maximum mean discrepancy with a polynomial kernel of features.

k(x, y) = (x · y / D + 1)³, which detects differences of the first three moments.  (Bińkowski et al., Demystifying MMD
GANs, 2018, arXiv:1801.01401; with Inception features it is called KID.)
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.metrics.pairs import mean_discrepancy
from lookalike.metrics.resamples import Resampled, Weights


def kernel_distance(features: NDArray[Any], reference: NDArray[Any], weights: Weights | None = None) -> Resampled:
    """Return the distance of features `[N, D]` of samples to those of a reference `[M, D]`; it may be below zero."""
    return mean_discrepancy(features, reference, cubic, weights)


def cubic(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return the kernel (a_i · b_j / D + 1)³ `[N, M]`."""
    inner: NDArray[np.float64] = a.astype(np.float64) @ b.astype(np.float64).T
    inner /= a.shape[1]
    inner += 1
    values = inner * inner
    values *= inner
    return values
