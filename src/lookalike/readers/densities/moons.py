"""Two moons: two blurred half circles in two dimensions, with probabilities by quadrature.

    p(x) = ½ Σ_s 1/π ∫ N(x; s r (cos θ - ½, sin θ - ¼), σ² I) dθ over θ in [0, π], s = ±1

Given θ, a grid point's probability is the integral over its square: a product of two differences of the normal
distribution function. The integral over θ uses the Gauss-Legendre rule with nodes that are less than σ/2 apart on
average. On so smooth a function its error is that of rounding: 1e-12 relative where p is not negligible. The result is
divided by the integral of p over the whole grid. The label of an observation is its moon.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray
from typing_extensions import TypedDict

from lookalike.readers.contract import Source
from lookalike.readers.densities.grids import PLANE, Floats, log_marginal, log_sum, quadrature
from lookalike.workspace.ranges import AtLeastTwo, PositiveFloat, Seed, settings


@settings
class Moons(TypedDict):
    """Half circles of radius r, blurred by a standard deviation σ ≥ step / 2."""

    radius: PositiveFloat
    deviation: Annotated[float, Ge(PLANE.step / 2)]


def log_joint(density: Moons) -> Floats:
    """Return log P(moon, grid point) `[2, levels, levels]`.

    Raises:
        UserError: too much of the moons lies beyond the grid, or they are too thin for the quadrature.
    """
    radius, deviation = density["radius"], density["deviation"]
    nodes, weights = quadrature(16 + 2 * np.pi * radius / deviation, density)
    theta = np.pi * nodes
    x = PLANE.log_intervals(radius * (np.cos(theta) - 0.5), deviation)
    y = PLANE.log_intervals(radius * (np.sin(theta) - 0.25), deviation)
    # The grid is symmetric about the origin, and so is the other moon.
    moon = log_sum(x, y, weights / 2)
    joint = np.stack([moon, moon[::-1, ::-1]])
    return PLANE.normalized(joint, density)


def log_prob(grid: NDArray[Any], density: Moons) -> Floats:
    """Log-probability in nats `[N]` of grid points `[N, 2]`, by quadrature."""
    return log_marginal(log_joint(density), grid)


def read(
    folder: Path, *, name: str, density: Moons, train: AtLeastTwo, validation: AtLeastTwo, test: AtLeastTwo, seed: Seed
) -> Source:
    """Draw observations; nothing is read from `folder`.

    Args:
        name: name of the data set.
        density: radius and deviation of the moons.
        train, validation, test: number of observations per split.
        seed: seed of the draws.
    """
    joint, splits = log_joint(density), [train, validation, test]
    return PLANE.source_of(name, joint, splits=splits, seed=seed, density=density, classes=("upper", "lower"))
