"""Hills: a mixture of normal distributions in one dimension, known exactly.

    p(x) = Σ_k w_k N(x; μ_k, σ_k²)

A grid point's probability is the integral of p over its interval, a difference of two values of the normal
distribution function, divided by what of p lies on the grid. Which hill an observation is from is its label.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Len
from numpy.typing import NDArray
from typing_extensions import TypedDict

from lookalike.core.errors import UserError
from lookalike.core.ranges import AtLeastTwo, PositiveFloat, Seed, settings
from lookalike.data import Raw
from lookalike.data.densities import LINE, Floats, log_marginal


@settings
class Hills(TypedDict):
    """One number each a hill; `weights` are divided by their sum."""

    weights: Annotated[list[PositiveFloat], Len(1, 100)]
    means: Annotated[list[float], Len(1, 100)]
    deviations: Annotated[list[PositiveFloat], Len(1, 100)]


def log_joint(density: Hills) -> Floats:
    """log P(hill, grid point) `[hills, levels]`.

    Raises:
        UserError: lists of different lengths, or a mixture that the grid does not hold.
    """
    weights, means, deviations = (np.array(density[key]) for key in ("weights", "means", "deviations"))
    if not len(weights) == len(means) == len(deviations):
        raise UserError(f"data.reader.density={density}: give every hill a weight, a mean and a deviation")
    joint: Floats = np.log(weights / weights.sum())[:, None] + LINE.log_intervals(means, deviations)
    return LINE.normalized(joint, density)


def log_prob(grid: NDArray[Any], density: Hills) -> Floats:
    """Exact log-probability in nats `[N]` of grid points `[N, 1]`."""
    return log_marginal(log_joint(density), grid)


def read(
    folder: Path, *, density: Hills, train: AtLeastTwo, validation: AtLeastTwo, test: AtLeastTwo, seed: Seed
) -> Raw:
    """Draw observations; `folder` holds nothing to read.

    Args:
        density: the mixture.
        train, validation, test: observations of each split.
        seed: of the draws.
    """
    joint, splits = log_joint(density), [train, validation, test]
    return LINE.raw_of(
        "hills", joint, splits=splits, seed=seed, density=density, classes=tuple(map(str, range(len(joint))))
    )
