"""Mixtures of logistic distributions, discretized to the grid."""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Units(Protocol):
    """Working units of grid points: `WorkingUnits` or `Intervals`."""

    levels: int

    def interval(self, x: Tensor) -> tuple[Tensor, Tensor]: ...

    def to_grid(self, y: Tensor) -> Tensor: ...


class LogisticMixture:
    """A mixture of logistics per place, discretized to the grid; what lies beyond an end belongs to the end.

    Salimans et al., PixelCNN++, 2017, arXiv:1701.05517, section 2.1. The mass between a < b is computed as
    σ(b) σ(-a) (1 - exp(a - b)), which loses no digits in either tail.

    Args:
        parameters: logits, means and log scales in working units, `[N, 3 * components, *shape]`.
        units: working units of the grid points.
    """

    MIN_LOG_SCALE = -7.0
    MAX_LOG_SCALE = 60.0
    """Flat on any grid; beyond it the inverse of a scale underflows and its gradient becomes NaN."""

    def __init__(self, parameters: Tensor, units: Units) -> None:
        self.units = units
        logits, self.means, log_scales = parameters.chunk(3, dim=1)
        self.log_weights = logits.log_softmax(dim=1)
        self.log_scales = log_scales.clamp(min=self.MIN_LOG_SCALE, max=self.MAX_LOG_SCALE)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-probability in nats of every grid point of `[N, *shape]`."""
        low, high = (end[:, None] for end in self.units.interval(x))
        inverse = torch.exp(-self.log_scales)
        upper = (high - self.means) * inverse
        lower = (low - self.means) * inverse
        x = x[:, None]
        below = functional.logsigmoid(upper).masked_fill(x == self.units.levels - 1, 0.0)
        above = functional.logsigmoid(-lower).masked_fill(x == 0, 0.0)
        inside = torch.log(-torch.expm1((low - high) * inverse))
        inside = inside.masked_fill((x == 0) | (x == self.units.levels - 1), 0.0)
        return torch.logsumexp(self.log_weights + below + above + inside, dim=1)

    def sample(self) -> Tensor:
        """Draw grid points `[N, *shape]`, int64."""
        gumbel = -torch.log(-torch.log(torch.rand_like(self.log_weights).clamp(1e-20, 1 - 1e-7)))
        component = (self.log_weights + gumbel).argmax(dim=1, keepdim=True)
        mean = self.means.gather(1, component).squeeze(1)
        scale = self.log_scales.gather(1, component).squeeze(1).exp()
        u = torch.rand_like(mean).clamp(1e-7, 1 - 1e-7)
        return self.units.to_grid(mean + scale * (torch.log(u) - torch.log1p(-u)))
