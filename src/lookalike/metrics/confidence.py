"""Confidence of a classifier in the classes of samples: the mean over samples of max_c p(c | x).

Real data have a value of their own, and that of a model should be close to it: it is lower if samples belong to no
class, and higher if they are more typical than real data. It does not measure diversity. (It is the sharpness part of
the Inception score: Salimans et al., Improved techniques for training GANs, 2016, arXiv:1606.03498.)
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.metrics.inputs import check
from lookalike.metrics.resamples import Resampled, Weights, equal, mean_of_samples
from lookalike.workspace.errors import UserError


def classifier_confidence(probabilities: NDArray[Any], weights: Weights | None = None) -> Resampled:
    """Return the confidence from class probabilities `[N, C]`.

    Raises:
        UserError: the rows are not probabilities.
    """
    check(probabilities=probabilities)
    totals = probabilities.sum(axis=1, dtype=np.float64)
    if probabilities.min() < 0 or np.abs(totals - 1).max() > 1e-3:
        raise UserError(
            f"class probabilities must not be negative and must sum to 1: the smallest is {probabilities.min():.4g}, "
            f"sums range from {totals.min():.4g} to {totals.max():.4g}. Give softmax(logits)"
        )
    sure = probabilities.max(axis=1).astype(np.float64)
    return mean_of_samples(sure, (weights or equal(len(sure))).samples)
