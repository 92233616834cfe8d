"""A ring of Gaussians: equal normal distributions on a circle in two dimensions, with exact probabilities.

    p(x) = 1/K Σ_k N(x; r (cos 2πk/K, sin 2πk/K), σ² I)

A grid point's probability is the integral of p over its square, a sum of products of two differences of the normal
distribution function, divided by the integral of p over the whole grid. The label of an observation is its mode.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray
from typing_extensions import TypedDict

from lookalike.readers.contract import Source
from lookalike.readers.densities.grids import PLANE, Floats, log_marginal
from lookalike.workspace.ranges import AtLeastTwo, PositiveFloat, Seed, settings


@settings
class Ring(TypedDict):
    """The number K of `modes` on a circle of radius r, each with a standard deviation σ."""

    modes: Annotated[int, Ge(1), Le(100)]
    radius: PositiveFloat
    deviation: PositiveFloat


def log_joint(density: Ring) -> Floats:
    """Return log P(mode, grid point) `[modes, levels, levels]`.

    Raises:
        UserError: too much of the ring lies beyond the grid.
    """
    angles = 2 * np.pi * np.arange(density["modes"]) / density["modes"]
    x = PLANE.log_intervals(density["radius"] * np.cos(angles), density["deviation"])
    y = PLANE.log_intervals(density["radius"] * np.sin(angles), density["deviation"])
    joint = x[:, :, None] + y[:, None, :] - np.log(density["modes"])
    return PLANE.normalized(joint, density)


def log_prob(grid: NDArray[Any], density: Ring) -> Floats:
    """Exact log-probability in nats `[N]` of grid points `[N, 2]`."""
    return log_marginal(log_joint(density), grid)


def read(
    folder: Path, *, name: str, density: Ring, train: AtLeastTwo, validation: AtLeastTwo, test: AtLeastTwo, seed: Seed
) -> Source:
    """Draw observations; nothing is read from `folder`.

    Args:
        name: name of the data set.
        density: the settings of the ring.
        train, validation, test: number of observations per split.
        seed: seed of the draws.
    """
    joint, splits = log_joint(density), [train, validation, test]
    return PLANE.source_of(
        name, joint, splits=splits, seed=seed, density=density, classes=tuple(map(str, range(len(joint))))
    )
