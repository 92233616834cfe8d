"""How sure a classifier is of the class of each sample.

mean over samples of max_c p(c | x)

Real data have a value of their own, and a model's should be near it: below are samples of no class, above are samples
more typical than real ones. It says nothing about diversity. (The sharpness half of the Inception score: Salimans et
al., Improved techniques for training GANs, 2016, arXiv:1606.03498.)
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.core.errors import UserError
from lookalike.metrics import Score
from lookalike.metrics.inputs import check


def classifier_confidence(probabilities: NDArray[Any]) -> Score:
    """From probabilities of classes `[N, C]`; the error is that of a mean over samples.

    Raises:
        UserError: rows that are not probabilities.
    """
    check(probabilities=probabilities)
    totals = probabilities.sum(axis=1, dtype=np.float64)
    if probabilities.min() < 0 or np.abs(totals - 1).max() > 1e-3:
        raise UserError(
            f"probabilities of classes must be positive and sum to 1: the least is {probabilities.min():.4g}, sums "
            f"range from {totals.min():.4g} to {totals.max():.4g}. Give softmax(logits)"
        )
    sure = probabilities.max(axis=1).astype(np.float64)
    return Score(float(sure.mean()), float(sure.std(ddof=1) / np.sqrt(len(sure))))
