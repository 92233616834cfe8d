"""The distribution of every dimension on its own, as a map that makes it uniform."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from lookalike.core.domain import Domain
from lookalike.networks.histogram import smoothed


class Marginals(nn.Module):
    """Grid points to intervals of [0, 1] that are as long as the points are likely, dimension by dimension.

    A place in the interval of a grid point is a dequantized observation whose dimensions are uniform each, so a model
    of it starts where `independent` ends: the uniform density gives a grid point exactly its marginal probability, and
    what a model learns on top is dependence. Fitted to the training data and then left alone.
    """

    edges: Tensor

    BANDWIDTHS: ClassVar = [0.0, 0.5, 1.0, 2.0, 4.0]
    """Kernel widths to choose from, in grid points."""
    UNIFORM = 1e-3
    """Weight of the uniform distribution: every grid point has an interval."""

    def __init__(self, domain: Domain) -> None:
        super().__init__()
        self.domain = domain
        even = torch.linspace(0, 1, domain.levels + 1, dtype=torch.float64)
        self.register_buffer("edges", even.repeat(domain.dimensions, 1))

    def fit(self, x: Tensor) -> None:
        """Learn the marginals of the training set `[N, *shape]`."""
        probs = smoothed(x, levels=self.domain.levels, bandwidths=self.BANDWIDTHS, uniform=self.UNIFORM)
        inner = probs.cumsum(dim=1)
        self.edges[:, 1:] = inner / inner[:, -1:]

    def interval(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Lower and upper ends `[N, D]`, float64, of the intervals of grid points `[N, *shape]`."""
        columns = x.flatten(1).long().T
        return self.edges.gather(1, columns).T, self.edges.gather(1, columns + 1).T

    def locate(self, u: Tensor, dimensions: Tensor) -> tuple[Tensor, Tensor]:
        """Grid points whose intervals places `[N, d]` of some dimensions `[d]` are in, int64, and where in them, in
        [0, 1]."""
        edges = self.edges[dimensions]
        columns = u.T.double().contiguous()
        points = torch.searchsorted(edges[:, 1:-1].contiguous(), columns, right=True)
        low, high = edges.gather(1, points), edges.gather(1, points + 1)
        return points.T, ((columns - low) / (high - low)).T

    def to_grid(self, u: Tensor) -> Tensor:
        """Places `[N, D]` in [0, 1] to the grid points `[N, *shape]` whose intervals they are in, int64."""
        points, _ = self.locate(u, torch.arange(u.shape[1], device=u.device))
        return points.reshape(len(u), *self.domain.shape)
