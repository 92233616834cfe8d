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
class Ring(TypedDict):
    """`modes` K on a circle of radius r, each of standard deviation σ."""

    modes: Annotated[int, Ge(1), Le(100)]
    radius: PositiveFloat
    deviation: PositiveFloat


def log_joint(density: Ring) -> Floats:
    """log P(mode, grid point) `[modes, LEVELS, LEVELS]`.

    Raises:
        UserError: a ring that the grid does not hold.
    """
    angles = 2 * np.pi * np.arange(density["modes"]) / density["modes"]
    x = log_intervals(density["radius"] * np.cos(angles), density["deviation"])
    y = log_intervals(density["radius"] * np.sin(angles), density["deviation"])
    joint = x[:, :, None] + y[:, None, :] - np.log(density["modes"])
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


def log_prob(grid: NDArray[Any], density: Ring) -> Floats:
    """Exact log-probability in nats `[N]` of grid points `[N, 2]`."""
    table: Floats = logsumexp(log_joint(density), axis=0)
    nats: Floats = table[grid[:, 0], grid[:, 1]]
    return nats


def read(
    folder: Path, *, density: Ring, train: AtLeastTwo, validation: AtLeastTwo, test: AtLeastTwo, seed: Seed
) -> Raw:
    """Draw observations; `folder` holds nothing to read.

    Args:
        density: the ring.
        train, validation, test: observations of each split.
        seed: of the draws.
    """
    joint = np.exp(log_joint(density))
    drawn = np.random.default_rng(seed).choice(joint.size, train + validation + test, p=joint.ravel())
    labels, *columns = np.unravel_index(drawn, joint.shape)
    grid, cuts = np.stack(columns, axis=1), [train, train + validation]
    domain = Domain(
        name="ring",
        kind="vector",
        shape=(2,),
        levels=LEVELS,
        low=(LOW, LOW),
        step=(STEP, STEP),
        unit="unit",
        labels=tuple(map(str, range(len(joint)))),
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
