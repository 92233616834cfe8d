"""Kernel distance: the squared maximum mean discrepancy under a polynomial kernel of features.

k(x, y) = (x · y / D + 1)³, which sees differences of the first three moments.  (Bińkowski et al., Demystifying MMD
GANs, 2018, arXiv:1801.01401; on Inception features it is called KID.)
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.metrics import ScoredTest
from lookalike.metrics.pairs import mean_discrepancy


def kernel_distance(features: NDArray[Any], reference: NDArray[Any]) -> ScoredTest:
    """Of features `[N, D]` of samples and `[M, D]` of a reference; unbiased, so it may be below zero."""
    return mean_discrepancy(features, reference, cubic)


def cubic(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """`[N, M]`."""
    inner: NDArray[np.float64] = a.astype(np.float64) @ b.astype(np.float64).T
    inner /= a.shape[1]
    inner += 1
    values = inner * inner
    values *= inner
    return values
