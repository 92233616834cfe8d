"""A mixture of normal distributions, fitted by expectation and maximization.

    p(y) = Σ_k π_k N(y; μ_k, Σ_k)

Tables: Σ_k is a full covariance, y a row in working units with uniform noise as wide as the grid's intervals; the
likelihood averages the density over such noise (Dempster et al., Maximum likelihood from incomplete data, 1977).

Images: Σ_k = Λ_k Λ_kᵀ + Ψ_k, a mixture of factor analysers (Ghahramani & Hinton, The EM algorithm for mixtures of
factor analyzers, 1996): given a component and a few factors z, pixels are independent. The distribution of a pixel is
far from normal, so y is the pixel after its own distribution was made a standard normal one, and a grid point is an
interval of y. With one component and no factors this is the family `independent`. The place of y in its interval is not
observed and is drawn given everything else in every round (Celeux & Diebolt's stochastic EM, 1985; Albert & Chib,
Bayesian analysis of binary and polychotomous response data, 1993). The likelihood is a lower bound: an average, over
draws of (k, z), of the probability of the intervals given them, weighted by importance.
"""

from typing import Any, ClassVar

from torch import Tensor

from lookalike.domain.domain import Domain
from lookalike.domain.grid import LikelihoodKind
from lookalike.families.contract import Family
from lookalike.networks import roles
from lookalike.workspace.ranges import PositiveInt


class Mixture(Family):
    """
    Args:
        domain: what one observation is.
        sizes: components, and factors of each for images; rounds of fitting.
    """

    needs: ClassVar[tuple[roles.Role, ...]] = (roles.mixture,)
    likelihood_kind: ClassVar[LikelihoodKind | None] = "lower bound"
    is_fitted: ClassVar[bool] = True

    def __init__(self, *, domain: Domain, sizes: dict[str, Any]) -> None:
        super().__init__(domain=domain)
        self.density = roles.mixture(domain, sizes)

    def fit(self, x: Tensor) -> None:
        """Fit to the training set `[N, *shape]`."""
        self.density.fit(x)

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        """Draw grid points `[n, *shape]`, int64."""
        drawn: Tensor = self.density.sample(n)
        return drawn

    def log_likelihood(self, x: Tensor, *, importance_samples: PositiveInt) -> Tensor:
        """Return the importance-weighted lower bound in nats `[N]`.

        Args:
            x: grid points `[N, *shape]`.
            importance_samples: places in the grid interval (tables), or draws of the factors of each likely component
                (images).
        """
        bound: Tensor = self.density.log_likelihood(x, importance_samples)
        return bound
