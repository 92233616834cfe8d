"""Tones: working units of pixels in which the interval of a grid point is the wider the more common the point is."""

import torch
from torch import Tensor, nn

from lookalike.domain.domain import Domain


class Intervals:
    """Grid points as intervals of working units, with edges per row.

    Args:
        edges: ends of the intervals, ascending, `[rows, levels + 1]`.
    """

    def __init__(self, edges: Tensor) -> None:
        self.edges, self.levels = edges, edges.shape[1] - 1

    def interval(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two ends of the intervals that grid points `[rows, D]` own, in working units."""
        x = x.long()
        return self.edges.gather(1, x), self.edges.gather(1, x + 1)

    def to_grid(self, y: Tensor) -> Tensor:
        """Return the grid points, int64, in whose intervals the working units `[rows, D]` lie."""
        return torch.searchsorted(self.edges[:, 1:-1].contiguous(), y.contiguous(), right=True)


class Tones(nn.Module):
    """Working units in which a grid point's interval is as wide as the grid point is common, per channel.

    How often a level of grey occurs is not smooth: scanning and scaling leave spikes and gaps that no single pixel
    causes. In these units a smooth density has all of them; on an even grid a mixture would need one component per
    spike. The probability of a grid point is what a distribution function gains over its interval, wherever the ends
    of the interval are, so the probabilities of all grid points still add up to one.

    The first and the last grid point own what lies beyond the grid and keep the width of one step. All intervals have
    this width until `fit`.

    Args:
        domain: a domain of images.

    Attributes:
        edges: ends of the intervals in working units, `[channels, levels + 1]`.
    """

    edges: Tensor

    UNIFORM = 0.1
    """Weight of the uniform distribution in the widths: no interval is narrower than a tenth of a step."""

    def __init__(self, domain: Domain) -> None:
        super().__init__()
        (variable,) = domain.ordered
        self.levels, self.location, self.scale = domain.levels, variable.location, variable.scale
        even = (torch.arange(domain.levels + 1) - 0.5 - self.location) / self.scale
        self.register_buffer("edges", even.repeat(domain.shape[0], 1))

    @property
    def centres(self) -> Tensor:
        """Middle of every interval, `[channels, levels]`."""
        return (self.edges[:, :-1] + self.edges[:, 1:]) / 2

    def fit(self, counts: Tensor) -> None:
        """Learn the widths from how often each level occurs in each channel, `[channels, levels]`."""
        inner = counts[:, 1:-1].double()
        total = inner.sum(1, keepdim=True)
        widths = (1 - self.UNIFORM) * inner * inner.shape[1] / total.clamp(min=1) + self.UNIFORM
        widths = torch.where(total > 0, widths, torch.ones_like(widths))
        ends = 0.5 + widths.cumsum(1)[:, :-1]
        self.edges[:, 2:-2] = ((ends - self.location) / self.scale).to(self.edges)
