"""Variational autoencoder: a code drawn from a prior, a decoder that says how likely each grid point is.

    p(x) = ∫ p(z) p(x | z) dz,   q(z | x) = N(z; μ(x), diag σ²(x))

Training maximizes the evidence lower bound E_q[log p(x | z) + log p(z) - log q(z | x)] (Kingma & Welling, Auto-encoding
variational Bayes, 2014, arXiv:1312.6114). Evaluation uses K codes at once, log 1/K Σ p(x | z) p(z) / q(z | x), a bound
that tightens with K (Burda et al., Importance weighted autoencoders, 2016, arXiv:1509.00519). The decoder gives every
dimension a mixture of discretized logistics, so the bound is one on the probability of the grid points themselves;
pixels are measured in tones, units in which each level of grey is as wide as it is common in the training set.

The prior of an image's code is learned, one number after the other (Chen et al., Variational lossy autoencoder, 2017,
arXiv:1611.02731): codes of data do not fill a normal distribution, and what is decoded from the holes is no data. That
is a fourteenth of the decoder's work, since a code is short, and half of the numbers that are learned. With `prior: 0`
the prior is N(0, I), whatever the class.

Of an image the code tells blocks of 2x2 pixels; inside a block every pixel is told those before it, too (a small step
towards Gulrajani et al., PixelVAE, 2017, arXiv:1611.05013). A sample is one pass of the decoder all the same, and less
grainy along its edges. Dimensions of a vector are independent given the code.

Prior, decoder and encoder of a conditional model are told an observation's class (Sohn et al., Learning structured
output representation using deep conditional generative models, 2015).
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import TypedDict

from lookalike.core.domain import Domain
from lookalike.core.likelihood import Kind, LogisticMixture, WorkingUnits, log_mean_exp, row_noise
from lookalike.core.ranges import ImageWidths, NonNegativeInt, PositiveInt, Widths, settings
from lookalike.networks.causal import Sequential
from lookalike.networks.classes import Classes, chosen, marginal, told
from lookalike.networks.conv import Decoder, Encoder
from lookalike.networks.mlp import MLP
from lookalike.networks.pixels import PixelBlocks

HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


@settings
class ImageSize(TypedDict):
    latent: PositiveInt
    prior: NonNegativeInt
    widths: ImageWidths
    depth: PositiveInt
    context: PositiveInt
    inside: PositiveInt


@settings
class VectorSize(TypedDict):
    latent: PositiveInt
    prior: NonNegativeInt
    hidden: Widths


class VAE(nn.Module):
    """
    Args:
        domain: what one observation is.
        components: logistics in each dimension's mixture, and normal distributions in that of each number of the code.
        conditional: whether the networks are told an observation's class.
        image: `latent` (numbers of the code), `prior` (width of the network of each, or 0), `widths` and `depth` of the
            convolutional nets, `context` (numbers that a block is told), `inside` (width of each pixel's network).
        vector: `latent`, `prior` and `hidden` (layer widths of encoder and decoder).
    """

    likelihood_kind: ClassVar[Kind | None] = "lower bound"

    def __init__(
        self, *, domain: Domain, components: PositiveInt, conditional: bool, image: ImageSize, vector: VectorSize
    ) -> None:
        super().__init__()
        self.domain = domain
        self.units = WorkingUnits(domain)
        self.classes = Classes(domain) if conditional else None
        classes = self.classes.count if self.classes is not None else 0
        self.encoder: nn.Module
        self.decoder: PixelDecoder | VectorDecoder
        self.shift: nn.Linear | None = None
        if domain.kind == "image":
            self.latent, prior, networks = image["latent"], image["prior"], (image["widths"], image["depth"])
            self.encoder = Encoder(shape=domain.shape, widths=networks[0], depth=networks[1], features=2 * self.latent)
            self.shift = nn.Linear(classes, 2 * self.latent) if classes else None
            self.decoder = PixelDecoder(domain, components, self.latent + classes, image)
        else:
            self.latent, prior, hidden = vector["latent"], vector["prior"], vector["hidden"]
            self.encoder = MLP(inputs=domain.dimensions + classes, hidden=hidden, outputs=2 * self.latent)
            self.decoder = VectorDecoder(domain, components, self.latent + classes, hidden)
        self.prior: Prior | StandardPrior = (
            Prior(latent=self.latent, classes=classes, hidden=prior, components=components)
            if prior
            else StandardPrior(self.latent)
        )

    def start(self, x: Tensor, labels: Tensor | None = None) -> None:
        """Learn how often each level of grey occurs in the training set, and each class, where there are classes."""
        if isinstance(self.decoder, PixelDecoder):
            self.decoder.pixels.fit(x)
        if self.classes is not None:
            assert labels is not None
            self.classes.start(labels)

    def encode(self, x: Tensor, one_hot: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of q(z | x), both `[N, latent]`; of a conditional model q(z | x, c)."""
        y: Tensor = self.units(x)
        if one_hot is not None and self.shift is None:
            y = torch.cat([y, one_hot], dim=1)
        code = self.encoder(y)
        if self.shift is not None:
            code = code + self.shift(one_hot)
        mean, log_std = code.chunk(2, dim=1)
        return mean, log_std.clamp(-7, 3)

    def log_conditional(self, x: Tensor, z: Tensor, one_hot: Tensor | None = None) -> Tensor:
        """log p(x | z) in nats `[N]` for codes `[N, latent]`; of a conditional model log p(x | z, c)."""
        return self.decoder.log_prob(x, joined(z, one_hot)).sum(1, dtype=torch.float64)

    def losses(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """The negative evidence lower bound in nats a dimension, and its two parts."""
        one_hot = told(self.classes, labels)
        mean, log_std = self.encode(x, one_hot)
        z = mean + log_std.exp() * torch.randn_like(mean)
        distortion = -self.log_conditional(x, z, one_hot).float().mean() / self.domain.dimensions
        rate = self.prior.rate(mean, log_std, z, one_hot).mean() / self.domain.dimensions
        return {"loss": distortion + rate, "distortion": distortion, "rate": rate}

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        """Codes from the prior, then grid points `[n, *shape]` from the decoder's distribution, int64."""
        one_hot = told(self.classes, chosen(self.classes, labels, n))
        z = self.prior.sample(torch.empty(n, self.latent, device=self.units.scale.device), one_hot)
        return self.decoder.sample(joined(z, one_hot))

    def log_likelihood(self, x: Tensor, *, importance_samples: PositiveInt) -> Tensor:
        """The importance-weighted lower bound in nats `[N]`, with K = `importance_samples` codes a point."""
        noise = row_noise(x, (importance_samples, self.latent), distribution="normal", seed=0)

        def given(labels: Tensor | None) -> Tensor:
            one_hot = told(self.classes, labels)
            mean, log_std = self.encode(x, one_hot)
            log_weights = []
            for eps in noise.unbind(dim=1):
                z = mean + log_std.exp() * eps
                log_posterior = -(0.5 * eps**2 + HALF_LOG_TAU + log_std).sum(1)
                log_prior = self.prior.log_prob(z, one_hot)
                log_weights.append(self.log_conditional(x, z, one_hot) + log_prior - log_posterior)
            return log_mean_exp(torch.stack(log_weights, dim=1), dim=1)

        return marginal(self.classes, given, len(x))


def joined(z: Tensor, one_hot: Tensor | None) -> Tensor:
    """What the decoder is told."""
    return z if one_hot is None else torch.cat([z, one_hot], dim=1)


class StandardPrior(nn.Module):
    """N(0, I), whatever the class."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent

    def log_prob(self, z: Tensor, one_hot: Tensor | None) -> Tensor:
        """log p(z) `[N]`."""
        return -(0.5 * z**2 + HALF_LOG_TAU).sum(1)

    def rate(self, mean: Tensor, log_std: Tensor, z: Tensor, one_hot: Tensor | None) -> Tensor:
        """KL(q(z | x) || p(z)) `[N]`."""
        return (0.5 * (mean**2 + (2 * log_std).exp() - 1) - log_std).sum(1)

    def sample(self, like: Tensor, one_hot: Tensor | None) -> Tensor:
        """Codes of the shape of `like`."""
        return torch.randn_like(like)


class Prior(nn.Module):
    """p(z) = Π_j Σ_k π_k N(z_j; μ_k, σ_k²), where π, μ and σ are told z_1, …, z_{j-1} and the class.

    Args:
        latent: numbers of a code.
        classes: that it is told, or 0.
        hidden: width of each number's network.
        components: normal distributions a number.
    """

    def __init__(self, *, latent: int, classes: int, hidden: int, components: int) -> None:
        super().__init__()
        self.network = Sequential(context=classes, dimensions=latent, features=1, hidden=hidden, outputs=3 * components)
        # Near the standard normal at first, by means that are not all the same.
        start = torch.zeros(3, components)
        start[1] = torch.linspace(-0.5, 0.5, components) if components > 1 else 0.0
        self.network.third.data.copy_(start.flatten())

    def parts(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-weights, means and log standard deviations."""
        logits, means, log_stds = parameters.chunk(3, dim=-1)
        return logits.log_softmax(dim=-1), means, log_stds.clamp(-7, 3)

    def log_prob(self, z: Tensor, one_hot: Tensor | None) -> Tensor:
        """log p(z) `[N]`; given the class where there are any."""
        log_weights, means, log_stds = self.parts(self.network(one_hot, z))
        log_normal = -0.5 * ((z[:, :, None] - means) * torch.exp(-log_stds)) ** 2 - log_stds - HALF_LOG_TAU
        return torch.logsumexp(log_weights + log_normal, dim=-1).sum(1)

    def rate(self, mean: Tensor, log_std: Tensor, z: Tensor, one_hot: Tensor | None) -> Tensor:
        """log q(z | x) - log p(z) `[N]`, whose first part is averaged over all codes and not taken at this one."""
        entropy = (log_std + 0.5 + HALF_LOG_TAU).sum(1)
        return -entropy - self.log_prob(z, one_hot)

    def sample(self, like: Tensor, one_hot: Tensor | None) -> Tensor:
        """Codes of the shape of `like`, one number after the other."""
        z = torch.zeros_like(like)
        for j in range(z.shape[1]):
            log_weights, means, log_stds = self.parts(self.network.at(one_hot, z, j))
            component = torch.multinomial(log_weights.exp(), 1)
            std = log_stds.gather(1, component).exp()
            z[:, j] = (means.gather(1, component) + std * torch.randn_like(std))[:, 0]
        return z


class PixelDecoder(nn.Module):
    """p(x | z) of images: a context for every block of 2x2 pixels, whose pixels come one after the other."""

    def __init__(self, domain: Domain, components: int, features: int, size: ImageSize) -> None:
        super().__init__()
        self.network = Decoder(
            features=features, shape=domain.shape, outputs=size["context"], widths=size["widths"], depth=size["depth"]
        )
        self.pixels = PixelBlocks(
            domain=domain, components=components, context=size["context"], hidden=size["inside"], described=3
        )

    def context(self, code: Tensor) -> Tensor:
        """What blocks are told, `[N, rows, columns, context]`."""
        told: Tensor = self.network(code).permute(0, 2, 3, 1)
        return told

    def log_prob(self, x: Tensor, code: Tensor) -> Tensor:
        """log p of each pixel `[N, pixels]`, those beyond the border of odd sizes among them, with 0."""
        return self.pixels.log_prob(self.context(code), self.pixels.split(x))

    def sample(self, code: Tensor) -> Tensor:
        """Images, a pixel of all blocks at once."""
        context = self.context(code)
        counted = self.pixels.counted().repeat(len(code), 1, 1, 1)
        blocks = self.pixels.fill(context.flatten(0, 2), counted.flatten(0, 2))
        return self.pixels.join(blocks.view(counted.shape))


class VectorDecoder(nn.Module):
    """p(x | z) of vectors, whose dimensions are independent."""

    def __init__(self, domain: Domain, components: int, features: int, hidden: list[int]) -> None:
        super().__init__()
        self.units, self.dimensions = WorkingUnits(domain), domain.dimensions
        self.network = MLP(inputs=features, hidden=hidden, outputs=3 * components * domain.dimensions)

    def mixture(self, code: Tensor) -> LogisticMixture:
        return LogisticMixture(self.network(code).view(len(code), -1, self.dimensions), self.units)

    def log_prob(self, x: Tensor, code: Tensor) -> Tensor:
        """log p of each dimension `[N, D]`."""
        return self.mixture(code).log_prob(x)

    def sample(self, code: Tensor) -> Tensor:
        return self.mixture(code).sample()
