"""Every place on its own: a histogram each, smoothed. The floor that a model of dependence must beat.

p(x) = Π_d p_d(x_d), where p_d is the histogram of the training data convolved with a normal kernel on the grid, mixed
with a little of the uniform distribution. Every place takes the kernel width with the best leave-one-out likelihood of
the training data, which is a sum over the histogram's bins, so it needs neither a search nor held-out data.
"""

from typing import Annotated, ClassVar

import torch
from annotated_types import MinLen
from torch import Tensor

from lookalike.distributions.counts import place_counts
from lookalike.distributions.histogram import smoothed
from lookalike.domain.domain import Domain
from lookalike.domain.grid import LikelihoodKind
from lookalike.families.contract import Family
from lookalike.workspace.ranges import Fraction, NonNegativeFloat

Bandwidths = Annotated[list[NonNegativeFloat], MinLen(1)]


class Independent(Family):
    """A smoothed histogram per place.

    Args:
        domain: what one observation is.
        bandwidths: kernel widths to choose from, in grid points; 0 keeps the histogram as it is.
        uniform: weight of the uniform distribution in the mixture, so that no value has probability zero.
    """

    likelihood_kind: ClassVar[LikelihoodKind | None] = "exact"
    is_floor: ClassVar[bool] = True
    is_fitted: ClassVar[bool] = True
    log_probs: Tensor

    def __init__(self, *, domain: Domain, bandwidths: Bandwidths, uniform: Fraction) -> None:
        super().__init__(domain=domain)
        domain.ordered  # noqa: B018 - neighbouring grid points are alike in ordered variables only
        self.bandwidths, self.uniform = bandwidths, uniform
        self.register_buffer("log_probs", torch.zeros(domain.dimensions, domain.levels))

    def fit(self, x: Tensor) -> None:
        """Count, smooth and choose the kernel widths; `x` is the training set `[N, *shape]`."""
        counts = place_counts(x, levels=self.domain.levels)
        self.log_probs.copy_(torch.log(smoothed(counts, bandwidths=self.bandwidths, uniform=self.uniform)))

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        """Draw grid points `[n, *shape]`, int64."""
        draws = torch.multinomial(self.log_probs.double().exp(), n, replacement=True)
        return draws.T.reshape(n, *self.domain.shape)

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Return the exact log-probability in nats `[N]` of grid points `[N, *shape]`."""
        columns = x.flatten(1).long().T
        return self.log_probs.double().gather(1, columns).sum(dim=0)
