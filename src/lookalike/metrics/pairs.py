"""The squared maximum mean discrepancy: two sets compared by a kernel on pairs of points.

MMD² = E k(x, x') + E k(y, y') - 2 E k(x, y), estimated without bias: no point is paired with itself, so that the mean
over draws of one distribution is zero and a value may be negative.  (Gretton et al., A kernel two-sample test, 2012.)

All pairs are visited once and summed over bins of points. Leaving bins out gives the error; permuting bins between the
two sets gives an exact p-value at no cost. (Domingo-Enrich, Dwivedi & Mackey, Cheap permutation testing, 2025,
arXiv:2502.07672.)
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.core.errors import UserError
from lookalike.metrics import ScoredTest, jackknife
from lookalike.metrics.inputs import check

Floats = NDArray[np.float64]
Kernel = Callable[[NDArray[Any], NDArray[Any]], Floats]

BINS = 40
"""Bins of the smaller set; the larger has more, of the same size."""

PERMUTATIONS = 999

UNEVEN = 1000
"""One set may be larger than the other by this factor."""

TILE = 256
"""Rows of a tile of kernel values: 0.5 MB, which stays in the cache."""


def mean_discrepancy(samples: NDArray[Any], reference: NDArray[Any], kernel: Kernel) -> ScoredTest:
    """MMD² of samples `[N, D]` and a reference `[M, D]` under kernel(a, b) `[n, m]`.

    The error is that of drawing the samples anew, the reference held fixed: a jackknife over bins.

    Raises:
        UserError: sets too uneven to permute.
    """
    check(least=3, samples=samples, reference=reference)
    few, many = sorted([len(samples), len(reference)])
    if many > UNEVEN * few:
        raise UserError(
            f"{len(samples)} samples against {len(reference)}: a permutation test needs at least "
            f"{-(-many // UNEVEN)} of each"
        )
    size = min(max(1, few // BINS, min(many // (2 * UNEVEN), few // 2)), TILE)
    ours, theirs = deal(len(samples), size), deal(len(reference), size)
    sums = bin_sums(samples, ours, reference, theirs, kernel)
    sizes = np.array([len(part) for part in ours + theirs], dtype=np.float64)
    is_sample = np.arange(len(sizes)) < len(ours)
    full = sizes == size

    def estimate(first: NDArray[Any], second: NDArray[Any]) -> Floats:
        """MMD² between points of the bins marked in one `[..., bins]` and in another."""
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
    """Rows in bins of one size at random, the same each time; what is left over makes one smaller bin."""
    return np.split(np.random.default_rng(0).permutation(rows), range(size, rows, size))


def permutations(is_sample: NDArray[np.bool_], movable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Marks `[PERMUTATIONS, bins]` of who would be a sample; what cannot be moved stays where it is."""
    generator = np.random.default_rng(0)
    permuted = np.tile(is_sample, (PERMUTATIONS, 1))
    permuted[:, movable] = generator.permuted(permuted[:, movable], axis=1)
    return permuted


def p_value(value: float, permuted: NDArray[Any]) -> float:
    """Share of permutations, the one that happened among them, whose value is as large; rounding makes none larger."""
    slack = 1e-9 * max(abs(value), float(np.abs(permuted).max()))
    return float((1 + np.count_nonzero(permuted >= value - slack)) / (1 + len(permuted)))


def bin_sums(
    a: NDArray[Any], a_bins: list[NDArray[np.int64]], b: NDArray[Any], b_bins: list[NDArray[np.int64]], kernel: Kernel
) -> Floats:
    """Sums of the kernel over all pairs of points `[bins, bins]` between bins of both sets, no point with itself."""
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
    """Bins in runs of a tile at most: their rows, where each bin starts in those, the numbers of the bins."""
    each = max(1, TILE // len(bins[0]))
    for start in range(0, len(bins), each):
        run = bins[start : start + each]
        starts = np.cumsum([0, *(len(part) for part in run[:-1])])
        yield np.concatenate(run), starts, slice(first + start, first + start + len(run))
