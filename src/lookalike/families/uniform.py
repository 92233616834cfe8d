"""Every grid point is as likely as any other: the zero of the scale.

p(x) = levels⁻ᴰ, which is log₂ levels bits per dimension on any data.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor

from lookalike.domain.domain import Domain
from lookalike.domain.grid import LikelihoodKind
from lookalike.families.contract import Family


class Uniform(Family):
    """The uniform distribution on the grid.

    Args:
        domain: what one observation is.
    """

    likelihood_kind: ClassVar[LikelihoodKind | None] = "exact"
    is_floor: ClassVar[bool] = True
    is_fitted: ClassVar[bool] = True
    log_probs: Tensor

    def __init__(self, *, domain: Domain) -> None:
        super().__init__(domain=domain)
        log_prob = torch.full(domain.shape, -math.log(domain.levels), dtype=torch.float64)
        self.register_buffer("log_probs", log_prob)

    def fit(self, x: Tensor) -> None:
        """Do nothing: nothing is learned from the training set."""

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        """Draw grid points `[n, *shape]`, int64."""
        return torch.randint(self.domain.levels, (n, *self.domain.shape), device=self.log_probs.device)

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Return the exact log-probability in nats `[N]` of grid points `[N, *shape]`."""
        return self.log_probs.sum().expand(len(x))
