"""Normalizing flow: an invertible map from data to noise, whose Jacobian says how likely data are.

    log p(y) = log p_noise(f(y)) + log |det ∂f/∂y|

Tables: a neural spline flow (Durkan et al., 2019, arXiv:1906.04032) in working units.

Images: a coupling flow over several scales (Dinh et al., Density estimation using Real NVP, 2017, arXiv:1605.08803).
Every pixel is first made uniform by its own distribution function. Then, from the coarsest lattice of pixels to the
finest, splines transform each new lattice; a convolutional network reads their shapes off the lattices before it (the
order of Reed et al., Parallel multiscale autoregressive density estimation, 2017, arXiv:1703.03664). A coupling leaves
what it reads as it is, so the Jacobian is triangular, and a sample takes three passes per scale.

Data on a grid become continuous by uniform noise in their intervals. The average density over the noise is the
probability of the grid point; the logarithm of an average over several places is a lower bound on its logarithm, which
tightens with their number (Theis et al., 2016, arXiv:1511.01844).
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from lookalike.domain.domain import Domain
from lookalike.domain.grid import LikelihoodKind, log_mean_exp, row_noise
from lookalike.families.contract import Family
from lookalike.networks import roles
from lookalike.workspace.ranges import PositiveInt


class Flow(Family):
    """
    Args:
        domain: what one observation is.
        sizes: bins of the splines and sizes of the networks that shape them.
    """

    needs: ClassVar[tuple[roles.Role, ...]] = (roles.flow,)
    likelihood_kind: ClassVar[LikelihoodKind | None] = "lower bound"

    def __init__(self, *, domain: Domain, sizes: dict[str, Any]) -> None:
        super().__init__(domain=domain)
        self.density = roles.flow(domain, sizes)

    def start(self, x: Tensor, labels: Tensor | None = None) -> None:
        """Learn every place's own distribution from the training set `[N, *shape]`."""
        self.density.start(x)

    def losses(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return the negative log-density at a random place of the interval, in nats per dimension of the grid."""
        log_prob = self.density.log_prob(x, torch.rand(x.shape, device=x.device))
        return {"loss": -log_prob.mean() / self.domain.dimensions}

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        """Draw grid points `[n, *shape]`, int64: noise through the inverse map."""
        drawn: Tensor = self.density.sample(n)
        return drawn

    def log_likelihood(self, x: Tensor, *, dequantizations: PositiveInt) -> Tensor:
        """Return the importance-weighted lower bound in nats `[N]`, with as many places in the grid interval."""
        places = row_noise(x, (dequantizations, *self.domain.shape), distribution="uniform", seed=0)
        log_probs = [self.density.log_prob(x, u).double() for u in places.unbind(dim=1)]
        return log_mean_exp(torch.stack(log_probs, dim=1), dim=1)
