"""Samples that are not new, value for value: repeats among themselves, and exact copies of training data."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.core.errors import UserError
from lookalike.metrics import Score


def duplicates(samples: NDArray[Any]) -> Score:
    """Share of samples `[N, ...]` that repeat an earlier one. The error is a jackknife over single samples."""
    if samples.ndim < 2 or len(samples) < 2:
        raise UserError(f"at least two samples [N, ...] are needed to look for repeats, not {samples.shape}")
    counts = np.unique(keys(samples), return_counts=True)[1]
    alone = np.count_nonzero(counts == 1) / len(samples)
    return Score(1 - len(counts) / len(samples), float(np.sqrt(alone * (1 - alone) / (len(samples) - 1))))


def copies(samples: NDArray[Any], training: NDArray[Any]) -> Score:
    """Share of samples `[N, ...]` that are in the training data `[T, ...]`, and its error as a mean over samples.

    Raises:
        UserError: of different shapes or types: then nothing is equal to anything, whatever was copied.
    """
    if samples.shape[1:] != training.shape[1:] or samples.dtype != training.dtype or len(samples) < 2:
        raise UserError(
            f"samples {samples.dtype}{samples.shape} cannot be looked up in training data "
            f"{training.dtype}{training.shape}: bring both onto one grid"
        )
    copied = np.isin(keys(samples), keys(training))
    return Score(float(copied.mean()), float(copied.std(ddof=1) / np.sqrt(len(samples))))


def keys(points: NDArray[Any]) -> NDArray[Any]:
    """Each point's bytes as one number or string that can be sorted; -0 is 0."""
    flat = np.ascontiguousarray((points + points.dtype.type(0)).reshape(len(points), -1))
    return flat.view(f"V{flat.dtype.itemsize * flat.shape[1]}").ravel()
