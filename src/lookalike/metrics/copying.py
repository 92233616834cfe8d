"""C_T, a test of data copying: are samples closer to the training data than test data are?

In each cell π of the space the distances to the nearest training point of the cell are ranked (Mann-Whitney): with n
test points and m samples in the cell, U counts the pairs in which the sample is farther.

    Z_π = (U - nm/2) / √(nm(n + m + 1)/12)        C_T = Σ_π P(π) Z_π / Σ_π P(π)

where P(π) is the share of the cell in the test data, and the sums run over cells with enough samples. C_T is far below
zero for copies, and far above zero for samples that are farther from the training data than real data are.  (Meehan,
Chaudhuri & Dasgupta, A non-parametric test to detect data-copying in generative models, 2020, arXiv:2004.05675.)
Without copying the standard deviation of C_T is √ΣP²/ΣP, which is far below 1 with many cells.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.stats import norm

from lookalike.metrics import ScoredTest
from lookalike.metrics.inputs import check
from lookalike.metrics.neighbours import nearest
from lookalike.workspace.errors import UserError

CELLS = 10
MIN_POINTS = 20
"""Number of samples and of test points that a cell needs for the sum of ranks to be nearly normal."""


def data_copying(
    samples: NDArray[Any], test: NDArray[Any], training: NDArray[Any], *, cells: int = CELLS
) -> ScoredTest:
    """Return C_T of samples `[N, D]`, test data `[M, D]` and training data `[T, D]`, in k-means cells of the latter.

    The error is that of drawing the samples anew; the p-value is one-sided, small for copies.

    Raises:
        UserError: no cell has enough samples and test points.
    """
    check(samples=samples, test=test, training=training)
    centres, home = kmeans2(training.astype(np.float64), min(cells, len(training)), minit="++", rng=0)
    ours, theirs = nearest(samples, centres)[1][:, 0], nearest(test, centres)[1][:, 0]
    shares, scores, errors = [], [], []
    for cell in np.unique(home):
        mine, real = samples[ours == cell], test[theirs == cell]
        if min(len(mine), len(real)) < MIN_POINTS:
            continue
        near = training[home == cell]
        z, error = ranked(nearest(mine, near)[0][:, 0], nearest(real, near)[0][:, 0])
        shares.append(len(real) / len(test))
        scores.append(z)
        errors.append(error)
    if not shares:
        raise UserError(
            f"{len(samples)} samples and {len(test)} test points in {cells} cells: none has {MIN_POINTS} of each. "
            f"Draw more or ask for fewer cells"
        )
    weights = np.array(shares) / np.sum(shares)
    value = float(weights @ scores)
    p_value = float(norm.cdf(value / np.sqrt((weights**2).sum())))
    return ScoredTest(value, float(np.sqrt((weights**2) @ np.square(errors))), p_value)


def ranked(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> tuple[float, float]:
    """Return Z of distances `[m]` against distances `[n]`, and its error over new draws of the former."""
    ordered = np.sort(theirs)
    beaten = (np.searchsorted(ordered, ours, "left") + np.searchsorted(ordered, ours, "right")) / 2
    m, n = len(ours), len(theirs)
    scale = np.sqrt(n * m * (n + m + 1) / 12)
    return float((beaten.sum() - n * m / 2) / scale), float(np.sqrt(m) * beaten.std(ddof=1) / scale)
