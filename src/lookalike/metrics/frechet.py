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

from lookalike.metrics import Score, jackknife
from lookalike.metrics.inputs import TooFewPointsError, check
from lookalike.metrics.jackknife import GROUPS

Matrix = NDArray[np.float64]

BATCH = 10_000
"""Number of rows per batch of moments."""


class Moments(NamedTuple):
    """Number of rows, sum `[D]` and sum of outer products `[D, D]` of features, which add up over batches."""

    rows: int
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

    def __add__(self, other: Any) -> "Moments":
        return Moments(self.rows + other.rows, self.total + other.total, self.outer + other.outer)

    def __sub__(self, other: "Moments") -> "Moments":
        return Moments(self.rows - other.rows, self.total - other.total, self.outer - other.outer)

    def mean(self) -> NDArray[np.float64]:
        """Return the mean `[D]`."""
        return self.total / self.rows

    def covariance(self) -> Matrix:
        """Return the unbiased covariance `[D, D]`."""
        mean = self.mean()
        return (self.outer - self.rows * np.outer(mean, mean)) / (self.rows - 1)


def frechet(mean1: NDArray[Any], cov1: Matrix, mean2: NDArray[Any], cov2: Matrix) -> float:
    """Return d² of two Gaussians.

    (Σ₁ Σ₂)^½ has the same trace as (Rᵀ Σ₂ R)^½ for any R with R Rᵀ = Σ₁, which takes only eigenvalues of a symmetric
    matrix.
    """
    return frechet_to(mean1, cov1, root_of(cov1), mean2, cov2)


def root_of(covariance: Matrix) -> Matrix:
    """Return R with R Rᵀ = Σ: a triangular matrix, or one from eigenvectors where Σ is singular."""
    try:
        return np.asarray(np.linalg.cholesky(covariance))
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        return np.asarray(vectors * np.sqrt(values.clip(min=0)))


def frechet_to(mean1: NDArray[Any], cov1: Matrix, root1: Matrix, mean2: NDArray[Any], cov2: Matrix) -> float:
    """Return d² of two Gaussians, given a root of the covariance of the first one."""
    cross = np.sqrt(np.linalg.eigvalsh(root1.T @ cov2 @ root1).clip(min=0)).sum()
    difference = np.asarray(mean1) - np.asarray(mean2)
    return float(max(0.0, difference @ difference + np.trace(cov1) + np.trace(cov2) - 2 * cross))


class FrechetScores(NamedTuple):
    """d² of the given samples, and of infinitely many samples, against the same reference."""

    distance: Score
    infinite: Score


def frechet_distances(features: NDArray[Any], reference: NDArray[Any], *, groups: int = GROUPS) -> FrechetScores:
    """Return d² between features `[N, D]` of samples and `[M, D]` of a reference, as it is and for infinite N.

    The error of both is that of drawing new samples: a jackknife that leaves out one of `groups` groups at a time. The
    reference is held fixed, and the bias from its size remains. The value for infinite N may be below zero.

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
        return frechet_to(mean, covariance, root, moments.mean(), moments.covariance())

    value, left_out = distance(whole), np.array([distance(whole - part) for part in parts])
    error = float(jackknife.error(left_out))
    g = len(parts)
    return FrechetScores(Score(value, error), Score(float(g * value - (g - 1) * left_out.mean()), error))


def frechet_distance(features: NDArray[Any], reference: NDArray[Any], *, groups: int = GROUPS) -> Score:
    """Return the first value of `frechet_distances`."""
    return frechet_distances(features, reference, groups=groups).distance
