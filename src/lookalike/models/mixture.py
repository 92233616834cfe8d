"""A mixture of normal distributions, fitted by expectation and maximization.

    p(y) = Σ_k π_k N(y; μ_k, Σ_k)

Vectors: Σ_k is a full covariance, y a vector in working units with uniform noise as wide as the grid's intervals; the
likelihood averages the density over such noise (Dempster et al., Maximum likelihood from incomplete data, 1977).

Images: Σ_k = Λ_k Λ_kᵀ + Ψ_k, a mixture of factor analysers (Ghahramani & Hinton, The EM algorithm for mixtures of
factor analyzers, 1996): given a component and a few factors z, pixels are independent. Most pixels are paper, which no
normal distribution describes; so y is what a pixel becomes when its own distribution is made a standard normal one, and
a grid point is an interval of it. With one component and no factors that is the family `independent`. Which place in
its interval y has is not seen and is drawn given all else in every round (Celeux & Diebolt's stochastic EM, 1985;
Albert & Chib, Bayesian analysis of binary and polychotomous response data, 1993). The likelihood is a lower bound: an
average over draws of (k, z), of the probability of the intervals given them, each weighted by importance.
"""

import math
from typing import ClassVar

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor, nn
from typing_extensions import TypedDict

from lookalike.domain import Domain
from lookalike.likelihood import Kind, WorkingUnits, log_mean_exp, row_noise
from lookalike.networks.marginals import Marginals
from lookalike.progress import progress
from lookalike.ranges import PositiveInt, settings


@settings
class ImageSize(TypedDict):
    components: PositiveInt
    factors: PositiveInt
    rounds: PositiveInt


@settings
class VectorSize(TypedDict):
    components: PositiveInt
    rounds: PositiveInt


class Mixture(nn.Module):
    """
    Args:
        domain: what one observation is.
        image: `components`, `factors` of each, and `rounds` of fitting.
        vector: `components`, and `rounds` of fitting at most.
    """

    likelihood_kind: ClassVar[Kind | None] = "lower bound"

    def __init__(self, *, domain: Domain, image: ImageSize, vector: VectorSize) -> None:
        super().__init__()
        self.domain = domain
        self.density: FullCovariance | FactorAnalysers
        if domain.kind == "image":
            self.density = FactorAnalysers(
                domain, components=image["components"], factors=image["factors"], rounds=image["rounds"]
            )
        else:
            self.density = FullCovariance(domain, components=vector["components"], rounds=vector["rounds"])

    def fit(self, x: Tensor) -> None:
        """Fit to the training set `[N, *shape]`."""
        self.density.fit(x)

    def sample(self, n: int) -> Tensor:
        """Grid points `[n, *shape]`, int64."""
        return self.density.sample(n)

    def log_likelihood(self, x: Tensor, *, importance_samples: PositiveInt) -> Tensor:
        """The importance-weighted lower bound in nats `[N]`.

        Args:
            x: grid points `[N, *shape]`.
            importance_samples: places in the grid interval (vectors) or draws of the factors of each likely component
                (images).
        """
        return self.density.log_likelihood(x, importance_samples)


def clusters(y: Tensor, count: int) -> Tensor:
    """A first guess at which of `count` components each row of `[N, D]` is of, by k-means."""
    seed = int(torch.randint(2**31, ()))
    few = min(count, len(y))
    _, labels = kmeans2(y.numpy(), few, iter=10, minit="++", missing="warn", rng=np.random.default_rng(seed))
    return torch.from_numpy(labels).long()


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
        low, high = (torch.empty(len(x), self.domain.dimensions) for _ in range(2))
        for rows in torch.arange(len(x)).split(self.BATCH):
            low[rows], high[rows] = self.interval(x[rows])
        y = between(low, high, torch.zeros(()), torch.ones(()))
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


def facing_left(low: Tensor, high: Tensor, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Intervals in standard units, float64, mirrored where they lie right of the centre; and where that is.

    Left of the centre the distribution function keeps all its digits.
    """
    a, b = ((end.double() - mean) / deviation for end in (low, high))
    mirrored = a > 0
    return torch.where(mirrored, -b, a), torch.where(mirrored, -a, b), mirrored


def log_mass(low: Tensor, high: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """log of the mass `[N, D]`, float64, that normal distributions have in intervals."""
    a, b, _ = facing_left(low, high, mean, deviation)
    upper: Tensor = torch.special.log_ndtr(b)
    return upper + torch.log1p(-torch.exp(torch.special.log_ndtr(a) - upper))


def between(low: Tensor, high: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Draws `[N, D]` from normal distributions cut to intervals."""
    a, b, mirrored = facing_left(low, high, mean, deviation)
    u = torch.rand_like(a)
    below, above = (torch.exp(torch.special.log_ndtr(end)) for end in (a, b))
    place = torch.special.ndtri(below + u * (above - below))
    # Where the mass has no floating-point number, that of an exponential tail.
    beyond = torch.exp(0.5 * (b**2 - a**2))
    tail = -torch.sqrt(b**2 - 2 * torch.log(beyond + (1 - u) * (1 - beyond)))
    place = torch.where(b < -30, tail, place)
    place = torch.minimum(torch.maximum(place, a.clamp(min=-1e4)), b.clamp(max=1e4))
    return (mean + deviation * torch.where(mirrored, -place, place)).float()


def middle(low: Tensor, high: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Means `[N, D]` of normal distributions cut to intervals."""
    a, b, mirrored = facing_left(low, high, mean, deviation)
    upper = torch.special.log_ndtr(b)
    log_inside = upper + torch.log1p(-torch.exp(torch.special.log_ndtr(a) - upper))
    constant = 0.5 * math.log(2 * math.pi)
    place = torch.exp(-0.5 * a**2 - constant - log_inside) - torch.exp(-0.5 * b**2 - constant - log_inside)
    place = torch.minimum(torch.maximum(place, a.clamp(min=-1e4)), b.clamp(max=1e4))
    return (mean + deviation * torch.where(mirrored, -place, place)).float()
