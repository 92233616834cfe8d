"""A mixture of normal distributions with full covariances, fitted by scikit-learn."""

import math
import warnings

import torch
from torch import Tensor, nn

from lookalike.domain.domain import Domain
from lookalike.domain.grid import log_mean_exp, row_noise
from lookalike.domain.units import WorkingUnits


class FullCovariance(nn.Module):
    """Normal distributions with full covariances, of rows in working units.

    Args:
        domain: what one observation is.
        components: number of normal distributions.
        rounds: largest number of rounds of expectation and maximization.
    """

    log_weights: Tensor
    means: Tensor
    factors: Tensor

    MIN_STD = 0.1
    """In grid steps, added to every column: it keeps a component of few points from collapsing onto one of them."""

    def __init__(self, domain: Domain, *, components: int, rounds: int) -> None:
        super().__init__()
        self.domain, self.rounds = domain, rounds
        self.units = WorkingUnits(domain)
        columns = domain.dimensions
        self.register_buffer("log_weights", torch.full((components,), -math.log(components), dtype=torch.float64))
        self.register_buffer("means", torch.zeros(components, columns, dtype=torch.float64))
        self.register_buffer("factors", torch.eye(columns, dtype=torch.float64).repeat(components, 1, 1))

    def log_densities(self, y: Tensor) -> Tensor:
        """Return log π_k N(y; μ_k, Σ_k) `[N, K]` of points `[N, D]`."""
        centred = (y[None] - self.means[:, None]).transpose(1, 2)
        white = torch.linalg.solve_triangular(self.factors, centred, upper=False)
        half_log_determinant = self.factors.diagonal(dim1=1, dim2=2).log().sum(1)
        constant = 0.5 * y.shape[1] * math.log(2 * math.pi)
        log_peaks: Tensor = self.log_weights - half_log_determinant - constant
        densities: Tensor = log_peaks[None] - 0.5 * (white**2).sum(1).T
        return densities

    def fit(self, x: Tensor) -> None:
        """Fit to grid points `[N, D]`, at random places of their intervals."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        y = self.units.dequantize(x, torch.rand(x.shape, device=x.device)).double()
        mixture = GaussianMixture(
            n_components=len(self.log_weights),
            tol=1e-7,
            reg_covar=float((self.MIN_STD / self.units.scale.max()) ** 2),
            max_iter=self.rounds,
            random_state=int(torch.randint(2**31, ())),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # `rounds` is a limit that may be reached
            mixture.fit(y.cpu().numpy())
        self.log_weights.copy_(torch.from_numpy(mixture.weights_).log())
        self.means.copy_(torch.from_numpy(mixture.means_))
        self.factors.copy_(torch.linalg.cholesky(torch.from_numpy(mixture.covariances_)))

    def sample(self, n: int) -> Tensor:
        """Draw grid points `[n, D]`, int64."""
        component = torch.multinomial(self.log_weights.exp(), n, replacement=True)
        noise = torch.randn(n, self.domain.dimensions, 1, dtype=torch.float64, device=self.means.device)
        return self.units.to_grid(self.means[component] + (self.factors[component] @ noise).squeeze(2))

    def log_likelihood(self, x: Tensor, draws: int) -> Tensor:
        """Return log of the mean density over `draws` points of each grid point's interval, in nats `[N]`."""
        places = row_noise(x, (draws, *self.domain.shape), distribution="uniform", seed=0)
        if self.domain.dimensions == 1:  # one point in each of as many equal parts: the same expectation, less noise
            places = (places + torch.arange(draws, device=x.device).view(1, -1, 1)) / draws
        log_densities = [
            torch.logsumexp(self.log_densities(self.units.dequantize(x, u).double()), dim=1)
            for u in places.unbind(dim=1)
        ]
        return log_mean_exp(torch.stack(log_densities, dim=1), dim=1) + self.units.log_jacobian
