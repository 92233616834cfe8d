"""Classifier two-sample test: can a classifier tell unseen samples and real data apart?

The classifier is trained on half of both sets, and its accuracy on the other half is the score: 0.5 if the
distributions are equal, 1 if they do not overlap.  (Lopez-Paz & Oquab, Revisiting classifier two-sample tests, 2017,
arXiv:1610.06545.) The p-value is exact: given the number of points that it takes for samples, the number of those that
are samples is hypergeometric if the labels carry no information.

The classifier is a ridge regression of ±1 on the features, their squares and random Fourier features of several widths
(Rahimi & Recht, Random features for large-scale kernel machines, 2007). It has smooth decision boundaries in any
dimension and a closed form, so that it gives the same answer each time.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from lookalike.metrics.inputs import check
from lookalike.metrics.neighbours import Floats, squared_distances
from lookalike.metrics.resamples import Resampled, Weights, crossed, equal, weighted_mean

WIDTHS = (1.0, 0.5, 0.25, 0.125)
"""Widths of the Fourier features, in median distances between points."""

FOURIER = 128
"""Number of random features per width."""

MAX_DIMENSIONS = 256
"""More dimensions than this are projected at random onto this many."""

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Penalties per point; the one that is best on a quarter of the training half is used."""


def classifier_test(samples: NDArray[Any], reference: NDArray[Any], weights: Weights | None = None) -> Resampled:
    """Return the held-out accuracy on samples `[N, D]` and a reference `[M, D]`, the larger cut to the smaller's size.

    Resamples weigh the points of the held-out half, given the classifier.
    """
    check(min_rows=16, samples=samples, reference=reference)
    generator = np.random.default_rng(0)
    size = min(len(samples), len(reference))
    # Both sets have the same order, so that two equal points in one row are never divided into training and test.
    order = generator.permutation(size)
    if len(samples) == len(reference):
        orders = [order, order]
    else:
        orders = [generator.permutation(len(points))[:size] for points in (samples, reference)]
    ours, theirs = samples[orders[0]], reference[orders[1]]
    half, quarter = size // 2, size // 8
    x, y = np.concatenate([ours[:half], theirs[:half]]), np.repeat([1.0, -1.0], half)
    test = np.tile(np.arange(half) < quarter, 2)
    embed = embedding(x, generator)
    z = embed(x)
    losses = [((z[test] @ w - y[test]) ** 2).mean() for w in ridge(z[~test], y[~test], RIDGES)]
    (slopes,) = ridge(z, y, [RIDGES[int(np.argmin(losses))]])
    calls = [embed(held[half:]) @ slopes > 0 for held in (ours, theirs)]
    p, q = (
        weighted_mean(called.astype(np.float64), side[:, rows[half:]])
        for called, rows, side in zip(calls, orders, weights or equal(len(samples), len(reference)), strict=True)
    )
    n, (caught, taken) = size - half, (np.count_nonzero(called) for called in calls)
    p_value = hypergeom.sf(caught - 1, 2 * n, n, caught + taken)
    return crossed(lambda p, q: (1 + p - q) / 2, p, q)._replace(p_value=float(p_value))


def embedding(points: NDArray[Any], generator: np.random.Generator) -> Callable[[NDArray[Any]], Floats]:
    """Return the map from points `[N, D]` to the inputs `[N, F]` of the classifier, scaled by the given points."""
    mean, std = points.mean(axis=0, dtype=np.float64), points.std(axis=0, dtype=np.float64)
    scale = np.where(std > 1e-12 * (np.abs(mean) + std), std, np.inf)  # Leave out constant features.
    dimension = points.shape[1]
    project = np.eye(dimension)
    if dimension > MAX_DIMENSIONS:
        project = generator.normal(size=(dimension, MAX_DIMENSIONS)) / np.sqrt(dimension)

    def whiten(x: NDArray[Any]) -> Floats:
        whitened: Floats = ((x - mean) / scale) @ project
        return whitened

    some = whiten(points[generator.permutation(len(points))[:500]])
    median = float(np.sqrt(np.median(squared_distances(some, some)))) or 1.0
    frequencies = np.hstack([generator.normal(size=(some.shape[1], FOURIER)) / (width * median) for width in WIDTHS])
    phases = generator.uniform(0, 2 * np.pi, size=frequencies.shape[1])

    def embed(x: NDArray[Any]) -> Floats:
        z = whiten(x)
        return np.hstack([z, z * z - 1, np.cos(z @ frequencies + phases), np.ones((len(z), 1))])

    return embed


def ridge(x: Floats, y: Floats, penalties: Sequence[float]) -> list[Floats]:
    """Return for each penalty the weights `[F]` that minimize the mean of (x · w - y)² + penalty |w|²."""
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    target = vectors.T @ (x.T @ y / len(x))
    return [vectors @ (target / (values.clip(min=0) + penalty)) for penalty in penalties]
