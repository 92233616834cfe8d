"""A mixture of factor analysers of places on a grid, fitted by stochastic expectation and maximization."""

import math

import torch
from torch import Tensor, nn

from lookalike.distributions.clusters import clusters
from lookalike.distributions.marginals import Marginals
from lookalike.distributions.truncated import between, log_mass, middle
from lookalike.domain.domain import Domain
from lookalike.domain.grid import log_mean_exp, row_noise
from lookalike.workspace.progress import progress


class FactorAnalysers(nn.Module):
    """Normal distributions of low rank, of places whose own distribution was made standard normal.

    Args:
        domain: what one observation is.
        components: number of factor analysers.
        factors: factors of each.
        rounds: rounds of fitting.
    """

    log_weights: Tensor
    means: Tensor
    loadings: Tensor
    variances: Tensor

    MIN_VARIANCE = 1e-2
    """Smallest variance of a place given the factors; its variance without them is 1."""
    BATCH = 2000
    LIKELY = 0.999
    """Share of an observation's probability, by a first guess, that the components in the likelihood's sum cover."""
    WIDENING = 1.5
    """How much wider than the factors' posterior given the middle of each interval the proposal is: it has to cover
    the uncertainty about the place in the interval too."""
    PRIOR = 5.0
    """Weight of the prior of a component's parameters, in observations; it keeps small components regular."""

    def __init__(self, domain: Domain, *, components: int, factors: int, rounds: int) -> None:
        super().__init__()
        self.domain, self.rounds = domain, rounds
        self.marginals = Marginals(domain)
        places = domain.dimensions
        self.register_buffer("log_weights", torch.full((components,), -math.log(components)))
        self.register_buffer("means", torch.zeros(components, places))
        self.register_buffer("loadings", torch.zeros(components, places, factors))
        self.register_buffer("variances", torch.ones(components, places))

    def interval(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ends `[N, D]` of the intervals of grid points, on a scale where every place is standard normal."""
        low, high = self.marginals.interval(x)
        return torch.special.ndtri(low).float(), torch.special.ndtri(high).float()

    def posterior(self, y: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the posterior of component k's factors given points `[N, D]`.

        Returns:
            Means `[N, Q]`, and the Cholesky factor of the precision `[Q, Q]`, which is the same for all points.
        """
        scaled = self.loadings[k] / self.variances[k][:, None]
        precision = torch.eye(scaled.shape[1], device=y.device) + self.loadings[k].T @ scaled
        factor = torch.linalg.cholesky(precision)
        projected = (y - self.means[k]) @ scaled
        return torch.cholesky_solve(projected.T, factor).T, factor

    def log_densities(self, y: Tensor) -> Tensor:
        """Return log π_k N(y; μ_k, Λ_k Λ_kᵀ + Ψ_k) `[N, K]` of points `[N, D]`, by Woodbury's identity."""
        columns = []
        for k in range(len(self.log_weights)):
            means, factor = self.posterior(y, k)
            centred = y - self.means[k]
            distance = (centred**2 / self.variances[k]).sum(1) - ((means @ factor) ** 2).sum(1)
            log_determinant = self.variances[k].log().sum() + 2 * factor.diagonal().log().sum()
            constant = y.shape[1] * math.log(2 * math.pi)
            columns.append(self.log_weights[k] - 0.5 * (distance + log_determinant + constant))
        return torch.stack(columns, dim=1)

    def fit(self, x: Tensor) -> None:
        """Fit to grid points `[N, *shape]`.

        A round draws components and factors given points of the intervals, then the points given those, and then
        maximizes the parameters.
        """
        self.marginals.fit(x)
        components = len(self.log_weights)
        low, high, y = (torch.empty(len(x), self.domain.dimensions, device=x.device) for _ in range(3))
        nothing, one = torch.zeros((), device=x.device), torch.ones((), device=x.device)
        for rows in torch.arange(len(x), device=x.device).split(self.BATCH):
            low[rows], high[rows] = self.interval(x[rows])
            y[rows] = between(low[rows], high[rows], nothing, one)
        labels = clusters(y, components)
        self.loadings.copy_(0.3 * torch.randn(self.loadings.shape, device=x.device))
        centres = [y[labels == k].mean(0) if (labels == k).any() else y[0] for k in range(components)]
        self.means.copy_(torch.stack(centres))
        with progress(range(self.rounds), "fitting", unit="round") as bar:
            for _ in bar:
                self.round(low, high, y)

    def round(self, low: Tensor, high: Tensor, y: Tensor) -> None:
        """Run one round of fitting on intervals and points `[N, D]`; the points are drawn anew in place."""
        components, places, factors = self.loadings.shape
        crossed = y.new_zeros(components, places, factors + 1)
        squared = y.new_zeros(components, factors + 1, factors + 1)
        energy, counts = y.new_zeros(components, places), y.new_zeros(components)
        for rows in torch.arange(len(y), device=y.device).split(self.BATCH):
            drawn = torch.distributions.Categorical(logits=self.log_densities(y[rows])).sample()
            for k in drawn.unique().tolist():
                mine = rows[drawn == k]
                centre, factor = self.posterior(y[mine], k)
                normal = torch.randn(factors, len(mine), device=y.device)
                noise = torch.linalg.solve_triangular(factor.T, normal, upper=True).T
                predicted = self.means[k] + (centre + noise) @ self.loadings[k].T
                y[mine] = between(low[mine], high[mine], predicted, self.variances[k].sqrt())
                centre, factor = self.posterior(y[mine], k)
                extended = torch.cat([centre, centre.new_ones(len(mine), 1)], dim=1)
                second = extended.T @ extended
                second[:-1, :-1] += len(mine) * torch.cholesky_inverse(factor)
                crossed[k] += y[mine].T @ extended
                squared[k] += second
                energy[k] += (y[mine] ** 2).sum(0)
                counts[k] += len(mine)
        self.maximize(crossed, squared, energy, counts)

    def maximize(self, crossed: Tensor, squared: Tensor, energy: Tensor, counts: Tensor) -> None:
        """Set the parameters from the moments of points and factors."""
        squared = squared + self.PRIOR * torch.eye(squared.shape[1], device=squared.device)
        extended = torch.linalg.solve(squared, crossed.transpose(1, 2)).transpose(1, 2)
        variances = (energy - (extended * crossed).sum(2) + self.PRIOR) / (counts[:, None] + self.PRIOR)
        self.loadings.copy_(extended[:, :, :-1])
        self.means.copy_(extended[:, :, -1])
        self.variances.copy_(variances.clamp(min=self.MIN_VARIANCE))
        self.log_weights.copy_(torch.log((counts + 1) / (counts + 1).sum()))

    def sample(self, n: int) -> Tensor:
        """Draw grid points `[n, *shape]`, int64."""
        device = self.means.device
        component = torch.multinomial(self.log_weights.exp(), n, replacement=True)
        z = torch.randn(n, self.loadings.shape[2], 1, device=device)
        noise = torch.randn(n, self.domain.dimensions, device=device)
        y = self.means[component] + (self.loadings[component] @ z).squeeze(2)
        y = y + self.variances[component].sqrt() * noise
        return self.marginals.to_grid(torch.special.ndtr(y.double()))

    def log_likelihood(self, x: Tensor, draws: int) -> Tensor:
        """Return a lower bound in nats `[N]`: Σ_k π_k E_q [N(z; 0, I) P(x | k, z) / q(z | x, k)].

        The sum is over likely components k; leaving out the others makes it smaller. P is the probability of the
        interval of every place given the factors, q a proposal for the factors.

        Args:
            x: grid points `[N, *shape]`.
            draws: draws of the factors per component.
        """
        low, high = self.interval(x)
        start = middle(low, high, torch.zeros((), device=x.device), torch.ones((), device=x.device))
        shares, order = self.log_densities(start).softmax(dim=1).sort(dim=1, descending=True)
        likely = shares.cumsum(dim=1) - shares < self.LIKELY
        scaled = self.loadings / self.variances[:, :, None]
        precisions = torch.eye(self.loadings.shape[2], device=x.device) + self.loadings.transpose(1, 2) @ scaled
        cholesky = torch.linalg.cholesky(precisions)
        noise = row_noise(x, (draws, self.loadings.shape[2]), distribution="normal", seed=0)
        terms = []
        for j, k in enumerate(order[:, : int(likely.any(0).sum())].unbind(dim=1)):
            term = self.log_weights[k].double() + self.given_component(k, low, high, start, cholesky[k], noise)
            terms.append(term.masked_fill(~likely[:, j], -torch.inf))
        return torch.logsumexp(torch.stack(terms, dim=1), dim=1)

    def given_component(
        self, k: Tensor, low: Tensor, high: Tensor, start: Tensor, cholesky: Tensor, noise: Tensor
    ) -> Tensor:
        """Return log E_q [N(z; 0, I) P(x | k, z) / q(z | x, k)] `[N]` for one component `[N]` per observation."""
        means, loadings, stds = self.means[k], self.loadings[k], self.variances[k].sqrt()
        scaled = (loadings / self.variances[k][:, :, None]).transpose(1, 2)
        y = start
        for _ in range(3):
            centre = torch.cholesky_solve(scaled @ (y - means)[:, :, None], cholesky)
            y = middle(low, high, means + (loadings @ centre).squeeze(2), stds)
        half_log_determinant = cholesky.diagonal(dim1=1, dim2=2).log().sum(1)
        log_weights = []
        for eps in noise.unbind(dim=1):
            wide = torch.linalg.solve_triangular(cholesky.transpose(1, 2), eps[:, :, None], upper=True)
            z = centre + self.WIDENING * wide
            inside = log_mass(low, high, means + (loadings @ z).squeeze(2), stds).sum(1)
            log_ratio = 0.5 * (eps**2).sum(1) - 0.5 * (z**2).sum((1, 2)) - half_log_determinant
            log_weights.append(inside + (log_ratio + eps.shape[1] * math.log(self.WIDENING)).double())
        return log_mean_exp(torch.stack(log_weights, dim=1), dim=1)
