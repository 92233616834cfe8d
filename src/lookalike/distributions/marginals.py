"""The distribution of every place on its own, as a map that makes it uniform."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from lookalike.distributions.counts import place_counts
from lookalike.distributions.histogram import smoothed
from lookalike.domain.domain import Domain


class Marginals(nn.Module):
    """Map grid points to intervals of [0, 1] that are as long as the points are probable, place by place.

    A point of a grid point's interval is a dequantized observation whose places are uniform each. A model of it starts
    where the family `independent` ends: the uniform density gives a grid point exactly its marginal probability, and
    what a model learns on top is dependence. The map is fitted to the training data and then fixed.

    Args:
        domain: what one observation is.

    Attributes:
        edges: ends of the intervals, `[places, levels + 1]`, float64.
    """

    edges: Tensor

    BANDWIDTHS: ClassVar = [0.0, 0.5, 1.0, 2.0, 4.0]
    """Kernel widths to choose from, in grid points."""
    UNIFORM = 1e-3
    """Weight of the uniform distribution, so that every grid point has an interval."""

    def __init__(self, domain: Domain) -> None:
        super().__init__()
        self.domain = domain
        even = torch.linspace(0, 1, domain.levels + 1, dtype=torch.float64)
        self.register_buffer("edges", even.repeat(domain.dimensions, 1))

    def fit(self, x: Tensor) -> None:
        """Learn the marginals of the training set `[N, *shape]`."""
        counts = place_counts(x, levels=self.domain.levels)
        inner = smoothed(counts, bandwidths=self.BANDWIDTHS, uniform=self.UNIFORM).cumsum(dim=1)
        self.edges[:, 1:] = inner / inner[:, -1:]

    def interval(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the lower and upper ends `[N, places]`, float64, of the intervals of grid points `[N, *shape]`."""
        columns = x.flatten(1).long().T
        return self.edges.gather(1, columns).T, self.edges.gather(1, columns + 1).T

    def locate(self, u: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return the grid points, int64, whose intervals points `[N, d]` lie in, and where in them, in [0, 1].

        Args:
            u: points in [0, 1].
            places: the places `[d]` that they belong to.
        """
        edges = self.edges[places]
        columns = u.T.double().contiguous()
        points = torch.searchsorted(edges[:, 1:-1].contiguous(), columns, right=True)
        low, high = edges.gather(1, points), edges.gather(1, points + 1)
        return points.T, ((columns - low) / (high - low)).T

    def to_grid(self, u: Tensor) -> Tensor:
        """Return the grid points `[N, *shape]`, int64, whose intervals points `[N, places]` in [0, 1] lie in."""
        points, _ = self.locate(u, torch.arange(u.shape[1], device=u.device))
        return points.reshape(len(u), *self.domain.shape)
