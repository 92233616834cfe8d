"""Authenticity: the share of samples that are not nearer to a training point than training points are to each other.

A sample is authentic if its nearest training point has another training point closer to it than the sample is.  (Alaa
et al., How faithful is your synthetic data?, 2022, arXiv:2102.08921.) New real data score about a half, copies score 0,
and samples far from all data score 1.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.metrics.inputs import check
from lookalike.metrics.neighbours import nearest
from lookalike.metrics.resamples import Resampled, Weights, equal, mean_of_samples
from lookalike.workspace.errors import UserError


class Authenticity(NamedTuple):
    """The share of authentic samples; rows and distances `[N]` of the training points nearest to the samples."""

    score: Resampled
    nearest: NDArray[np.int64]
    distance: NDArray[np.float64]


def authenticity(
    samples: NDArray[Any],
    training: NDArray[Any],
    weights: Weights | None = None,
    *,
    apart: NDArray[Any] | None = None,
) -> Authenticity:
    """Return the authenticity of samples `[N, D]` against training data `[T, D]`, given these.

    Args:
        samples: samples.
        training: training data.
        weights: of resamples.
        apart: distances `[T]` of each training point to the nearest other one, as `neighbours.apart` returns them. By
            default they are computed for the training points that are nearest to some sample.

    Raises:
        UserError: the sets do not fit together, or `apart` has another length than the training data.
    """
    check(samples=samples, training=training)
    distances, rows = nearest(samples, training)
    distance, row = distances[:, 0], rows[:, 0]
    if apart is None:
        asked, back = np.unique(row, return_inverse=True)
        # Each point is its own nearest one, at distance zero; the second one is another point, or a copy.
        other = nearest(training[asked], training, k=2)[0][:, 1][back]
    elif apart.shape != (len(training),):
        raise UserError(f"apart: one distance for each of {len(training)} training points, not {apart.shape}")
    else:
        other = apart[row]
    authentic = (distance > other * (1 + 1e-10)).astype(np.float64)
    return Authenticity(mean_of_samples(authentic, (weights or equal(len(samples))).samples), row, distance)
