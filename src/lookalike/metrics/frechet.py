"""Fréchet distance between two sets of features, each described by a Gaussian.

d² = |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½)  (Dowson & Landau, The Fréchet distance between multivariate normal
distributions, 1982; on Inception features: Heusel et al., 2017, arXiv:1706.08500, where d² is called FID.)

With N samples d² is too large by about c / N, where c differs between models. The value for infinitely many samples is
the end of this line. (Chong & Forsyth, Effectively unbiased FID, 2020, arXiv:1911.07023.) Here the line goes through d²
of all samples and the mean of d² without each group of samples, which is the jackknife's correction of a bias
(Quenouille, Notes on bias in estimation, 1956) and no noisier than d² itself.
"""

import operator
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.metrics import jackknife
from lookalike.metrics.inputs import TooFewPointsError, check
from lookalike.metrics.jackknife import GROUPS
from lookalike.metrics.neighbours import pieces
from lookalike.metrics.resamples import Resampled, Weights, exactly, shrunk, weighted_mean

Matrix = NDArray[np.float64]

BATCH = 10_000
"""Number of rows per batch of moments."""

WEIGHTED_BATCH = 1024
"""Number of rows per batch of weighted moments, whose outer products are all in memory."""

MAX_RESAMPLED = 128
"""Largest number of features whose moments are resampled."""


class Moments(NamedTuple):
    """Number of rows `[...]`, sum `[..., D]` and sum of outer products `[..., D, D]` of features.

    They add up over batches, and have a leading axis where the rows have several weights.
    """

    rows: Any
    total: NDArray[np.float64]
    outer: Matrix

    @classmethod
    def of(cls, features: NDArray[Any]) -> "Moments":
        """Return the moments of features `[N, D]`."""
        wide = features.astype(np.float64)
        return cls(len(wide), wide.sum(axis=0), wide.T @ wide)

    @classmethod
    def over(cls, features: NDArray[Any], rows: NDArray[np.int64] | None = None) -> "Moments":
        """Return the moments of features `[N, D]`, or of some of their rows, one batch at a time."""
        count = len(features) if rows is None else len(rows)
        batches = (slice(start, start + BATCH) for start in range(0, count, BATCH))
        return reduce(operator.add, (cls.of(features[batch if rows is None else rows[batch]]) for batch in batches))

    @classmethod
    def weighted(cls, features: Matrix, weights: NDArray[Any]) -> "Moments":
        """Return the moments of features `[N, D]` under weights `[B, N]`, one batch of outer products at a time."""
        dimension = features.shape[1]
        row, column = np.triu_indices(dimension)
        upper = np.zeros((len(weights), len(row)))
        for part in pieces(len(features), WEIGHTED_BATCH):
            batch = features[part]
            upper += weights[:, part] @ (batch[:, row] * batch[:, column])
        outer = np.empty((len(weights), dimension, dimension))
        outer[:, row, column], outer[:, column, row] = upper, upper
        return cls(weights.sum(axis=1, dtype=np.float64), weights @ features, outer)

    def __add__(self, other: Any) -> "Moments":
        return Moments(self.rows + other.rows, self.total + other.total, self.outer + other.outer)

    def __sub__(self, other: "Moments") -> "Moments":
        return Moments(self.rows - other.rows, self.total - other.total, self.outer - other.outer)

    def mean(self) -> NDArray[np.float64]:
        """Return the mean `[..., D]`."""
        mean: NDArray[np.float64] = self.total / np.asarray(self.rows)[..., None]
        return mean

    def covariance(self) -> Matrix:
        """Return the unbiased covariance `[..., D, D]`."""
        mean, rows = self.mean(), np.asarray(self.rows)[..., None, None]
        covariance: Matrix = (self.outer - rows * mean[..., :, None] * mean[..., None, :]) / (rows - 1)
        return covariance


def frechet(mean1: NDArray[Any], cov1: Matrix, mean2: NDArray[Any], cov2: Matrix) -> float:
    """Return d² of two Gaussians.

    (Σ₁ Σ₂)^½ has the same trace as (Rᵀ Σ₂ R)^½ for any R with R Rᵀ = Σ₁, which takes only eigenvalues of a symmetric
    matrix.
    """
    return float(frechet_to(mean1, cov1, root_of(cov1), mean2, cov2))


def root_of(covariance: Matrix) -> Matrix:
    """Return R with R Rᵀ = Σ for `[..., D, D]`: triangular, or from eigenvectors where a Σ is singular."""
    try:
        return np.asarray(np.linalg.cholesky(covariance))
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        return np.asarray(vectors * np.sqrt(values.clip(min=0))[..., None, :])


def frechet_to(mean1: NDArray[Any], cov1: Matrix, root1: Matrix, mean2: NDArray[Any], cov2: Matrix) -> Any:
    """Return d² `[...]` of Gaussians `[..., D]`, given a root of the covariance of the first one."""
    cross = np.sqrt(np.linalg.eigvalsh(np.swapaxes(root1, -1, -2) @ cov2 @ root1).clip(min=0)).sum(axis=-1)
    square = ((np.asarray(mean1) - np.asarray(mean2)) ** 2).sum(axis=-1)
    traces = np.trace(cov1, axis1=-2, axis2=-1) + np.trace(cov2, axis1=-2, axis2=-1)
    return np.maximum(0.0, square + traces - 2 * cross)


