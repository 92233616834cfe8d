"""Two moons: two half circles, drawn with a blurred pen, in two dimensions, known by quadrature.

    p(x) = ½ Σ_s 1/π ∫ N(x; s r (cos θ - ½, sin θ - ¼), σ² I) dθ over θ in [0, π], s = ±1

Given θ, a grid point's probability is the integral over its square: a product of two differences of the normal
distribution function. The integral over θ is by Gauss and Legendre's rule with nodes closer than σ/2 on average, whose
error on so smooth a function is that of rounding: 1e-12 relative where p is not negligible. The result is divided by
what of p lies on the grid. Which moon an observation is from is its label.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray
from typing_extensions import TypedDict

from lookalike.core.ranges import AtLeastTwo, PositiveFloat, Seed, settings
from lookalike.data import Raw
from lookalike.data.densities import PLANE, Floats, log_marginal, log_sum, quadrature


@settings
class Moons(TypedDict):
    """Half circles of radius r, blurred by a standard deviation σ of at least half a grid step."""

    radius: PositiveFloat
    deviation: Annotated[float, Ge(PLANE.step / 2)]


def log_joint(density: Moons) -> Floats:
    """log P(moon, grid point) `[2, levels, levels]`.

    Raises:
        UserError: moons that the grid does not hold, or too long and thin to sum over.
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
    """By quadrature: log-probability in nats `[N]` of grid points `[N, 2]`."""
    return log_marginal(log_joint(density), grid)


def read(
    folder: Path, *, density: Moons, train: AtLeastTwo, validation: AtLeastTwo, test: AtLeastTwo, seed: Seed
) -> Raw:
    """Draw observations; `folder` holds nothing to read.

    Args:
        density: the moons.
        train, validation, test: observations of each split.
        seed: of the draws.
    """
    joint, splits = log_joint(density), [train, validation, test]
    return PLANE.raw_of("moons", joint, splits=splits, seed=seed, density=density, classes=("upper", "lower"))
