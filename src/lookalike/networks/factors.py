"""A mixture of factor analysers of pixels on a grid, by stochastic expectation and maximization."""

import math

import torch
from torch import Tensor, nn

from lookalike.core.domain import Domain
from lookalike.core.likelihood import log_mean_exp, row_noise
from lookalike.core.progress import progress
from lookalike.networks.clusters import clusters
from lookalike.networks.marginals import Marginals
from lookalike.networks.truncated import between, log_mass, middle


class FactorAnalysers(nn.Module):
    """Normal distributions of low rank, of pixels whose own distribution was made standard normal."""

    log_weights: Tensor
    means: Tensor
    loadings: Tensor
    variances: Tensor

    LEAST_VARIANCE = 1e-2
    """Of a pixel given the factors, where one is its variance without them."""
    BATCH = 2000
    LIKELY = 0.999
    """How much of an image's probability the components have whose contributions are added up, by a first guess."""
    WIDER = 1.5
    """Than the factors' distribution given the middle of what is known of the places: not knowing them adds to it."""

    def __init__(self, domain: Domain, *, components: int, factors: int, rounds: int) -> None:
        super().__init__()
        self.domain, self.rounds = domain, rounds
        self.marginals = Marginals(domain)
        dimensions = domain.dimensions
        self.register_buffer("log_weights", torch.full((components,), -math.log(components)))
        self.register_buffer("means", torch.zeros(components, dimensions))
        self.register_buffer("loadings", torch.zeros(components, dimensions, factors))
        self.register_buffer("variances", torch.ones(components, dimensions))

    def interval(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Ends `[N, D]` of the intervals of grid points, where every pixel is standard normal."""
        low, high = self.marginals.interval(x)
        return torch.special.ndtri(low).float(), torch.special.ndtri(high).float()

    def posterior(self, y: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Of the factors of points `[N, D]` under component k: means `[N, Q]`, and the Cholesky factor of their
        precision `[Q, Q]`, which is the same for all."""
        scaled = self.loadings[k] / self.variances[k][:, None]
        precision = torch.eye(scaled.shape[1]) + self.loadings[k].T @ scaled
        factor = torch.linalg.cholesky(precision)
        projected = (y - self.means[k]) @ scaled
        return torch.cholesky_solve(projected.T, factor).T, factor

    def log_densities(self, y: Tensor) -> Tensor:
        """log π_k N(y; μ_k, Λ_k Λ_kᵀ + Ψ_k) `[N, K]` of points `[N, D]`, by Woodbury's identity."""
        columns = []
        for k in range(len(self.log_weights)):
            means, factor = self.posterior(y, k)
            centred = y - self.means[k]
            distance = (centred**2 / self.variances[k]).sum(1) - ((means @ factor) ** 2).sum(1)
            log_determinant = self.variances[k].log().sum() + 2 * factor.diagonal().log().sum()
            columns.append(
                self.log_weights[k] - 0.5 * (distance + log_determinant + y.shape[1] * math.log(2 * math.pi))
            )
        return torch.stack(columns, dim=1)

    def fit(self, x: Tensor) -> None:
        """Rounds of: components and factors given places, places given those, parameters given all."""
        self.marginals.fit(x)
        components, _, factors = self.loadings.shape
        low, high, y = (torch.empty(len(x), self.domain.dimensions) for _ in range(3))
        nothing, one = torch.zeros(()), torch.ones(())
        for rows in torch.arange(len(x)).split(self.BATCH):
            low[rows], high[rows] = self.interval(x[rows])
            y[rows] = between(low[rows], high[rows], nothing, one)
        chosen = clusters(y, components)
        self.loadings.copy_(0.3 * torch.randn(self.loadings.shape))
        self.means.copy_(
            torch.stack([y[chosen == k].mean(0) if (chosen == k).any() else y[0] for k in range(components)])
        )
        with progress(range(self.rounds), "fitting", unit="round") as bar:
            for _ in bar:
                crossed = torch.zeros(components, self.domain.dimensions, factors + 1)
                squared = torch.zeros(components, factors + 1, factors + 1)
                energy, counts = torch.zeros(components, self.domain.dimensions), torch.zeros(components)
                for rows in torch.arange(len(x)).split(self.BATCH):
                    chosen = torch.distributions.Categorical(logits=self.log_densities(y[rows])).sample()
                    for k in chosen.unique().tolist():
                        mine = rows[chosen == k]
                        centre, factor = self.posterior(y[mine], k)
                        noise = torch.linalg.solve_triangular(factor.T, torch.randn(factors, len(mine)), upper=True).T
                        places = self.means[k] + (centre + noise) @ self.loadings[k].T
                        y[mine] = between(low[mine], high[mine], places, self.variances[k].sqrt())
                        centre, factor = self.posterior(y[mine], k)
                        extended = torch.cat([centre, torch.ones(len(mine), 1)], dim=1)
                        second = extended.T @ extended
                        second[:-1, :-1] += len(mine) * torch.cholesky_inverse(factor)
                        crossed[k] += y[mine].T @ extended
                        squared[k] += second
                        energy[k] += (y[mine] ** 2).sum(0)
                        counts[k] += len(mine)
                self.maximize(crossed, squared, energy, counts)

    def maximize(self, crossed: Tensor, squared: Tensor, energy: Tensor, counts: Tensor) -> None:
        """Parameters from the moments of places and factors; a little of the prior keeps small components sane."""
        prior = 5.0
        squared = squared + prior * torch.eye(squared.shape[1])
        extended = torch.linalg.solve(squared, crossed.transpose(1, 2)).transpose(1, 2)
        variances = (energy - (extended * crossed).sum(2) + prior) / (counts[:, None] + prior)
        self.loadings.copy_(extended[:, :, :-1])
        self.means.copy_(extended[:, :, -1])
        self.variances.copy_(variances.clamp(min=self.LEAST_VARIANCE))
        self.log_weights.copy_(torch.log((counts + 1) / (counts + 1).sum()))

    def sample(self, n: int) -> Tensor:
        """Grid points `[n, *shape]`, int64."""
        chosen = torch.multinomial(self.log_weights.exp(), n, replacement=True)
        z = torch.randn(n, self.loadings.shape[2], 1)
        noise = torch.randn(n, self.domain.dimensions)
        y = self.means[chosen] + (self.loadings[chosen] @ z).squeeze(2) + self.variances[chosen].sqrt() * noise
        return self.marginals.to_grid(torch.special.ndtr(y.double()))

    def log_likelihood(self, x: Tensor, draws: int) -> Tensor:
        """The bound `[N]`: a sum over likely components k of π_k E_q [N(z; 0, I) P(x | k, z) / q(z | x, k)].

        The other components' shares of the probability are left out, which makes it smaller.
        """
        low, high = self.interval(x)
        nothing, one = torch.zeros(()), torch.ones(())
        start = middle(low, high, nothing, one)
        shares, order = self.log_densities(start).softmax(dim=1).sort(dim=1, descending=True)
        likely = shares.cumsum(dim=1) - shares < self.LIKELY
        order = order[:, : int(likely.any(0).sum())]
        precisions = torch.eye(self.loadings.shape[2]) + self.loadings.transpose(1, 2) @ (
            self.loadings / self.variances[:, :, None]
        )
        factors = torch.linalg.cholesky(precisions)
        noise = row_noise(x, (draws, self.loadings.shape[2]), distribution="normal", seed=0)
        terms = []
        for j, k in enumerate(order.unbind(dim=1)):
            means, loadings, deviations = self.means[k], self.loadings[k], self.variances[k].sqrt()
            scaled = (loadings / self.variances[k][:, :, None]).transpose(1, 2)
            y = start
            for _ in range(3):
                projected = scaled @ (y - means)[:, :, None]
                centre = torch.cholesky_solve(projected, factors[k])
                y = middle(low, high, means + (loadings @ centre).squeeze(2), deviations)
            half_log_determinant = factors[k].diagonal(dim1=1, dim2=2).log().sum(1)
            log_weights = []
            for eps in noise.unbind(dim=1):
                wide = self.WIDER * torch.linalg.solve_triangular(
                    factors[k].transpose(1, 2), eps[:, :, None], upper=True
                )
                z = centre + wide
                inside = log_mass(low, high, means + (loadings @ z).squeeze(2), deviations).sum(1)
                log_ratio = 0.5 * (eps**2).sum(1) - 0.5 * (z**2).sum((1, 2)) - half_log_determinant
                log_weights.append(inside + (log_ratio + eps.shape[1] * math.log(self.WIDER)).double())
            term = self.log_weights[k].double() + log_mean_exp(torch.stack(log_weights, dim=1), dim=1)
            terms.append(term.masked_fill(~likely[:, j], -torch.inf))
        return torch.logsumexp(torch.stack(terms, dim=1), dim=1)
