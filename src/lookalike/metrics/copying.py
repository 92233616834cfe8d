"""C_T, a test of data copying: are samples closer to the training data than test data are?

In each cell π of the space the distances to the nearest training point of the cell are ranked (Mann-Whitney): with n
test points and m samples in the cell, U counts the pairs in which the sample is farther.

    Z_π = (U - nm/2) / √(nm(n + m + 1)/12)        C_T = Σ_π P(π) Z_π / Σ_π P(π)

where P(π) is the share of the cell in the test data, and the sums run over cells with enough samples. C_T is far below
zero for copies, and far above zero for samples that are farther from the training data than real data are.  (Meehan,
Chaudhuri & Dasgupta, A non-parametric test to detect data-copying in generative models, 2020, arXiv:2004.05675.)
Without copying the standard deviation of C_T is √ΣP²/ΣP, which is far below 1 with many cells.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.stats import norm

from lookalike.metrics.inputs import check
from lookalike.metrics.neighbours import nearest
from lookalike.metrics.resamples import Floats, Resampled, Weights, equal
from lookalike.workspace.errors import UserError

CELLS = 10
MIN_POINTS = 20
"""Number of samples and of test points that a cell needs for the sum of ranks to be nearly normal."""


def data_copying(
    samples: NDArray[Any],
    test: NDArray[Any],
    training: NDArray[Any],
    weights: Weights | None = None,
    *,
    cells: int = CELLS,
) -> Resampled:
    """Return C_T of samples `[N, D]`, test data `[M, D]` and training data `[T, D]`, in k-means cells of the latter.

    The training data, and which cells count, are the same in all resamples. The p-value is one-sided, small for copies.

    Raises:
        UserError: no cell has enough samples and test points.
    """
    check(samples=samples, test=test, training=training)
    weights = weights or equal(len(samples), len(test))
    centres, home = kmeans2(training.astype(np.float64), min(cells, len(training)), minit="++", rng=0)
    ours, theirs = nearest(samples, centres)[1][:, 0], nearest(test, centres)[1][:, 0]
    counts, scores = [], []
    for cell in np.unique(home):
        mine, real = ours == cell, theirs == cell
        if min(mine.sum(), real.sum()) < MIN_POINTS:
            continue
        near = training[home == cell]
        one, other = (nearest(points, near)[0][:, 0] for points in (samples[mine], test[real]))
        counts.append(weights.reference[:, real].sum(axis=1, dtype=np.float64))
        scores.append(ranked(one, other, Weights(weights.samples[:, mine], weights.reference[:, real])))
    if not counts:
        raise UserError(
            f"{len(samples)} samples and {len(test)} test points in {cells} cells: none has {MIN_POINTS} of each. "
            f"Draw more or ask for fewer cells"
        )
    shares = np.array(counts) / np.sum(counts, axis=0)
    (value,), joint = np.split((shares * [z.joint for z in scores]).sum(axis=0), [1])
    of_samples = (shares[:, :1] * [z.samples for z in scores]).sum(axis=0)
    of_reference = (shares * [z.reference for z in scores]).sum(axis=0)
    p_value = float(norm.cdf(value / np.sqrt((shares[:, 0] ** 2).sum())))
    return Resampled(float(value), joint, of_samples[1:], of_reference[1:], p_value)


class Ranked(NamedTuple):
    """Z `[1 + B]` under the weights of both sets, of the samples alone, and of the test points alone."""

    joint: Floats
    samples: Floats
    reference: Floats


def ranked(ours: NDArray[np.float64], theirs: NDArray[np.float64], weights: Weights) -> Ranked:
    """Return Z of distances `[m]` against distances `[n]` under weights of both."""
    order = theirs.argsort()
    behind = np.pad(np.cumsum(weights.reference[:, order], axis=1, dtype=np.float64), ((0, 0), (1, 0)))
    places = [np.searchsorted(theirs[order], ours, side) for side in ("left", "right")]
    beaten = (behind[:, places[0]] + behind[:, places[1]]) / 2
    w = weights.samples.astype(np.float64)
    m, n = w.sum(axis=1), behind[:, -1]

    def z(u: Floats, m: Any, n: Any) -> Floats:
        return np.asarray((u - n * m / 2) / np.sqrt(np.maximum(n * m * (n + m + 1) / 12, 1)))

    return Ranked(
        z((w * beaten).sum(axis=1), m, n), z(w @ beaten[0], m, n[0]), z(beaten.sum(axis=1), float(len(ours)), n)
    )
