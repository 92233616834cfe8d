"""The network behind diffusion and flow matching: what it makes of a noisy point, for every dimension."""

import torch
from torch import Tensor, nn
from typing_extensions import TypedDict

from lookalike.core.domain import Domain
from lookalike.core.likelihood import WorkingUnits
from lookalike.core.ranges import ImageWidths, PositiveInt, Widths, settings
from lookalike.networks.first import marginal_mixture, zero_last_layer
from lookalike.networks.mlp import TimeMLP
from lookalike.networks.paths import Path, Posterior, log_snr, shaped
from lookalike.networks.unet import UNet

LEAST_LOG_SNR = -10.0
"""What a network is told of all noisier times."""


@settings
class ImageSize(TypedDict):
    widths: ImageWidths
    depth: PositiveInt
    hidden: PositiveInt


@settings
class VectorSize(TypedDict):
    hidden: Widths


@settings
class PerKind(TypedDict):
    """A number for images and one for vectors, which are cheap and noisy."""

    image: PositiveInt
    vector: PositiveInt


class Denoiser(nn.Module):
    """Noisy points and times to what is known of the data point: for every dimension a mixture of normal distributions
    and, for pixels, of the two ends of the grid, where most pixels are.

    Args:
        domain: what one observation is.
        components: normal distributions in each dimension's mixture.
        image: `widths`, `depth` and `hidden` of the U-Net.
        vector: `hidden` (layer widths of the network).
        classes: that the network is told one of; 0 for none.
    """

    LEAST_DEVIATION = 0.1
    """Of a component, in grid steps: one level, to within the noise that is seen."""

    def __init__(self, *, domain: Domain, components: int, image: ImageSize, vector: VectorSize, classes: int) -> None:
        super().__init__()
        self.domain, self.components = domain, components
        self.units = WorkingUnits(domain)
        self.path = Path(self.units)
        self.ends = [0, domain.levels - 1] if domain.kind == "image" else []
        self.told = len(self.ends) + 3 * components
        self.network: UNet | TimeMLP
        if domain.kind == "image":
            self.network = UNet(
                shape=domain.shape,
                out_channels=self.told * domain.shape[0],
                widths=image["widths"],
                depth=image["depth"],
                hidden=image["hidden"],
            )
        else:
            self.network = TimeMLP(
                dimensions=domain.dimensions, outputs=self.told * domain.dimensions, hidden=vector["hidden"]
            )
        self.first = nn.Parameter(torch.zeros(1, self.told, *domain.shape))
        self.of_class = nn.Linear(classes, self.network.embedding, bias=False) if classes else None

    def start(self, x: Tensor) -> None:
        """Begin with the mixture that each dimension has in the training set `[N, *shape]`, whatever is seen."""
        logits, means, deviations = marginal_mixture(x, self.units, components=self.components, ends=bool(self.ends))
        inner = slice(len(self.ends), None)
        self.first.data.copy_(torch.cat([logits, means[inner], torch.log(deviations[inner])])[None])
        zero_last_layer(self.network)

    def forward(self, y: Tensor, t: Tensor, one_hot: Tensor | None = None, also: Tensor | None = None) -> Posterior:
        """What is known of x when y_t `[N, *shape]` is seen at times `[N]`.

        The class `[N, classes]` is told, and what else there is to know: `also` is added to the time's embedding.
        """
        places = shaped(t, y)
        told = (log_snr(t).clamp(min=LEAST_LOG_SNR) - LEAST_LOG_SNR) / (self.path.log_snr - LEAST_LOG_SNR)
        if self.of_class is not None:
            of_class = self.of_class(one_hot)
            also = of_class if also is None else also + of_class
        out = self.network(y / torch.sqrt(places**2 + (1 - places) ** 2), told, also)
        prior = out.view(len(y), self.told, *self.domain.shape) + self.first
        logits, means, deviations = prior.split([self.told - 2 * self.components] + [self.components] * 2, dim=1)
        least = self.units.along((self.LEAST_DEVIATION / self.units.scale) ** 2, prior.ndim)
        variances = torch.exp(2 * deviations.clamp(max=3.0)) + least
        if self.ends:
            ends = self.units(torch.tensor(self.ends, device=y.device)).view(1, -1, *[1] * (y.ndim - 1))
            means = torch.cat([ends.expand(len(y), -1, *self.domain.shape), means], dim=1)
            variances = torch.cat([least.expand(len(y), len(self.ends), *self.domain.shape), variances], dim=1)
        return Posterior(logits=logits, means=means, variances=variances, y=y, t=t, units=self.units)
