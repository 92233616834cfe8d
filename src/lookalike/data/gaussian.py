"""A correlated Gaussian in many dimensions, discretized to a chain that is known exactly.

    x_1 ~ N(0, 1),  x_i | x_{i-1} ~ N(ρ x_{i-1}, 1 - ρ²):  together N(0, Σ) with Σ_ij = ρ^|i-j|

The integral of N(0, Σ) over a cell of many dimensions has no closed form. So the grid is entered one dimension after
another: given the grid point before it, a dimension's grid point has the probability of its interval under the normal
distribution above, divided by what of that lies on the grid. The product of these is the exact probability of what
`read` draws. It differs from the density at the cell's centre times the cell's volume by O(STEP²) nats: at ρ = 0.9 in
32 dimensions by 0.004 an observation (standard deviation) and by less than 0.0005 on average (tests/test_densities.py).

In closed form, but for the same O(STEP²): the entropy is ½ D log 2πe + ½ (D-1) log(1 - ρ²) - D log STEP nats, and a
model of independent dimensions is at least -½ (D-1) log(1 - ρ²) nats away: 25.7 at ρ = 0.9 in 32 dimensions.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray
from scipy.special import log_ndtr, logsumexp
from typing_extensions import TypedDict

from lookalike.core.domain import Domain
from lookalike.core.ranges import AtLeastTwo, Seed, settings
from lookalike.data import SPLITS, Raw

Floats = NDArray[np.float64]

LEVELS, LOW, STEP = 512, -7.984375, 0.03125  # intervals that tile [-8, 8], where all but 1e-15 of N(0, 1) lies


@settings
class Gaussian(TypedDict):
    """D `dimensions`, neighbours of which have the `correlation` ρ; |ρ| up to 0.99, seven grid steps of noise."""

    dimensions: Annotated[int, Ge(1), Le(1000)]
    correlation: Annotated[float, Ge(-0.99), Le(0.99)]


def log_chain(density: Gaussian) -> tuple[Floats, Floats]:
    """log P of the first grid point `[LEVELS]` and of each given the one before it `[LEVELS, LEVELS]`."""
    rho, centres = density["correlation"], LOW + STEP * np.arange(LEVELS, dtype=np.float64)
    return log_intervals(np.zeros(()), 1.0), log_intervals(rho * centres, float(np.sqrt(1 - rho**2)))


def log_intervals(means: Floats, deviation: float) -> Floats:
    """log of what normal distributions of means `[...]` give the grid's intervals `[..., LEVELS]`, made to sum to 1.

    An interval above its mean is mirrored, so that no digits are lost in either tail.
    """
    edges = (LOW + STEP * (np.arange(LEVELS + 1) - 0.5) - means[..., None]) / deviation
    lower, upper = edges[..., :-1], edges[..., 1:]
    above = lower + upper > 0
    near, far = log_ndtr(np.where(above, -lower, upper)), log_ndtr(np.where(above, -upper, lower))
    masses: Floats = near + np.log(-np.expm1(far - near))
    return masses - logsumexp(masses, axis=-1, keepdims=True)


def log_prob(grid: NDArray[Any], density: Gaussian) -> Floats:
    """Exact log-probability in nats `[N]` of grid points `[N, D]`."""
    first, following = log_chain(density)
    total: Floats = first[grid[:, 0]] + following[grid[:, :-1], grid[:, 1:]].sum(axis=1)
    return total


def entropy(density: Gaussian) -> float:
    """H = H(x_1) + Σ_i H(x_i | x_{i-1}) in nats, exact: the chain's own marginals weigh its conditional entropies."""
    first, following = (np.exp(part) for part in log_chain(density))
    conditional = -(following * np.log(following.clip(min=1e-300))).sum(axis=1)
    total, marginal = float(-(first * np.log(first)).sum()), first
    for _ in range(density["dimensions"] - 1):
        total += float(marginal @ conditional)
        marginal = marginal @ following
    return total


def draw(density: Gaussian, count: int, *, seed: int) -> NDArray[np.int64]:
    """Grid points `[count, D]`, by inversion of each conditional distribution function."""
    first, following = (np.exp(part).cumsum(axis=-1) for part in log_chain(density))
    uniform = np.random.default_rng(seed).random((density["dimensions"], count))
    columns = [np.searchsorted(first, uniform[0])]
    for u in uniform[1:]:
        column = np.empty(count, dtype=np.int64)
        for before in np.unique(columns[-1]):
            rows = columns[-1] == before
            column[rows] = np.searchsorted(following[before], u[rows])
        columns.append(column)
    return np.stack(columns, axis=1).clip(max=LEVELS - 1)


def read(
    folder: Path, *, density: Gaussian, train: AtLeastTwo, validation: AtLeastTwo, test: AtLeastTwo, seed: Seed
) -> Raw:
    """Draw observations; `folder` holds nothing to read.

    Args:
        density: the distribution.
        train, validation, test: observations of each split.
        seed: of the draws.
    """
    grid, cuts = draw(density, train + validation + test, seed=seed), [train, train + validation]
    domain = Domain(
        name="gaussian",
        kind="vector",
        shape=(density["dimensions"],),
        levels=LEVELS,
        low=(LOW,) * density["dimensions"],
        step=(STEP,) * density["dimensions"],
        unit="unit",
        labels=(),
        location=tuple(grid[:train].mean(axis=0).tolist()),
        scale=tuple(grid[:train].std(axis=0).tolist()),
    )
    return Raw(
        domain=domain,
        values=dict(zip(SPLITS, np.split(domain.to_values(grid), cuts), strict=True)),
        labels={split: np.zeros(0, dtype=np.uint8) for split in SPLITS},
        expected={"density": density, "entropy in nats": entropy(density)},
    )
