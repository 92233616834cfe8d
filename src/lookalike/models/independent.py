"""Every dimension on its own: a histogram each, smoothed. The floor that a model of dependence must beat.

p(x) = Π_d p_d(x_d), where p_d is the histogram of the training data convolved with a normal kernel on the grid, mixed
with a little of the uniform distribution. Each dimension takes the kernel width with the best leave-one-out
likelihood of the training data, which is a sum over the histogram's bins: no search, no held-out data.
"""

from typing import Annotated, ClassVar

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from lookalike.core.domain import Domain
from lookalike.core.likelihood import Kind
from lookalike.core.ranges import Fraction, NonNegativeFloat
from lookalike.networks.histogram import smoothed

Bandwidths = Annotated[list[NonNegativeFloat], MinLen(1)]


class Independent(nn.Module):
    """A smoothed histogram a dimension.

    Args:
        domain: what one observation is.
        image, vector: kernel widths to choose from, in grid points; 0 keeps the histogram as it is.
        uniform: weight of the uniform distribution in the mixture, so that no value has probability zero.
    """

    likelihood_kind: ClassVar[Kind | None] = "exact"
    log_probs: Tensor

    def __init__(self, *, domain: Domain, image: Bandwidths, vector: Bandwidths, uniform: Fraction) -> None:
        super().__init__()
        self.domain, self.uniform = domain, uniform
        self.bandwidths = image if domain.kind == "image" else vector
        self.register_buffer("log_probs", torch.zeros(domain.dimensions, domain.levels))

    def fit(self, x: Tensor) -> None:
        """Count, smooth and choose; `x` is the training set `[N, *shape]`."""
        probs = smoothed(x, levels=self.domain.levels, bandwidths=self.bandwidths, uniform=self.uniform)
        self.log_probs.copy_(torch.log(probs))

    def sample(self, n: int) -> Tensor:
        """Independent draws `[n, *shape]`, int64."""
        draws = torch.multinomial(self.log_probs.double().exp(), n, replacement=True)
        return draws.T.reshape(n, *self.domain.shape)

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Exact log-probability in nats `[N]` of grid points `[N, *shape]`."""
        columns = x.flatten(1).long().T
        return self.log_probs.double().gather(1, columns).sum(dim=0)
