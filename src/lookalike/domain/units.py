"""Working units: the affine map between grid points and what networks compute with."""

import math

import torch
from torch import Tensor, nn

from lookalike.domain.domain import Domain


class WorkingUnits(nn.Module):
    """The affine map between grid points k and working units, `y = (k - location) / scale`, per variable.

    Args:
        domain: a domain of ordered variables.

    Attributes:
        levels: number of grid points per place.
        log_jacobian: log |dy/dk| summed over places: a log-density in y plus this is a log-density in grid points.
    """

    location: Tensor
    scale: Tensor

    def __init__(self, domain: Domain) -> None:
        super().__init__()
        self.levels = domain.levels
        variables = domain.ordered
        self.register_buffer("location", torch.tensor([v.location for v in variables]), persistent=False)
        self.register_buffer("scale", torch.tensor([v.scale for v in variables]), persistent=False)
        places = domain.dimensions // len(variables)
        self.log_jacobian = -places * sum(math.log(variable.scale) for variable in variables)

    def forward(self, x: Tensor) -> Tensor:
        """Return grid points (any integer type) in working units, at the centres of their intervals."""
        return (x.float() - self.location) / self.scale

    def interval(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two ends of the intervals that grid points own, in working units."""
        y, half = self(x), 0.5 / self.scale
        return y - half, y + half

    def dequantize(self, x: Tensor, u: Tensor) -> Tensor:
        """Return the places `u` in [0, 1] of the intervals of grid points, in working units."""
        return (x.float() + u - 0.5 - self.location) / self.scale

    def along(self, value: Tensor, ndim: int) -> Tensor:
        """Return one number per variable in a shape that broadcasts with `[N, components, *shape]` of `ndim` axes."""
        return value.view(1, 1, -1, *[1] * (ndim - 3))

    def to_grid(self, y: Tensor) -> Tensor:
        """Return the grid points nearest to working units, int64."""
        return (y * self.scale + self.location).round().clamp(0, self.levels - 1).long()
