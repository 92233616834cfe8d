"""Authenticity: the share of samples that are not nearer to a training point than training points are to each other.

A sample is authentic if the training point nearest to it has another training point that is nearer to it than the
sample is.  (Alaa et al., How faithful is your synthetic data?, 2022, arXiv:2102.08921.) Data drawn anew have a value
of their own, about a half; copies have 0, samples far from all data have 1.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.core.errors import UserError
from lookalike.metrics import Score
from lookalike.metrics.inputs import check
from lookalike.metrics.neighbours import nearest


class Authenticity(NamedTuple):
    """The share; of each sample the row of the nearest training point and its distance `[N]`."""

    score: Score
    nearest: NDArray[np.int64]
    distance: NDArray[np.float64]


def authenticity(samples: NDArray[Any], training: NDArray[Any], *, apart: NDArray[Any] | None = None) -> Authenticity:
    """Of samples `[N, D]` against training data `[T, D]`; the error is that of a mean over samples.

    Args:
        apart: distance of each training point to the nearest other one `[T]`, as `neighbours.apart` gives it. Without,
            it is looked for, of the training points that are nearest to some sample.
    """
    check(samples=samples, training=training)
    distances, rows = nearest(samples, training)
    distance, row = distances[:, 0], rows[:, 0]
    if apart is None:
        asked, back = np.unique(row, return_inverse=True)
        # Each is its own nearest, at distance zero; the second is the nearest other, or a copy.
        other = nearest(training[asked], training, k=2)[0][:, 1][back]
    elif apart.shape != (len(training),):
        raise UserError(f"apart: one distance for each of {len(training)} training points, not {apart.shape}")
    else:
        other = apart[row]
    authentic = distance > other * (1 + 1e-10)
    error = authentic.std(ddof=1) / np.sqrt(len(samples))
    return Authenticity(Score(float(authentic.mean()), float(error)), row, distance)
