"""Shared parts of the known densities: their grids, and the probabilities of intervals of a grid."""

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, logsumexp

from lookalike.domain.domain import Domain
from lookalike.domain.prepared import SPLITS
from lookalike.domain.table import Table
from lookalike.domain.variables import Ordered
from lookalike.readers.contract import Source, from_arrays
from lookalike.workspace.errors import UserError

Floats = NDArray[np.float64]

MAX_OFF_GRID = 1e-3
"""Largest probability of a density that may lie beyond its grid."""

PANEL_NODES, MAX_NODES = 128, 2**15
"""Quadrature nodes per part of a curve, and in total. Curves that fit on a grid need no more."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """A grid of `levels` intervals per dimension, each `step` wide; the first one is centred at `low`."""

    levels: int
    low: float
    step: float

    def log_intervals(self, means: Floats, deviations: Floats | float) -> Floats:
        """Log-probabilities `[..., levels]` of the intervals under normal distributions.

        Intervals above the mean are mirrored, so that no digits are lost in either tail.

        Args:
            means, deviations: means and standard deviations `[...]`.
        """
        edges = self.low + self.step * (np.arange(self.levels + 1) - 0.5)
        edges = (edges - means[..., None]) / np.asarray(deviations)[..., None]
        lower, upper = edges[..., :-1], edges[..., 1:]
        above = lower + upper > 0
        near, far = log_ndtr(np.where(above, -lower, upper)), log_ndtr(np.where(above, -upper, lower))
        masses: Floats = near + np.log(-np.expm1(far - near))
        return masses

    def normalized(self, joint: Floats, density: Any) -> Floats:
        """Return log-probabilities divided by their sum, which is below 1 by the mass that lies beyond the grid.

        Raises:
            UserError: too much of the density lies beyond the grid.
        """
        inside = logsumexp(joint)
        if inside < np.log1p(-MAX_OFF_GRID):
            end = self.low - self.step / 2
            raise UserError(
                f"data.reader.density={density}: only {np.exp(inside):.1%} of it lies between {end:g} and {-end:g}; "
                f"make it smaller"
            )
        result: Floats = joint - inside
        return result

    def domain(self, name: str, *, dimensions: int, labels: tuple[str, ...]) -> Domain:
        """Return a table of columns on this grid."""
        column = Ordered(levels=self.levels, low=self.low, step=self.step, unit="unit")
        return Table(name=name, shape=(dimensions,), variables=(column,) * dimensions, labels=labels)

    def source(
        self, name: str, points: NDArray[np.int64], *, splits: list[int], classes: Any, expected: dict[str, Any]
    ) -> Source:
        """Return the source of drawn grid points.

        Args:
            name: name of the data set.
            points: grid points `[N, D]`; the first `splits[0]` of them are for training, and so on.
            splits: number of observations per split.
            classes: names of the classes and their numbers `[N]`, or None.
            expected: what stands in the summary.
        """
        names, numbers = classes if classes is not None else ((), np.zeros(0))
        domain = self.domain(name, dimensions=points.shape[1], labels=tuple(names))
        cuts, labels = np.cumsum(splits)[:-1], numbers.astype(np.int64)
        return from_arrays(
            domain,
            dict(zip(SPLITS, np.split(domain.to_values(points), cuts), strict=True)),
            dict(zip(SPLITS, np.split(labels, cuts) if len(labels) else [labels] * 3, strict=True)),
            expected=expected,
        )

    def source_of(
        self, name: str, joint: Floats, *, splits: list[int], seed: int, density: Any, classes: tuple[str, ...]
    ) -> Source:
        """Return the source of draws from log P(class, grid point) `[classes, levels, ...]`."""
        masses = np.exp(joint)
        drawn = np.random.default_rng(seed).choice(masses.size, sum(splits), p=masses.ravel())
        labels, *columns = np.unravel_index(drawn, masses.shape)
        cells = masses.sum(axis=0)
        expected = {"density": density, "entropy in nats": float(-(cells * np.log(cells)).sum())}
        points = np.stack(columns, axis=1)
        return self.source(name, points, splits=splits, classes=(classes, labels), expected=expected)


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
    """Return at least `nodes` nodes in [0, 1] and their weights, by Gauss-Legendre rules on equal parts.

    Raises:
        UserError: more nodes than any curve on a grid needs.
    """
    if nodes > MAX_NODES:
        raise UserError(
            f"data.reader.density={density}: the curve is too long for so small a deviation: its probabilities need "
            f"{nodes:.0f} quadrature nodes ({MAX_NODES} at most); make the curve shorter or the deviation larger"
        )
    panels = math.ceil(nodes / PANEL_NODES)
    places, weights = np.polynomial.legendre.leggauss(math.ceil(nodes / panels))
    every = (np.arange(panels)[:, None] + (places + 1) / 2) / panels
    return every.ravel(), np.tile(weights / (2 * panels), panels)


def log_sum(x: Floats, y: Floats, weights: Floats) -> Floats:
    """log Σ_m w_m exp(x_mi + y_mj), `[levels, levels]`, of x `[M, levels]` and y `[M, levels]`.

    This is one matrix product. Where it underflows, far from the curve, the sum is repeated in logarithms.
    """
    max_x, max_y = x.max(axis=0), y.max(axis=0)
    product = (weights[:, None] * np.exp(x - max_x)).T @ np.exp(y - max_y)
    total: Floats = np.log(np.maximum(product, 1e-300)) + max_x[:, None] + max_y
    far = product < 1e-280
    for i in np.flatnonzero(far.any(axis=1)):
        total[i, far[i]] = logsumexp(np.log(weights)[:, None] + x[:, i, None] + y[:, far[i]], axis=0)
    return total
