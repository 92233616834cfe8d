"""Hills: a mixture of normal distributions in one dimension, with exact probabilities.

    p(x) = Σ_k w_k N(x; μ_k, σ_k²)

A grid point's probability is the integral of p over its interval, a difference of two values of the normal
distribution function, divided by the integral of p over the whole grid. The label of an observation is its hill.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Len
from numpy.typing import NDArray
from typing_extensions import TypedDict

from lookalike.readers.contract import Source
from lookalike.readers.densities.grids import LINE, Floats, log_marginal
from lookalike.workspace.errors import UserError
from lookalike.workspace.ranges import AtLeastTwo, PositiveFloat, Seed, settings


@settings
class Hills(TypedDict):
    """One number per hill; `weights` are divided by their sum."""

    weights: Annotated[list[PositiveFloat], Len(1, 100)]
    means: Annotated[list[float], Len(1, 100)]
    deviations: Annotated[list[PositiveFloat], Len(1, 100)]


def log_joint(density: Hills) -> Floats:
    """Return log P(hill, grid point) `[hills, levels]`.

    Raises:
        UserError: the lists have different lengths, or too much of the mixture lies beyond the grid.
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
    folder: Path, *, name: str, density: Hills, train: AtLeastTwo, validation: AtLeastTwo, test: AtLeastTwo, seed: Seed
) -> Source:
    """Draw observations; nothing is read from `folder`.

    Args:
        name: name of the data set.
        density: parameters of the mixture.
        train, validation, test: number of observations per split.
        seed: seed of the draws.
    """
    joint, splits = log_joint(density), [train, validation, test]
    return LINE.source_of(
        name, joint, splits=splits, seed=seed, density=density, classes=tuple(map(str, range(len(joint))))
    )
