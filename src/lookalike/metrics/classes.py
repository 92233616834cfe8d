"""Distance between the class shares of samples and of a reference, where one classifier decides all classes.

With shares p of the samples and q of the reference, the total variation ½ Σ_c |p_c - q_c| is the share of the samples
that would have to change their class; the gap max_c |p_c - q_c| belongs to the class that is farthest off.

Neither is zero for two draws of one distribution: with 10 equally frequent classes, 5,000 samples and 10,000 images of
a reference are about 0.02 apart. The score of real data shows how much of a number this chance explains.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.metrics import Score

Counts = NDArray[np.int64]

BOOTSTRAPS = 1000


def differences(counts: NDArray[Any], reference: NDArray[Any]) -> NDArray[np.float64]:
    """Return p - q `[..., C]` from counts per class `[..., C]` and those of a reference `[C]`."""
    difference: NDArray[np.float64] = counts / counts.sum(axis=-1, keepdims=True) - reference / reference.sum()
    return difference


def differences_error(counts: Counts, reference: Counts) -> NDArray[np.float64]:
    """Return the standard errors `[C]` of p - q, where both counts `[C]` are random draws."""
    variances = [n / n.sum() * (1 - n / n.sum()) / n.sum() for n in (counts, reference)]
    error: NDArray[np.float64] = np.sqrt(variances[0] + variances[1])
    return error


def class_distance(counts: Counts, reference: Counts) -> Score:
    """Return the total variation between two histograms `[C]`, from 0 to 1."""
    return with_bootstrap_error(lambda drawn: 0.5 * np.abs(differences(drawn, reference)).sum(axis=-1), counts)


def class_gap(counts: Counts, reference: Counts) -> Score:
    """Return the largest difference between the shares of a class in two histograms `[C]`, from 0 to 1."""
    return with_bootstrap_error(lambda drawn: np.abs(differences(drawn, reference)).max(axis=-1), counts)


def with_bootstrap_error(distance: Callable[[NDArray[Any]], NDArray[Any]], counts: Counts) -> Score:
    """Return a distance and its standard deviation over multinomial draws of new samples, with the reference fixed.

    If all samples are of one class, so are all draws, and the error is zero.
    """
    total = int(counts.sum())
    drawn = np.random.default_rng(0).multinomial(total, counts / total, size=BOOTSTRAPS)
    value = distance(counts)
    return Score(float(value), float(np.std(distance(drawn) - value, ddof=1)))
