"""The error of a number by the jackknife: leave out one group of samples at a time.

se² = (g - 1) / g Σ (θ₍₋ᵢ₎ - mean θ₍₋₎)²  (Efron & Stein, The jackknife estimate of variance, 1981.)
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

GROUPS = 20


def split(rows: int, groups: int = GROUPS) -> list[NDArray[np.int64]]:
    """Return rows in random groups, the same each time, because samples may come in an order of their own."""
    return np.array_split(np.random.default_rng(0).permutation(rows), min(groups, rows))


def error(left_out: NDArray[Any]) -> Any:
    """Return the standard error of a number from its values `[groups, ...]` without each group."""
    groups = len(left_out)
    squares = ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0)
    return np.sqrt((groups - 1) / groups * squares)