def transport(cov1: Matrix, cov2: Matrix) -> Matrix:
    """Return the symmetric T `[D, D]` with T Σ₁ T = Σ₂, which moves one Gaussian to another on the shortest way.

    T = Σ₁^-½ (Σ₁^½ Σ₂ Σ₁^½)^½ Σ₁^-½, in the space that Σ₁ spans.
    """
    root, inverse = power_of(cov1, 0.5), power_of(cov1, -0.5)
    return inverse @ power_of(root @ cov2 @ root, 0.5) @ inverse


def power_of(matrix: Matrix, power: float) -> Matrix:
    """Return a power of a symmetric matrix that has no negative eigenvalues; those near zero count as zero."""
    values, vectors = np.linalg.eigh(matrix)
    held = values > 1e-12 * max(values[-1], 0.0)
    return np.asarray((vectors[:, held] * values[held] ** power) @ vectors[:, held].T)


class FrechetScores(NamedTuple):
    """d² of the given samples, and of infinitely many samples, against the same reference."""

    distance: Resampled
    infinite: Resampled


def frechet_distances(
    features: NDArray[Any], reference: NDArray[Any], weights: Weights | None = None, *, groups: int = GROUPS
) -> FrechetScores:
    """Return d² between features `[N, D]` of samples and `[M, D]` of a reference, as it is and for infinite N.

    Both have the same replicates, apart from their mean. The value for infinite N keeps the bias from the size of the
    reference, and may be below zero.

    Raises:
        TooFewPointsError: there are too few points to estimate a covariance.
        UserError: points are not finite numbers.
    """
    check(features=features, reference=reference)
    dimension = features.shape[1]
    if min(len(features), len(reference)) <= dimension:
        raise TooFewPointsError(
            f"{len(features)} samples against {len(reference)} in {dimension} features: a Fréchet distance needs at "
            f"least {dimension + 1} of each"
        )
    fixed = Moments.over(reference)
    mean, covariance = fixed.mean(), fixed.covariance()
    root = root_of(covariance)
    parts = [Moments.over(features, rows) for rows in jackknife.split(len(features), groups)]
    whole = reduce(operator.add, parts)

    def distance(moments: Moments) -> float:
        return float(frechet_to(mean, covariance, root, moments.mean(), moments.covariance()))

    value, left_out = distance(whole), np.array([distance(whole - part) for part in parts])
    g = len(parts)
    found = exactly(value, replicates=0)
    if weights is not None:
        found = (resampled if dimension <= MAX_RESAMPLED else linearized)(features, reference, weights).at(value)
    return FrechetScores(found, found.at(float(g * value - (g - 1) * left_out.mean())))


def resampled(features: NDArray[Any], reference: NDArray[Any], weights: Weights) -> Resampled:
    """Return d² and its replicates by the moments of resampled features.

    For a population at a factor s of the observed difference, samples are moved to (s I + (1 - s) T) x, which leaves
    s² d² on the shortest way to the reference.  (McCann, A convexity principle for interacting gases, 1997.)
    """
    centre = reference.mean(axis=0, dtype=np.float64)
    ours, theirs = (
        Moments.weighted(points - centre, side) for points, side in zip((features, reference), weights, strict=True)
    )
    mean1, cov1, mean2, cov2 = ours.mean(), ours.covariance(), theirs.mean(), theirs.covariance()
    way, gap, eye = transport(cov1[0], cov2[0]), mean1[0] - mean2[0], np.eye(len(centre))
    roots = root_of(cov2)
    value = float(frechet_to(mean2[0], cov2[0], roots[0], mean1[0], cov1[0]))
    every, first = slice(1, None), slice(0, 1)

    def distances(s: float, mine: slice, its: slice) -> NDArray[np.float64]:
        move = s * eye + (1 - s) * way
        # Move with s = 1 is the identity, which spares two products.
        moved = cov1[mine] if s == 1 else move @ cov1[mine] @ move
        means = gap * s + mean2[0] + (mean1[mine] - mean1[0]) @ move
        return np.asarray(frechet_to(mean2[its], cov2[its], roots[its], means, moved))

    def replicates(mine: slice, its: slice) -> NDArray[np.float64]:
        return shrunk(lambda s: distances(s, mine, its), value, power=1)

    return Resampled(value, replicates(every, every), replicates(every, first), replicates(first, every))


def linearized(features: NDArray[Any], reference: NDArray[Any], weights: Weights) -> Resampled:
    """Return d² and its replicates by what single points add to it, for too many features to resample their moments.

    A point at z from the mean of its set adds 2 (μ₁ - μ₂) · z + zᵀ (I - T) z, where T moves this set to the other one.
    Errors of two sets of one distribution are too large.
    """
    (mean1, cov1), (mean2, cov2) = ((of.mean(), of.covariance()) for of in map(Moments.over, (features, reference)))
    moves = []
    for points, mean, other, cov, to, side in (
        (features, mean1, mean2, cov1, cov2, weights.samples),
        (reference, mean2, mean1, cov2, cov1, weights.reference),
    ):
        z = points - mean
        adds = 2 * z @ (mean - other) + ((z - z @ transport(cov, to)) * z).sum(axis=1)
        means = weighted_mean(adds, side)
        moves.append(means[1:] - means[0])
    value = frechet(mean1, cov1, mean2, cov2)
    return Resampled(value, value + moves[0] + moves[1], value + moves[0], value + moves[1])


def frechet_distance(features: NDArray[Any], reference: NDArray[Any], *, groups: int = GROUPS) -> Resampled:
    """Return the first value of `frechet_distances`."""
    return frechet_distances(features, reference, groups=groups).distance
