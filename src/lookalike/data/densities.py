"""What data sets with a known density share: the grids that they are drawn on, probabilities of a grid's intervals."""

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, logsumexp

from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.data import SPLITS, Raw

Floats = NDArray[np.float64]

OFF_GRID = 1e-3
"""What of a density may lie beyond its grid."""

PANEL, MOST_NODES = 128, 2**15
"""Nodes of a quadrature: of each part of a curve, and of all of it. Curves that a grid holds need no more."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """`levels` intervals a dimension, each `step` wide, the first around `low`."""

    levels: int
    low: float
    step: float

    def log_intervals(self, means: Floats, deviations: Floats | float) -> Floats:
        """log of what normal distributions of means and deviations `[...]` give the intervals: `[..., levels]`.

        An interval above its mean is mirrored, so that no digits are lost in either tail.
        """
        edges = self.low + self.step * (np.arange(self.levels + 1) - 0.5)
        edges = (edges - means[..., None]) / np.asarray(deviations)[..., None]
        lower, upper = edges[..., :-1], edges[..., 1:]
        above = lower + upper > 0
        near, far = log_ndtr(np.where(above, -lower, upper)), log_ndtr(np.where(above, -upper, lower))
        masses: Floats = near + np.log(-np.expm1(far - near))
        return masses

    def normalized(self, joint: Floats, density: Any) -> Floats:
        """Log-probabilities, whose sum may fall short of 1 by what lies beyond the grid, divided by that sum.

        Raises:
            UserError: more lies beyond the grid than is sensible.
        """
        inside = logsumexp(joint)
        if inside < np.log1p(-OFF_GRID):
            end = self.low - self.step / 2
            raise UserError(
                f"data.reader.density={density}: only {np.exp(inside):.1%} of it lies between {end:g} and {-end:g}; "
                f"make it smaller"
            )
        result: Floats = joint - inside
        return result

    def raw(
        self, name: str, points: NDArray[np.int64], *, splits: list[int], classes: Any, expected: dict[str, Any]
    ) -> Raw:
        """What a reader returns of grid points `[N, D]`, the first `splits[0]` of them for training, and so on.

        Args:
            name: of the data set.
            classes: names of classes and their numbers `[N]`, or None.
        """
        names, numbers = classes if classes is not None else ((), np.zeros(0))
        cuts, dimensions = np.cumsum(splits)[:-1], points.shape[1]
        training = points[: splits[0]]
        domain = Domain(
            name=name,
            kind="vector",
            shape=(dimensions,),
            levels=self.levels,
            low=(self.low,) * dimensions,
            step=(self.step,) * dimensions,
            unit="unit",
            labels=tuple(names),
            location=tuple(training.mean(axis=0).tolist()),
            scale=tuple(training.std(axis=0).tolist()),
        )
        labels = numbers.astype(np.uint8)
        return Raw(
            domain=domain,
            values=dict(zip(SPLITS, np.split(domain.to_values(points), cuts), strict=True)),
            labels=dict(zip(SPLITS, np.split(labels, cuts) if len(labels) else [labels] * 3, strict=True)),
            expected=expected,
        )

    def raw_of(
        self, name: str, joint: Floats, *, splits: list[int], seed: int, density: Any, classes: tuple[str, ...]
    ) -> Raw:
        """What a reader returns of draws from log P(class, grid point) `[classes, levels, ...]`."""
        masses = np.exp(joint)
        drawn = np.random.default_rng(seed).choice(masses.size, sum(splits), p=masses.ravel())
        labels, *columns = np.unravel_index(drawn, masses.shape)
        cells = masses.sum(axis=0)
        expected = {"density": density, "entropy in nats": float(-(cells * np.log(cells)).sum())}
        points = np.stack(columns, axis=1)
        return self.raw(name, points, splits=splits, classes=(classes, labels), expected=expected)


LINE = Grid(levels=1024, low=-7.9921875, step=0.015625)
"""Intervals that tile [-8, 8]."""

PLANE = Grid(levels=256, low=-3.984375, step=0.03125)
"""Squares that tile [-4, 4]²."""


def log_marginal(joint: Floats, grid: NDArray[Any]) -> Floats:
    """Log-probability `[N]` of grid points `[N, D]` from log P(class, grid point) `[classes, levels, ...]`."""
    table: Floats = logsumexp(joint, axis=0)
    nats: Floats = table[tuple(grid.T)]
    return nats


def quadrature(nodes: float, density: Any) -> tuple[Floats, Floats]:
    """At least so many nodes in [0, 1], and their weights: Gauss and Legendre's rule on equal parts of the interval.

    Raises:
        UserError: more nodes than any curve on a grid needs.
    """
    if nodes > MOST_NODES:
        raise UserError(
            f"data.reader.density={density}: that pen is too thin for a curve so long, whose probabilities would take "
            f"{nodes:.0f} places to sum over ({MOST_NODES} at most); make the curve shorter or the deviation larger"
        )
    panels = math.ceil(nodes / PANEL)
    places, weights = np.polynomial.legendre.leggauss(math.ceil(nodes / panels))
    every = (np.arange(panels)[:, None] + (places + 1) / 2) / panels
    return every.ravel(), np.tile(weights / (2 * panels), panels)


def log_sum(x: Floats, y: Floats, weights: Floats) -> Floats:
    """log Σ_m w_m exp(x_mi + y_mj) of `[M, levels]` and `[M, levels]`: `[levels, levels]`.

    One matrix product; where it underflows, far from the curve, the sum is done again without leaving logarithms.
    """
    most_x, most_y = x.max(axis=0), y.max(axis=0)
    product = (weights[:, None] * np.exp(x - most_x)).T @ np.exp(y - most_y)
    total: Floats = np.log(np.maximum(product, 1e-300)) + most_x[:, None] + most_y
    far = product < 1e-280
    for i in np.flatnonzero(far.any(axis=1)):
        total[i, far[i]] = logsumexp(np.log(weights)[:, None] + x[:, i, None] + y[:, far[i]], axis=0)
    return total
