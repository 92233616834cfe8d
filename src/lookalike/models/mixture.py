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

from typing import ClassVar

from torch import Tensor, nn
from typing_extensions import TypedDict

from lookalike.core.domain import Domain
from lookalike.core.likelihood import Kind
from lookalike.core.ranges import PositiveInt, settings
from lookalike.networks.factors import FactorAnalysers
from lookalike.networks.gaussians import FullCovariance


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
