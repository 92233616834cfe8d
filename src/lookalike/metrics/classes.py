"""Distance between the class shares of samples and of a reference, where one classifier decides all classes.

With shares p of the samples and q of the reference, the total variation ½ Σ_c |p_c - q_c| is the share of the samples
that would have to change their class; the gap max_c |p_c - q_c| belongs to the class that is farthest off.

Neither is zero for two draws of one distribution: with 10 equally frequent classes, 5,000 samples and 10,000 images of
a reference are about 0.02 apart. The score of real data shows how much of a number this chance explains.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.metrics.resamples import Floats, Resampled, of_difference


def class_distance(counts: NDArray[Any], reference: NDArray[Any]) -> Resampled:
    """Return the total variation between two histograms `[1 + B, C]` of resamples, from 0 to 1."""
    return of_difference(lambda p: 0.5 * np.abs(p).sum(axis=1), shares(counts), shares(reference))


def class_gap(counts: NDArray[Any], reference: NDArray[Any]) -> Resampled:
    """Return the largest difference between the shares of a class in histograms `[1 + B, C]`, from 0 to 1."""
    return of_difference(lambda p: np.abs(p).max(axis=1), shares(counts), shares(reference))


def shares(counts: NDArray[Any]) -> Floats:
    """Return the shares `[..., C]` of classes that were counted `[..., C]` times."""
    found: Floats = counts / counts.sum(axis=-1, keepdims=True)
    return found


def differences_error(counts: NDArray[Any], reference: NDArray[Any]) -> Floats:
    """Return the standard errors `[C]` of the differences of shares, where both counts `[C]` are random draws."""
    variances = [shares(n) * (1 - shares(n)) / n.sum() for n in (counts, reference)]
    error: Floats = np.sqrt(variances[0] + variances[1])
    return error
