"""Fréchet distance between two sets of features, each seen as a Gaussian.

d² = |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½)  (Dowson & Landau, The Fréchet distance between multivariate normal
distributions, 1982; on Inception features: Heusel et al., 2017, arXiv:1706.08500, where d² is called FID.)
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.core.errors import UserError
from lookalike.metrics import Score

Matrix = NDArray[np.float64]


class Moments(NamedTuple):
    """Rows, sum `[D]` and sum of outer products `[D, D]` of features: what adds up over batches."""

    rows: int
    total: NDArray[np.float64]
    outer: Matrix

    @classmethod
    def of(cls, features: NDArray[Any]) -> "Moments":
        """Of features `[N, D]`."""
        wide = features.astype(np.float64)
        return cls(len(wide), wide.sum(axis=0), wide.T @ wide)

    def __add__(self, other: Any) -> "Moments":
        return Moments(self.rows + other.rows, self.total + other.total, self.outer + other.outer)

    def __sub__(self, other: "Moments") -> "Moments":
        return Moments(self.rows - other.rows, self.total - other.total, self.outer - other.outer)

    def mean(self) -> NDArray[np.float64]:
        return self.total / self.rows

    def covariance(self) -> Matrix:
        """Unbiased, `[D, D]`."""
        mean = self.mean()
        return (self.outer - self.rows * np.outer(mean, mean)) / (self.rows - 1)


def frechet(mean1: NDArray[Any], cov1: Matrix, mean2: NDArray[Any], cov2: Matrix) -> float:
    """d² of two Gaussians.

    (Σ₁ Σ₂)^½ has the trace of (Σ₁^½ Σ₂ Σ₁^½)^½, which is symmetric: two eigendecompositions, no complex numbers.
    """
    values, vectors = np.linalg.eigh(cov1)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov2 @ root).clip(min=0)).sum()
    difference = np.asarray(mean1) - np.asarray(mean2)
    return float(max(0.0, difference @ difference + np.trace(cov1) + np.trace(cov2) - 2 * cross))


def frechet_distance(features: NDArray[Any], reference: NDArray[Any], *, groups: int = 20) -> Score:
    """d² between features `[N, D]` of samples and `[M, D]` of a reference.

    The error is that of drawing the samples anew: a jackknife that leaves out one of `groups` groups at a time. The
    reference is held fixed.

    Raises:
        UserError: fewer samples than it takes to estimate a covariance.
    """
    dimension = features.shape[1]
    if min(len(features), len(reference)) <= dimension:
        raise UserError(
            f"{len(features)} samples against {len(reference)} in {dimension} features: a Fréchet distance needs more "
            f"of each than there are features"
        )
    fixed = Moments.of(reference)
    mean, covariance = fixed.mean(), fixed.covariance()
    groups = min(groups, len(features))
    parts = [Moments.of(part) for part in np.array_split(features, groups)]
    whole = sum(parts[1:], start=parts[0])

    def distance(moments: Moments) -> float:
        return frechet(moments.mean(), moments.covariance(), mean, covariance)

    left_out = np.array([distance(whole - part) for part in parts])
    error = np.sqrt((groups - 1) / groups * ((left_out - left_out.mean()) ** 2).sum())
    return Score(distance(whole), float(error))
