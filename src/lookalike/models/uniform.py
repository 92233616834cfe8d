"""Every grid point is as likely as any other: the zero of the scale.

p(x) = levels⁻ᴰ, which is log₂ levels bits a dimension on any data.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from lookalike.core.domain import Domain
from lookalike.core.likelihood import Kind


class Uniform(nn.Module):
    """
    Args:
        domain: what one observation is.
    """

    likelihood_kind: ClassVar[Kind | None] = "exact"
    log_probs: Tensor

    def __init__(self, *, domain: Domain) -> None:
        super().__init__()
        self.domain = domain
        log_prob = torch.full(domain.shape, -math.log(domain.levels), dtype=torch.float64)
        self.register_buffer("log_probs", log_prob)

    def fit(self, x: Tensor) -> None:
        """Nothing is learned from the training set."""

    def sample(self, n: int) -> Tensor:
        """Grid points `[n, *shape]`, int64."""
        return torch.randint(self.domain.levels, (n, *self.domain.shape))

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Exact log-probability in nats `[N]` of grid points `[N, *shape]`."""
        return self.log_probs.sum().expand(len(x))
