"""Distances between all points of two sets, one tile at a time, and nearest neighbours."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROWS, COLUMNS = 256, 512
"""Size of a tile of distances: 1 MB, which stays in the cache."""


def pieces(rows: int, size: int) -> Iterator[slice]:
    """Yield consecutive slices of at most `size` rows."""
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def squared_distances(a: NDArray[Any], b: NDArray[Any]) -> Floats:
    """Return |a_i - b_j|² `[N, M]` by one matrix product, [a, |a|², 1] · [-2b, 1, |b|²].

    Squared norms are reduced by the largest rounding error of the product. So equal points have distance zero exactly,
    and all other squared distances have an error of about 1e-14 of the squared norms.
    """
    centre = b.mean(axis=0, dtype=np.float64)
    a, b = a - centre, b - centre
    less = 1 - 4 * (a.shape[1] + 4) * np.finfo(np.float64).eps
    norms_a, norms_b = less * (a * a).sum(axis=1), less * (b * b).sum(axis=1)
    left = np.column_stack([a, norms_a, np.ones(len(a))])
    right = np.column_stack([-2 * b, np.ones(len(b)), norms_b])
    squared: Floats = left @ right.T
    return np.maximum(squared, 0, out=squared)


def nearest(
    points: NDArray[Any], among: NDArray[Any], *, k: int = 1, others: bool = False
) -> tuple[Floats, NDArray[np.int64]]:
    """Return distances and indices `[N, k]` of the k points of a set `[M, D]` nearest to each point `[N, D]`.

    Args:
        points: the points.
        among: the set.
        k: number of neighbours; the nearest one comes first.
        others: whether the points are the set itself, so that no point counts as its own neighbour.
    """
    distances, indices = np.empty((len(points), k)), np.empty((len(points), k), dtype=np.int64)
    for rows in pieces(len(points), ROWS):
        count = rows.stop - rows.start
        near, who = np.empty((count, 0)), np.empty((count, 0), dtype=np.int64)
        for columns in pieces(len(among), COLUMNS):
            squared = squared_distances(points[rows], among[columns])
            if others:
                own = np.arange(max(rows.start, columns.start), min(rows.stop, columns.stop))
                squared[own - rows.start, own - columns.start] = np.inf
            if near.shape[1] < k:
                best = smallest(squared, k)
                near = np.hstack([near, np.take_along_axis(squared, best, axis=1)])
                who = np.hstack([who, best + columns.start])
                kept = np.argsort(near, axis=1, kind="stable")[:, :k]
                near, who = np.take_along_axis(near, kept, axis=1), np.take_along_axis(who, kept, axis=1)
            else:
                near, who = merged(near, who, squared, columns.start)
        distances[rows], indices[rows] = np.sqrt(near), who
    return distances, indices


def apart(points: NDArray[Any]) -> Floats:
    """Return the distance `[N]` of each point `[N, D]` to the nearest other point; zero for repeated points.

    It equals that of `nearest(points, points, others=True)` in half the time, because each pair is computed once.
    """
    near = np.full(len(points), np.inf)
    for rows in pieces(len(points), COLUMNS):
        for columns in pieces(len(points), COLUMNS):
            if columns.start < rows.start:
                continue
            squared = squared_distances(points[rows], points[columns])
            if columns.start == rows.start:
                np.fill_diagonal(squared, np.inf)
            near[rows] = np.minimum(near[rows], squared.min(axis=1))
            near[columns] = np.minimum(near[columns], squared.min(axis=0))
    distances: Floats = np.sqrt(near)
    return distances


def merged(near: Floats, who: NDArray[np.int64], squared: Floats, first: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return the k nearest points `[N, k]` of those found so far and of a new tile, of which few points matter."""
    count, k = near.shape
    row, column = np.nonzero(squared < near[:, -1:])
    if not len(row):
        return near, who
    rows = np.concatenate([np.repeat(np.arange(count), k), row])
    values, ids = np.concatenate([near.ravel(), squared[row, column]]), np.concatenate([who.ravel(), column + first])
    order = np.lexsort((values, rows))
    kept = order[np.searchsorted(rows[order], np.arange(count))[:, None] + np.arange(k)]
    return values[kept], ids[kept]


def smallest(values: Floats, k: int) -> NDArray[np.int64]:
    """Return the columns `[N, k]` of the k smallest values in each row, in any order."""
    if k >= values.shape[1]:
        return np.tile(np.arange(values.shape[1]), (len(values), 1))
    found: NDArray[np.int64] = np.argpartition(values, k - 1, axis=1)[:, :k]
    return found
