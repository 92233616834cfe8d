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
from scipy.special import log_ndtr, logsumexp
from typing_extensions import TypedDict

from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.core.ranges import AtLeastTwo, PositiveFloat, Seed, settings
from lookalike.data import SPLITS, Raw

Floats = NDArray[np.float64]

LEVELS, LOW, STEP = 256, -3.984375, 0.03125  # squares that tile [-4, 4]²
OFF_GRID = 1e-3
"""What of a density may lie beyond the grid."""


@settings
class Moons(TypedDict):
    """Half circles of radius r, blurred by a standard deviation σ of at least half a grid step."""

    radius: PositiveFloat
    deviation: Annotated[float, Ge(STEP / 2)]


def log_joint(density: Moons) -> Floats:
    """log P(moon, grid point) `[2, LEVELS, LEVELS]`.

    Raises:
        UserError: moons that the grid does not hold.
    """
    radius, deviation = density["radius"], density["deviation"]
    nodes, weights = np.polynomial.legendre.leggauss(16 + int(2 * np.pi * radius / deviation))
    theta = np.pi * (nodes + 1) / 2
    x = log_intervals(radius * (np.cos(theta) - 0.5), deviation)
    y = log_intervals(radius * (np.sin(theta) - 0.25), deviation)
    # The grid is symmetric about the origin, and so is the other moon.
    moon = log_sum(x, y, weights / 4)
    joint = np.stack([moon, moon[::-1, ::-1]])
    inside = logsumexp(joint)
    if inside < np.log1p(-OFF_GRID):
        raise UserError(
            f"data.reader.density={density}: only {np.exp(inside):.1%} of it lies between -4 and 4; make it smaller"
        )
    normalised: Floats = joint - inside
    return normalised


def log_intervals(means: Floats, deviation: float) -> Floats:
    """log of what normal distributions of means `[...]` give the intervals of the grid: `[..., LEVELS]`.

    An interval above its mean is mirrored, so that no digits are lost in either tail.
    """
    edges = (LOW + STEP * (np.arange(LEVELS + 1) - 0.5) - means[..., None]) / deviation
    lower, upper = edges[..., :-1], edges[..., 1:]
    above = lower + upper > 0
    near, far = log_ndtr(np.where(above, -lower, upper)), log_ndtr(np.where(above, -upper, lower))
    masses: Floats = near + np.log(-np.expm1(far - near))
    return masses


def log_sum(x: Floats, y: Floats, weights: Floats) -> Floats:
    """log Σ_m w_m exp(x_mi + y_mj) of `[M, LEVELS]` and `[M, LEVELS]`: `[LEVELS, LEVELS]`.

    One matrix product; rows in which it underflows, far from the curve, are done again without leaving logarithms.
    """
    most_x, most_y = x.max(axis=0), y.max(axis=0)
    product = (weights[:, None] * np.exp(x - most_x)).T @ np.exp(y - most_y)
    total: Floats = np.log(np.maximum(product, 1e-300)) + most_x[:, None] + most_y
    for i in np.flatnonzero((product < 1e-280).any(axis=1)):
        total[i] = logsumexp(np.log(weights)[:, None] + x[:, i, None] + y, axis=0)
    return total


def log_prob(grid: NDArray[Any], density: Moons) -> Floats:
    """By quadrature: log-probability in nats `[N]` of grid points `[N, 2]`."""
    table: Floats = logsumexp(log_joint(density), axis=0)
    nats: Floats = table[grid[:, 0], grid[:, 1]]
    return nats


def read(
    folder: Path, *, density: Moons, train: AtLeastTwo, validation: AtLeastTwo, test: AtLeastTwo, seed: Seed
) -> Raw:
    """Draw observations; `folder` holds nothing to read.

    Args:
        density: the moons.
        train, validation, test: observations of each split.
        seed: of the draws.
    """
    joint = np.exp(log_joint(density))
    drawn = np.random.default_rng(seed).choice(joint.size, train + validation + test, p=joint.ravel())
    labels, *columns = np.unravel_index(drawn, joint.shape)
    grid, cuts = np.stack(columns, axis=1), [train, train + validation]
    domain = Domain(
        name="moons",
        kind="vector",
        shape=(2,),
        levels=LEVELS,
        low=(LOW, LOW),
        step=(STEP, STEP),
        unit="unit",
        labels=("upper", "lower"),
        location=tuple(grid[:train].mean(axis=0).tolist()),
        scale=tuple(grid[:train].std(axis=0).tolist()),
    )
    cells = joint.sum(axis=0)
    return Raw(
        domain=domain,
        values=dict(zip(SPLITS, np.split(domain.to_values(grid), cuts), strict=True)),
        labels=dict(zip(SPLITS, np.split(labels.astype(np.uint8), cuts), strict=True)),
        expected={"density": density, "entropy in nats": float(-(cells * np.log(cells)).sum())},
    )
