"""The squared maximum mean discrepancy between two sets, by a kernel on pairs of points.

MMD² = E k(x, x') + E k(y, y') - 2 E k(x, y). The estimate is unbiased, because no point is paired with itself: its mean
over draws of one distribution is zero, and it may be negative.  (Gretton et al., A kernel two-sample test, 2012.)

Every pair is computed once and added to a sum over bins of points. Leaving out bins gives the error, and permuting bins
between the two sets gives an exact p-value at no cost. (Domingo-Enrich, Dwivedi & Mackey, Cheap permutation testing,
2025, arXiv:2502.07672.)
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.metrics import ScoredTest, jackknife
from lookalike.metrics.inputs import TooFewPointsError, check

Floats = NDArray[np.float64]
Kernel = Callable[[NDArray[Any], NDArray[Any]], Floats]

BINS = 40
"""Number of bins of the smaller set; the larger set has more bins of the same size."""

PERMUTATIONS = 999

MAX_RATIO = 1000
"""Largest ratio between the sizes of the two sets."""

TILE = 256
"""Rows of a tile of kernel values: 0.5 MB, which stays in the cache."""


def mean_discrepancy(samples: NDArray[Any], reference: NDArray[Any], kernel: Kernel) -> ScoredTest:
    """Return MMD² of samples `[N, D]` and a reference `[M, D]` with a kernel(a, b) that returns `[n, m]`.

    The error is that of drawing new samples with the reference fixed: a jackknife over bins.

    Raises:
        TooFewPointsError: the sizes of the sets differ too much for permutations.
    """
    check(min_rows=3, samples=samples, reference=reference)
    few, many = sorted([len(samples), len(reference)])
    if many > MAX_RATIO * few:
        raise TooFewPointsError(
            f"{len(samples)} samples against {len(reference)}: a permutation test needs at least "
            f"{-(-many // MAX_RATIO)} of each"
        )
    size = min(max(1, few // BINS, min(many // (2 * MAX_RATIO), few // 2)), TILE)
    ours, theirs = deal(len(samples), size), deal(len(reference), size)
    sums = bin_sums(samples, ours, reference, theirs, kernel)
    sizes = np.array([len(part) for part in ours + theirs], dtype=np.float64)
    is_sample = np.arange(len(sizes)) < len(ours)
    full = sizes == size

    def estimate(first: NDArray[Any], second: NDArray[Any]) -> Floats:
        """Return MMD² between the points of bins marked in `first` and those marked in `second`, both `[..., bins]`."""
        n, m = first @ sizes, second @ sizes
        to_first, to_second = first @ sums, second @ sums
        within = (to_first * first).sum(axis=-1) / (n * (n - 1)) + (to_second * second).sum(axis=-1) / (m * (m - 1))
        squared: Floats = within - 2 * (to_first * second).sum(axis=-1) / (n * m)
        return squared

    value = float(estimate(is_sample, ~is_sample))
    left_out = (is_sample & ~np.eye(len(sizes), dtype=bool))[is_sample & full]
    error = jackknife.error(estimate(left_out, np.broadcast_to(~is_sample, left_out.shape)))
    permuted = permutations(is_sample, full)
    return ScoredTest(value, float(error), p_value(value, estimate(permuted, ~permuted)))


def deal(rows: int, size: int) -> list[NDArray[np.int64]]:
    """Return rows in random bins of one size, the same each time; the remaining rows form one smaller bin."""
    return np.split(np.random.default_rng(0).permutation(rows), range(size, rows, size))


def permutations(is_sample: NDArray[np.bool_], movable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return marks `[PERMUTATIONS, bins]` of the bins that count as samples; only movable bins change places."""
    generator = np.random.default_rng(0)
    permuted = np.tile(is_sample, (PERMUTATIONS, 1))
    permuted[:, movable] = generator.permuted(permuted[:, movable], axis=1)
    return permuted


def p_value(value: float, permuted: NDArray[Any]) -> float:
    """Return the share of permutations, with the actual one, whose value is as large, up to rounding errors."""
    slack = 1e-9 * max(abs(value), float(np.abs(permuted).max()))
    return float((1 + np.count_nonzero(permuted >= value - slack)) / (1 + len(permuted)))


def bin_sums(
    a: NDArray[Any], a_bins: list[NDArray[np.int64]], b: NDArray[Any], b_bins: list[NDArray[np.int64]], kernel: Kernel
) -> Floats:
    """Return sums `[bins, bins]` of the kernel over pairs of points of two bins, without pairs of equal points."""
    sums = np.zeros((len(a_bins) + len(b_bins),) * 2)
    runs = [(a, *run) for run in runs_of(a_bins, 0)] + [(b, *run) for run in runs_of(b_bins, len(a_bins))]
    for i, (points, rows, starts, where) in enumerate(runs):
        for j, (other_points, other_rows, other_starts, other_where) in enumerate(runs[i:]):
            values = kernel(points[rows], other_points[other_rows])
            if j == 0:
                np.fill_diagonal(values, 0)
            tile = np.add.reduceat(np.add.reduceat(values, other_starts, axis=1), starts, axis=0)
            sums[where, other_where], sums[other_where, where] = tile, tile.T
    return sums


def runs_of(bins: list[NDArray[np.int64]], first: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], slice]]:
    """Yield runs of bins that fit into a tile: their rows, the start of each bin in these, the numbers of the bins."""
    each = max(1, TILE // len(bins[0]))
    for start in range(0, len(bins), each):
        run = bins[start : start + each]
        starts = np.cumsum([0, *(len(part) for part in run[:-1])])
        yield np.concatenate(run), starts, slice(first + start, first + start + len(run))
