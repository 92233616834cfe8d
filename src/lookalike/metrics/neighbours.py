"""Distances between all points of two sets, a tile at a time, and the nearest of one set to each of another."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROWS, COLUMNS = 256, 512
"""A tile of distances is 1 MB: it stays in the cache while several things are asked of it."""


def pieces(rows: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` rows."""
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def squared_distances(a: NDArray[Any], b: NDArray[Any]) -> Floats:
    """|a_i - b_j|² `[N, M]` as one matrix product: [a, |a|², 1] · [-2b, 1, |b|²].

    Squared norms are taken smaller by the largest rounding error of the product. So equal points are at distance zero
    exactly, and every other squared distance is off by about 1e-14 of the squared norms.
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
    """Distances and indices `[N, k]` of the k nearest among `[M, D]` to each of the points `[N, D]`, nearest first.

    Args:
        others: the points are the set itself: none is its own neighbour.
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
    """Distance of each of the points `[N, D]` to the nearest other one `[N]`; zero for those that repeat.

    What `nearest(points, points, others=True)` finds, in half the time: each pair is looked at once.
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
    """The k nearest `[N, k]` of those so far and of a further tile, of which few are near enough to matter."""
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
    """Columns `[N, k]` of the k smallest in each row, in no order."""
    if k >= values.shape[1]:
        return np.tile(np.arange(values.shape[1]), (len(values), 1))
    found: NDArray[np.int64] = np.argpartition(values, k - 1, axis=1)[:, :k]
    return found
