"""The network behind diffusion and flow matching: for every place of a noisy point, a distribution of the data."""

from typing import Any

import torch
from torch import Tensor, nn

from lookalike.distributions.counts import place_counts
from lookalike.distributions.marginal_mixture import marginal_mixture, zero_last_layer
from lookalike.domain.domain import Domain
from lookalike.domain.units import WorkingUnits
from lookalike.networks import roles
from lookalike.paths.path import Path, log_snr, shaped
from lookalike.paths.posterior import Posterior

MIN_LOG_SNR = -10.0
"""Log signal-to-noise ratio that stands for all noisier times."""


class Denoiser(nn.Module):
    """Map noisy points and times to a mixture of normal distributions of the data at every place.

    Where pixels are ink on paper, the two ends of the grid are components of their own.

    Args:
        domain: what one observation is.
        components: normal distributions in each place's mixture.
        size: sizes of the network.
        classes: number of classes that the network is given; 0 for none.

    Attributes:
        network: the network that plays the role `denoiser`.
    """

    MIN_STD = 0.1
    """Standard deviation of a component at least, in grid steps: one level, to within the noise that is seen."""

    def __init__(self, *, domain: Domain, components: int, size: dict[str, Any], classes: int) -> None:
        super().__init__()
        self.domain, self.components = domain, components
        self.units = WorkingUnits(domain)
        self.path = Path(self.units)
        self.network: Any = roles.denoiser(domain, size, outputs=3 * components)
        self.ends: list[int] = self.network.ends
        self.outputs = len(self.ends) + 3 * components
        self.first = nn.Parameter(torch.zeros(1, self.outputs, *domain.shape))
        self.of_class = nn.Linear(classes, self.network.embedding, bias=False) if classes else None

    def start(self, x: Tensor) -> None:
        """Begin with the mixture that each place has in the training set `[N, *shape]`, whatever is seen."""
        counts = place_counts(x, levels=self.units.levels)
        k = torch.arange(self.units.levels, device=x.device)
        values = (k - self.units.location[:, None]) / self.units.scale[:, None]
        logits, means, stds = marginal_mixture(
            counts, values, components=self.components, ends=bool(self.ends), step=1 / self.units.scale
        )
        inner = slice(len(self.ends), None)
        first = torch.cat([logits, means[inner], torch.log(stds[inner])])
        self.first.data.copy_(first.view(self.first.shape))
        zero_last_layer(self.network)

    def forward(self, y: Tensor, t: Tensor, one_hot: Tensor | None = None, also: Tensor | None = None) -> Posterior:
        """Return the distribution of x given y_t.

        Args:
            y: noisy points `[N, *shape]` in working units.
            t: times `[N]`.
            one_hot: classes `[N, classes]`, if any.
            also: what is added to the time's embedding, `[N, embedding]`, if anything.
        """
        places = shaped(t, y)
        level = (log_snr(t).clamp(min=MIN_LOG_SNR) - MIN_LOG_SNR) / (self.path.log_snr - MIN_LOG_SNR)
        if self.of_class is not None:
            of_class = self.of_class(one_hot)
            also = of_class if also is None else also + of_class
        out = self.network(y / torch.sqrt(places**2 + (1 - places) ** 2), level, also)
        prior = out.view(len(y), self.outputs, *self.domain.shape) + self.first
        logits, means, stds = prior.split([self.outputs - 2 * self.components] + [self.components] * 2, dim=1)
        floor = self.units.along((self.MIN_STD / self.units.scale) ** 2, prior.ndim)
        variances = torch.exp(2 * stds.clamp(max=3.0)) + floor
        if self.ends:
            ends = torch.cat([self.units(torch.full_like(y[:1, None], level)) for level in self.ends], dim=1)
            means = torch.cat([ends.expand(len(y), -1, *self.domain.shape), means], dim=1)
            variances = torch.cat([floor.expand(len(y), len(self.ends), *self.domain.shape), variances], dim=1)
        return Posterior(logits=logits, means=means, variances=variances, y=y, t=t, units=self.units)
