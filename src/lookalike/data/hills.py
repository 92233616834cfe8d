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
from scipy.special import log_ndtr, logsumexp
from typing_extensions import TypedDict

from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.core.ranges import AtLeastTwo, PositiveFloat, Seed, settings
from lookalike.data import SPLITS, Raw

Floats = NDArray[np.float64]

LEVELS, LOW, STEP = 1024, -7.9921875, 0.015625  # intervals that tile [-8, 8]
OFF_GRID = 1e-3
"""What of a density may lie beyond the grid."""


@settings
class Hills(TypedDict):
    """One number each a hill; `weights` are divided by their sum."""

    weights: Annotated[list[PositiveFloat], Len(1, 100)]
    means: Annotated[list[float], Len(1, 100)]
    deviations: Annotated[list[PositiveFloat], Len(1, 100)]


def log_joint(density: Hills) -> Floats:
    """log P(hill, grid point) `[hills, LEVELS]`.

    Raises:
        UserError: lists of different lengths, or a mixture that the grid does not hold.
    """
    weights, means, deviations = (np.array(density[key]) for key in ("weights", "means", "deviations"))
    if not len(weights) == len(means) == len(deviations):
        raise UserError(f"data.reader.density={density}: give every hill a weight, a mean and a deviation")
    joint: Floats = np.log(weights / weights.sum())[:, None] + log_intervals(means, deviations)
    inside = logsumexp(joint)
    if inside < np.log1p(-OFF_GRID):
        raise UserError(
            f"data.reader.density={density}: only {np.exp(inside):.1%} of it lies between -8 and 8; move or narrow it"
        )
    normalised: Floats = joint - inside
    return normalised


def log_intervals(means: Floats, deviations: Floats) -> Floats:
    """log of what normal distributions `[K]` give the intervals of the grid: `[K, LEVELS]`.

    An interval above its mean is mirrored, so that no digits are lost in either tail.
    """
    edges = (LOW + STEP * (np.arange(LEVELS + 1) - 0.5) - means[:, None]) / deviations[:, None]
    lower, upper = edges[:, :-1], edges[:, 1:]
    above = lower + upper > 0
    near, far = log_ndtr(np.where(above, -lower, upper)), log_ndtr(np.where(above, -upper, lower))
    masses: Floats = near + np.log(-np.expm1(far - near))
    return masses


def log_prob(grid: NDArray[Any], density: Hills) -> Floats:
    """Exact log-probability in nats `[N]` of grid points `[N, 1]`."""
    table: Floats = logsumexp(log_joint(density), axis=0)
    nats: Floats = table[grid[:, 0]]
    return nats


def read(
    folder: Path, *, density: Hills, train: AtLeastTwo, validation: AtLeastTwo, test: AtLeastTwo, seed: Seed
) -> Raw:
    """Draw observations; `folder` holds nothing to read.

    Args:
        density: the mixture.
        train, validation, test: observations of each split.
        seed: of the draws.
    """
    joint = np.exp(log_joint(density))
    drawn = np.random.default_rng(seed).choice(joint.size, train + validation + test, p=joint.ravel())
    labels, *columns = np.unravel_index(drawn, joint.shape)
    grid, cuts = np.stack(columns, axis=1), [train, train + validation]
    domain = Domain(
        name="hills",
        kind="vector",
        shape=(1,),
        levels=LEVELS,
        low=(LOW,),
        step=(STEP,),
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
