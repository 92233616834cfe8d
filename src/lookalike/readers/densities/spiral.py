"""A spiral: blurred arms that wind outwards in two dimensions, with probabilities by quadrature.

    p(x) = 1/K Σ_k ∫ N(x; r √t (cos φ, sin φ), σ² I) dt over t in [0, 1],  φ = 2π (T √t + k/K)

Radius and angle are proportional to √t, so an arm winds T times and has about the same density along its length. In
s = √t the integral is ∫ N(...) 2s ds. It uses the Gauss-Legendre rule with nodes that are less than σ/2 apart on
average; on so smooth a function its error is that of rounding, 1e-12 relative where p is not negligible. Given s, a
grid point's probability is the integral over its square: a product of two differences of the normal distribution
function. The result is divided by the integral of p over the whole grid. The label of an observation is its arm.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray
from typing_extensions import TypedDict

from lookalike.readers.contract import Source
from lookalike.readers.densities.grids import PLANE, Floats, log_marginal, log_sum, quadrature
from lookalike.workspace.ranges import AtLeastTwo, PositiveFloat, Seed, settings


@settings
class Spiral(TypedDict):
    """The number K of `arms` of radius r, each with T `turns`, blurred by a standard deviation σ ≥ step / 2."""

    arms: Annotated[int, Ge(1), Le(10)]
    turns: Annotated[float, Ge(0), Le(10)]
    radius: PositiveFloat
    deviation: Annotated[float, Ge(PLANE.step / 2)]


def log_joint(density: Spiral) -> Floats:
    """Return log P(arm, grid point) `[arms, levels, levels]`.

    Raises:
        UserError: too much of the spiral lies beyond the grid, or it is too thin for the quadrature.
    """
    arms, turns, radius, deviation = density["arms"], density["turns"], density["radius"], density["deviation"]
    steepest = radius * np.hypot(1, 2 * np.pi * turns)  # largest derivative of the arc length by s
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
    """Log-probability in nats `[N]` of grid points `[N, 2]`, by quadrature."""
    return log_marginal(log_joint(density), grid)


def read(
    folder: Path, *, name: str, density: Spiral, train: AtLeastTwo, validation: AtLeastTwo, test: AtLeastTwo, seed: Seed
) -> Source:
    """Draw observations; nothing is read from `folder`.

    Args:
        name: name of the data set.
        density: the settings of the spiral.
        train, validation, test: number of observations per split.
        seed: seed of the draws.
    """
    joint, splits = log_joint(density), [train, validation, test]
    return PLANE.source_of(
        name, joint, splits=splits, seed=seed, density=density, classes=tuple(map(str, range(len(joint))))
    )
