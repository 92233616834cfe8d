"""A mixture of normal distributions with full covariances, by expectation and maximization."""

import math

import torch
from torch import Tensor, nn

from lookalike.core.domain import Domain
from lookalike.core.likelihood import WorkingUnits, log_mean_exp, row_noise
from lookalike.networks.clusters import clusters


class FullCovariance(nn.Module):
    """Normal distributions with full covariances, of vectors in working units."""

    log_weights: Tensor
    means: Tensor
    factors: Tensor

    LEAST_DEVIATION = 0.1
    """In grid steps, added to every dimension: what keeps a component of few points from falling into one."""

    def __init__(self, domain: Domain, *, components: int, rounds: int) -> None:
        super().__init__()
        self.domain, self.rounds = domain, rounds
        self.units = WorkingUnits(domain)
        dimensions = domain.dimensions
        self.register_buffer("log_weights", torch.full((components,), -math.log(components), dtype=torch.float64))
        self.register_buffer("means", torch.zeros(components, dimensions, dtype=torch.float64))
        self.register_buffer("factors", torch.eye(dimensions, dtype=torch.float64).repeat(components, 1, 1))

    def log_densities(self, y: Tensor) -> Tensor:
        """log π_k N(y; μ_k, Σ_k) `[N, K]` of points `[N, D]`."""
        centred = (y[None] - self.means[:, None]).transpose(1, 2)
        white = torch.linalg.solve_triangular(self.factors, centred, upper=False)
        half_log_determinant = self.factors.diagonal(dim1=1, dim2=2).log().sum(1)
        constant = 0.5 * y.shape[1] * math.log(2 * math.pi)
        log_peaks: Tensor = self.log_weights - half_log_determinant - constant
        densities: Tensor = log_peaks[None] - 0.5 * (white**2).sum(1).T
        return densities

    def fit(self, x: Tensor) -> None:
        """Expectation and maximization until the likelihood stands still."""
        y = self.units.dequantize(x, torch.rand(x.shape)).double()
        components = len(self.log_weights)
        shares = nn.functional.one_hot(clusters(y, components), components).double()
        least = (self.LEAST_DEVIATION / self.units.scale.double()).expand(self.domain.dimensions) ** 2
        before = -math.inf
        for _ in range(self.rounds):
            counts = shares.sum(0) + 1e-6
            self.log_weights.copy_(torch.log(counts / counts.sum()))
            self.means.copy_(shares.T @ y / counts[:, None])
            centred = y[None] - self.means[:, None]
            covariances = (shares.T[:, :, None] * centred).transpose(1, 2) @ centred / counts[:, None, None]
            self.factors.copy_(torch.linalg.cholesky(covariances + torch.diag(least)))
            log_densities = self.log_densities(y)
            shares = log_densities.softmax(dim=1)
            now = float(torch.logsumexp(log_densities, dim=1).mean())
            if now - before < 1e-7:
                break
            before = now

    def sample(self, n: int) -> Tensor:
        """Grid points `[n, D]`, int64."""
        chosen = torch.multinomial(self.log_weights.exp(), n, replacement=True)
        noise = torch.randn(n, self.domain.dimensions, 1, dtype=torch.float64)
        return self.units.to_grid(self.means[chosen] + (self.factors[chosen] @ noise).squeeze(2))

    def log_likelihood(self, x: Tensor, draws: int) -> Tensor:
        """log of the mean density over places in the grid interval `[N]`."""
        places = row_noise(x, (draws, *self.domain.shape), distribution="uniform", seed=0)
        # The same number of places in equal parts of the interval: less noise, the same expectation.
        places = (places + torch.arange(draws).view(1, -1, 1)) / draws if self.domain.dimensions == 1 else places
        log_densities = [
            torch.logsumexp(self.log_densities(self.units.dequantize(x, u).double()), dim=1)
            for u in places.unbind(dim=1)
        ]
        return log_mean_exp(torch.stack(log_densities, dim=1), dim=1) + self.units.log_jacobian
