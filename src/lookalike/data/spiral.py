"""A spiral: arms that wind outwards, drawn with a blurred pen, in two dimensions, known by quadrature.

    p(x) = 1/K Σ_k ∫ N(x; r √t (cos φ, sin φ), σ² I) dt over t in [0, 1],  φ = 2π (T √t + k/K)

With √t as radius and angle an arm winds T times and has about the same ink everywhere on its length. In s = √t the
integral is ∫ N(...) 2s ds, done by Gauss and Legendre's rule with nodes closer than σ/2 on average: its error on so
smooth a function is that of rounding, 1e-12 relative where p is not negligible. Given s, a grid point's probability is
the integral over its square: a product of two differences of the normal distribution function. The result is divided
by what of p lies on the grid. Which arm an observation is from is its label.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray
from typing_extensions import TypedDict

from lookalike.core.ranges import AtLeastTwo, PositiveFloat, Seed, settings
from lookalike.data import Raw
from lookalike.data.densities import PLANE, Floats, log_marginal, log_sum, quadrature


@settings
class Spiral(TypedDict):
    """`arms` K of radius r that wind T `turns`, blurred by a standard deviation σ of at least half a grid step."""

    arms: Annotated[int, Ge(1), Le(10)]
    turns: Annotated[float, Ge(0), Le(10)]
    radius: PositiveFloat
    deviation: Annotated[float, Ge(PLANE.step / 2)]


def log_joint(density: Spiral) -> Floats:
    """log P(arm, grid point) `[arms, levels, levels]`.

    Raises:
        UserError: a spiral that the grid does not hold, or too long and thin to sum over.
    """
    arms, turns, radius, deviation = density["arms"], density["turns"], density["radius"], density["deviation"]
    steepest = radius * np.hypot(1, 2 * np.pi * turns)  # of the curve's length, by s
    s, weights = quadrature(16 + 2 * steepest / deviation, density)
    parts = []
    for k in range(arms):
        angle = 2 * np.pi * (turns * s + k / arms)
        x = PLANE.log_intervals(radius * s * np.cos(angle), deviation)
        y = PLANE.log_intervals(radius * s * np.sin(angle), deviation)
        parts.append(log_sum(x, y, 2 * weights * s / arms))
    joint = np.stack(parts)
    return PLANE.normalized(joint, density)


def log_prob(grid: NDArray[Any], density: Spiral) -> Floats:
    """By quadrature: log-probability in nats `[N]` of grid points `[N, 2]`."""
    return log_marginal(log_joint(density), grid)


def read(
    folder: Path, *, density: Spiral, train: AtLeastTwo, validation: AtLeastTwo, test: AtLeastTwo, seed: Seed
) -> Raw:
    """Draw observations; `folder` holds nothing to read.

    Args:
        density: the spiral.
        train, validation, test: observations of each split.
        seed: of the draws.
    """
    joint, splits = log_joint(density), [train, validation, test]
    return PLANE.raw_of(
        "spiral", joint, splits=splits, seed=seed, density=density, classes=tuple(map(str, range(len(joint))))
    )
