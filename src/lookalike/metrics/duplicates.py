"""Samples that are not new, compared by equality: repeats among samples, and exact copies of training data."""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.metrics import Score
from lookalike.metrics.resamples import Resampled, Weights, equal, mean_of_samples
from lookalike.workspace.errors import UserError


def duplicates(samples: NDArray[Any]) -> Score:
    """Return the share of samples `[N, ...]` that repeat an earlier one, with a jackknife error over single samples.

    It has no replicates: a resample repeats samples itself.
    """
    if samples.ndim < 2 or len(samples) < 2:
        raise UserError(f"at least two samples [N, ...] are needed to look for repeats, not {samples.shape}")
    counts = np.array(list(Counter(map(key, samples)).values()))
    alone = np.count_nonzero(counts == 1) / len(samples)
    return Score(1 - len(counts) / len(samples), float(np.sqrt(alone * (1 - alone) / (len(samples) - 1))))


def copies(samples: NDArray[Any], training: NDArray[Any], weights: Weights | None = None) -> Resampled:
    """Return the share of samples `[N, ...]` that are in the training data `[T, ...]`.

    Raises:
        UserError: shapes or types differ, so that no sample could equal a training point.
    """
    if samples.shape[1:] != training.shape[1:] or samples.dtype != training.dtype or len(samples) < 2:
        raise UserError(
            f"samples {samples.dtype}{samples.shape} cannot be looked up in training data "
            f"{training.dtype}{training.shape}: bring both onto one grid"
        )
    wanted = [key(row) for row in samples]
    sought = set(wanted)
    # One row at a time: the training data may be larger than memory.
    found = {name for row in np.asarray(training) if (name := key(row)) in sought}
    copied = np.array([name in found for name in wanted], dtype=np.float64)
    return mean_of_samples(copied, (weights or equal(len(samples))).samples)


def key(point: NDArray[Any]) -> bytes:
    """Return the bytes of a point; -0 counts as 0."""
    return bytes((point + point.dtype.type(0)).tobytes())
