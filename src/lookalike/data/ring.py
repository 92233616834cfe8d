"""A ring of Gaussians: equal normal distributions on a circle, in two dimensions, known exactly.

    p(x) = 1/K Σ_k N(x; r (cos 2πk/K, sin 2πk/K), σ² I)

A grid point's probability is the integral of p over its square, a sum of products of two differences of the normal
distribution function, divided by what of p lies on the grid. Which mode an observation is from is its label.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray
from typing_extensions import TypedDict

from lookalike.core.ranges import AtLeastTwo, PositiveFloat, Seed, settings
from lookalike.data import Raw
from lookalike.data.densities import PLANE, Floats, log_marginal


@settings
class Ring(TypedDict):
    """`modes` K on a circle of radius r, each of standard deviation σ."""

    modes: Annotated[int, Ge(1), Le(100)]
    radius: PositiveFloat
    deviation: PositiveFloat


def log_joint(density: Ring) -> Floats:
    """log P(mode, grid point) `[modes, levels, levels]`.

    Raises:
        UserError: a ring that the grid does not hold.
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
    folder: Path, *, density: Ring, train: AtLeastTwo, validation: AtLeastTwo, test: AtLeastTwo, seed: Seed
) -> Raw:
    """Draw observations; `folder` holds nothing to read.

    Args:
        density: the ring.
        train, validation, test: observations of each split.
        seed: of the draws.
    """
    joint, splits = log_joint(density), [train, validation, test]
    return PLANE.raw_of(
        "ring", joint, splits=splits, seed=seed, density=density, classes=tuple(map(str, range(len(joint))))
    )
