"""The squared maximum mean discrepancy between two sets, by a kernel on pairs of points.

MMD² = E k(x, x') + E k(y, y') - 2 E k(x, y). The estimate is unbiased, because no point is paired with itself: its mean
over draws of one distribution is zero, and it may be negative.  (Gretton et al., A kernel two-sample test, 2012.)

Every pair is computed once and added to a sum over bins of points. Permuting bins between the two sets gives an exact
p-value at no cost. (Domingo-Enrich, Dwivedi & Mackey, Cheap permutation testing, 2025, arXiv:2502.07672.) The tiles of
pairs are also multiplied by the weights of resamples.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.metrics.inputs import TooFewPointsError, check
from lookalike.metrics.resamples import FARTHER, Resampled, Weights, deviation, equal

Floats = NDArray[np.float64]
Kernel = Callable[[NDArray[Any], NDArray[Any]], Floats]

BINS = 40
"""Number of bins of the smaller set; the larger set has more bins of the same size."""

PERMUTATIONS = 999

MAX_RATIO = 1000
"""Largest ratio between the sizes of the two sets."""

TILE = 256
"""Rows of a tile of kernel values: 0.5 MB, which stays in the cache."""


def mean_discrepancy(
    samples: NDArray[Any], reference: NDArray[Any], kernel: Kernel, weights: Weights | None = None
) -> Resampled:
    """Return MMD² of samples `[N, D]` and a reference `[M, D]` with a kernel(a, b) that returns `[n, m]`.

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
    forms = Forms.of(weights or equal(len(samples), len(reference)), ours, theirs)
    sums = bin_sums(samples, ours, reference, theirs, kernel, forms)
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
    permuted = permutations(is_sample, full)
    own = np.array(
        [
            marks @ sums @ marks / (size * (size - 1))
            for marks, size in zip((is_sample, ~is_sample), forms.size, strict=True)
        ]
    )
    return forms.resampled(value, own)._replace(p_value=p_value(value, estimate(permuted, ~permuted)))


class Forms:
    """Sums over pairs of points of a kernel and of resampled weights, which grow tile by tile.

    With weights u of both sets, 1/N and -1/M, and their change v in a resample, MMD² of a population at a factor s of
    the observed difference is s² uᵀKu + 2s uᵀKv + vᵀKv. No point is paired with itself. s² is the ratio of the wanted
    distance to the biased estimate, which is that of a population of the observed points.

    Attributes:
        moves: changes of the counts of points `[B, N + M]`, whole numbers, so that a constant kernel has no error.
        scale: factors that make them v, for samples and for the reference.
        linear: parts of uᵀKv `[B]` of samples and of reference.
        square: vᵀKv `[B]` of samples, of both sets, and of the reference.
        trace: sums of the kernel of points with themselves, of samples and of the reference.
    """

    def __init__(self, moves: NDArray[np.float32], *, samples: int) -> None:
        self.moves, self.samples = moves, samples
        self.size = np.array([samples, moves.shape[1] - samples], dtype=np.float64)
        self.scale = np.array([1.0, -1.0]) / self.size
        self.linear = np.zeros((2, len(moves)))
        self.square = np.zeros((3, len(moves)))
        self.trace = np.zeros(2)

    @classmethod
    def of(cls, weights: Weights, *bins: list[NDArray[np.int64]]) -> "Forms":
        """Return empty sums for weights `[1 + B, N]` and `[1 + B, M]`, with the points of both sets in bins."""
        ours, theirs = (
            (side[1:] - side[:1])[:, np.concatenate(parts)] for side, parts in zip(weights, bins, strict=True)
        )
        return cls(np.hstack([ours, theirs]).astype(np.float32), samples=weights.samples.shape[1])

    def add(self, values: Floats, rows: slice, columns: slice, *, is_diagonal: bool) -> None:
        """Add a tile of kernel values `[n, m]` between points, counted over both sets in the order of their bins."""
        if not len(self.moves):
            return
        row_set, column_set = (int(points.start >= self.samples) for points in (rows, columns))
        left, right = self.moves[:, rows], self.moves[:, columns]
        twice = 1 if is_diagonal else 2
        inner = np.einsum("bm,bm->b", left @ values.astype(np.float32), right, dtype=np.float64)
        self.square[row_set + column_set] += twice * self.scale[row_set] * self.scale[column_set] * inner
        # Unbiased means within a set leave out the point itself.
        for side, other, of, sums in ((left, column_set, row_set, values.sum(axis=1)),
                                      (right, row_set, column_set, values.sum(axis=0))):  # fmt: skip
            each = (self.size[other] - (of == other)) * (1 if other == 0 else -1)
            self.linear[of] += self.scale[of] * (side @ (sums / each))
            if is_diagonal:
                break

    def resampled(self, value: float, within: Floats) -> Resampled:
        """Return the replicates around an unbiased estimate of MMD², given the mean kernel within each set."""
        noise = float(((self.trace / self.size - within) / self.size).sum())
        (ours, theirs), (ours2, both, theirs2) = self.linear, self.square
        found = []
        for linear, square in ((ours + theirs, ours2 + both + theirs2), (ours, ours2), (theirs, theirs2)):
            error = deviation(2 * linear + square)
            squared = max(value + FARTHER * error, 0.0) / (max(value, 0.0) + noise) if noise > 0 else 1.0
            moved = 2 * np.sqrt(squared) * linear + square
            found.append(value + moved - moved.mean() if len(moved) else moved)
        joint, of_samples, of_reference = found
        return Resampled(value, joint, of_samples, of_reference)


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
    a: NDArray[Any],
    a_bins: list[NDArray[np.int64]],
    b: NDArray[Any],
    b_bins: list[NDArray[np.int64]],
    kernel: Kernel,
    forms: Forms,
) -> Floats:
    """Return sums `[bins, bins]` of the kernel over pairs of points of two bins, and add all pairs to `forms`.

    Pairs of a point with itself are left out.
    """
    sums = np.zeros((len(a_bins) + len(b_bins),) * 2)
    runs = [(a, *run) for run in runs_of(a_bins, 0)] + [(b, *run) for run in runs_of(b_bins, len(a_bins))]
    ends = np.cumsum([0, *(len(rows) for _, rows, _, _ in runs)])
    places = [slice(*both) for both in itertools.pairwise(ends)]
    for i, (points, rows, starts, where) in enumerate(runs):
        for j, (other_points, other_rows, other_starts, other_where) in enumerate(runs[i:]):
            values = kernel(points[rows], other_points[other_rows])
            if j == 0:
                forms.trace[int(places[i].start >= len(a))] += np.trace(values)
                np.fill_diagonal(values, 0)
            forms.add(values, places[i], places[i + j], is_diagonal=j == 0)
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
