"""Autoregressive model: one dimension at a time, each given all that came before.

    log p(x) = Σ_d log p(x_d | x_1, …, x_{d-1})

The chain rule is exact, so is the likelihood, and training maximizes it directly (van den Oord et al., Pixel recurrent
neural networks, 2016, arXiv:1601.06759; Uria et al., Neural autoregressive distribution estimation, 2016,
arXiv:1605.02226). Every conditional is a mixture of logistics discretized to the grid, whose ends own what lies beyond
(Salimans et al., PixelCNN++, 2017, arXiv:1701.05517). How the network reads what came before depends on the kind of
data: `networks/pixel_causal.py` for images, `ColumnsInOrder` in `networks/table.py` for tables.

The network of a conditional model is given the class, too. log p(x) = log Σ_c p(c) p(x | c) is as exact.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lookalike.distributions.classes import labels_or_sample, marginal, one_hot
from lookalike.domain.domain import Domain
from lookalike.domain.grid import LikelihoodKind
from lookalike.families.contract import Family
from lookalike.networks import roles


class Autoregressive(Family):
    """
    Args:
        domain: what one observation is.
        conditional: whether the network is given an observation's class.
        sizes: sizes of the causal network.
    """

    needs: ClassVar[tuple[roles.Role, ...]] = (roles.causal,)
    likelihood_kind: ClassVar[LikelihoodKind | None] = "exact"

    def __init__(self, *, domain: Domain, conditional: bool, sizes: dict[str, Any]) -> None:
        super().__init__(domain=domain, conditional=conditional)
        self.network = roles.causal(domain, sizes, classes=self.class_count)

    def start(self, x: Tensor, labels: Tensor | None = None) -> None:
        """Begin with the distribution that each dimension has in the training set, whatever came before."""
        super().start(x, labels)
        self.network.start(x)

    def muon_weights(self) -> list[nn.Parameter]:
        """Return the weights that take orthogonal steps, which the network names."""
        weights: list[nn.Parameter] = self.network.muon_weights()
        return weights

    def log_probs(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return log p(x_d | x_<d) in nats `[N, D]`, in the order of the network, given the class, if any."""
        log_probs: Tensor = self.network.log_probs(x, one_hot(self.classes, labels))
        return log_probs

    def losses(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return the negative log-likelihood in nats per dimension."""
        return {"loss": -self.log_probs(x, labels).sum(1).mean() / self.domain.dimensions}

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Return the exact log-probability in nats `[N]` of grid points `[N, *shape]`."""
        return marginal(self.classes, lambda labels: self.log_probs(x, labels).sum(1, dtype=torch.float64), len(x))

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        """Draw grid points `[n, *shape]`, int64, one dimension after the other."""
        drawn: Tensor = self.network.sample(n, one_hot(self.classes, labels_or_sample(self.classes, labels, n)))
        return drawn
