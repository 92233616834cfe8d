"""Scores of resampled points: the weighted forms of metrics are evaluated for all resamples at once.

A resample gives every point a weight, the number of times that it was drawn with replacement.  (Efron, Bootstrap
methods: another look at the jackknife, 1979.) Samples and reference are resampled apart, so that there are three kinds
of replicates: with both resampled, with the samples alone, and with the reference alone.

A distance between two finite sets is larger than that between their distributions, because both sets are noisy, and a
resample adds noise once more. The plain bootstrap therefore draws from two populations that are too far apart, and its
errors are too large where this noise is most of the distance. Here the observed difference is multiplied by a factor s,
such that the mean of the replicates is the value that was observed, and half an error more: errors grow with the
distance, so that an interval around a value that happens to be low would be too short. Then the mean of the replicates
is moved to the value, which leaves the expectation at these numbers of points as what is estimated.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FARTHER = 0.5
"""Errors by which the distance of the population exceeds the value."""

WIDENING = 1.25
"""Factor of (error / value)² by which replicates of norms are widened: benchmarks/coverage.py checks it."""

MAX_WIDENING = 0.1
"""Largest part by which they are widened; sets of nearly one distribution have errors that are wide enough."""


class Weights(NamedTuple):
    """Weights of the samples `[1 + B, N]` and of the reference `[1 + B, M]` in B resamples; the first row is ones."""

    samples: NDArray[Any]
    reference: NDArray[Any]


class Resampled(NamedTuple):
    """A score and its replicates `[B]`, with the probability that two draws of one distribution differ as much.

    Attributes:
        value: the score of the points themselves.
        joint: replicates with samples and reference resampled.
        samples: replicates with the samples alone resampled.
        reference: replicates with the reference alone resampled.
        p_value: of the test that both distributions are equal, where there is one.
    """

    value: float
    joint: Floats
    samples: Floats
    reference: Floats
    p_value: float | None = None

    @property
    def error(self) -> float:
        """The standard error over draws of samples and reference."""
        return deviation(self.joint)

    def at(self, value: float) -> "Resampled":
        """Return the same replicates around another value."""
        shift = value - self.value
        return Resampled(value, self.joint + shift, self.samples + shift, self.reference + shift, self.p_value)


def deviation(replicates: Floats) -> float:
    """Return the standard deviation of replicates `[B]`; NaN for fewer than two."""
    # Differences to the first one: equal replicates have an error of exactly 0.
    return float((replicates - replicates[0]).std(ddof=1)) if len(replicates) > 1 else float("nan")


def equal(samples: int, reference: int = 0) -> Weights:
    """Return weights of one for sets of two sizes, without resamples."""
    return Weights(np.ones((1, samples), dtype=np.float32), np.ones((1, reference), dtype=np.float32))


def exactly(value: float, *, replicates: int) -> Resampled:
    """Return a score that depends on nothing that was drawn."""
    same = np.full(replicates, value)
    return Resampled(value, same, same, same)


def crossed(score: Callable[[Any, Any], Floats], ours: Any, theirs: Any) -> Resampled:
    """Return score(ours, theirs) of what was computed for all weights `[1 + B, ...]` of both sets.

    Scores that are no distances need no shrinking.
    """
    (value,) = score(ours[:1], theirs[:1])
    return Resampled(
        float(value), score(ours[1:], theirs[1:]), score(ours[1:], theirs[:1]), score(ours[:1], theirs[1:])
    )


def mean_of_samples(values: NDArray[Any], weights: NDArray[Any]) -> Resampled:
    """Return the mean of a value per sample `[N]` under weights `[1 + B, N]`; the reference plays no part."""
    means = weighted_mean(values, weights)
    return Resampled(float(means[0]), means[1:], means[1:], np.full(len(means) - 1, means[0]))


def mean_of_reference(values: NDArray[Any], weights: NDArray[Any]) -> Resampled:
    """Return the mean of a value per reference point `[M]` under weights `[1 + B, M]`; samples play no part."""
    means = weighted_mean(values, weights)
    return Resampled(float(means[0]), means[1:], np.full(len(means) - 1, means[0]), means[1:])


def weighted_mean(values: NDArray[Any], weights: NDArray[Any]) -> Floats:
    """Return the means `[1 + B]` of values `[N]` under weights `[1 + B, N]`."""
    # Differences to the first value: equal values have an error of exactly 0.
    first = float(values[0])
    if not np.isfinite(first):
        return np.full(len(weights), first)
    means: Floats = first + weights @ (values - first) / weights.sum(axis=1, dtype=np.float64)
    return means


def of_difference(norm: Callable[[Floats], Floats], ours: Floats, theirs: Floats) -> Resampled:
    """Return a distance that is a norm of the difference of something linear in the weights.

    Where the distance is only a few errors, it is uncertain which parts of the difference are positive, and the error
    that the observed signs give is too small by the order of (error / value)², by which replicates are widened.

    Args:
        norm: the distances `[B]` of differences `[B, K]`.
        ours: what is linear in the weights of the samples `[1 + B, K]`.
        theirs: the same for the reference.
    """
    observed = ours[:1] - theirs[:1]
    moved, met = ours[1:] - ours[:1], theirs[1:] - theirs[:1]
    value = float(norm(observed)[0])

    def replicates(change: Floats) -> Floats:
        found = shrunk(lambda s: norm(s * observed + change), value, power=2)
        widening = 1 + min(MAX_WIDENING, WIDENING * (deviation(found) / value) ** 2) if value > 0 else 1.0
        return np.asarray(value + widening * (found - value))

    return Resampled(value, replicates(moved - met), replicates(moved), replicates(-met))


def shrunk(distances: Callable[[float], Floats], value: float, *, power: int) -> Floats:
    """Return replicates `[B]` around the value, from a population whose distance is `FARTHER` than it by errors.

    With an observed difference multiplied by s, the mean m of the replicates follows
    m^p = m(0)^p + s² (m(1)^p - m(0)^p), with p = 1 for a squared distance and nearly so with p = 2 for a distance.

    Args:
        distances: a function from s to the distances `[B]` of resamples.
        value: the distance that was observed.
        power: p.
    """
    apart, together = distances(1.0), distances(0.0)
    if not len(apart):
        return apart
    low, high = float(together.mean()) ** power, float(apart.mean()) ** power
    wanted = (value + FARTHER * deviation(apart)) ** power
    squared = (wanted - low) / (high - low) if high > low else 1.0
    found = together if squared <= 0 else distances(float(np.sqrt(squared)))
    return np.asarray(found + (value - found.mean()))
