"""Variational autoencoder: a code drawn from a normal prior, a decoder that says how likely each grid point is.

    p(x) = ∫ N(z; 0, I) Π_d p(x_d | z) dz,   q(z | x) = N(z; μ(x), diag σ²(x))

Training maximizes the evidence lower bound E_q[log p(x | z)] - KL(q(z | x) || p(z)) (Kingma & Welling, Auto-encoding
variational Bayes, 2014, arXiv:1312.6114). Evaluation uses K codes at once, log 1/K Σ p(x | z) p(z) / q(z | x), a bound
that tightens with K (Burda et al., Importance weighted autoencoders, 2016, arXiv:1509.00519). The decoder gives every
dimension a mixture of discretized logistics, so the bound is one on the probability of the grid points themselves.

Decoder and encoder of a conditional model are told an observation's class (Sohn et al., Learning structured output
representation using deep conditional generative models, 2015).
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import TypedDict

from lookalike.core.domain import Domain
from lookalike.core.likelihood import Kind, LogisticMixture, WorkingUnits, log_mean_exp, row_noise
from lookalike.core.ranges import PositiveInt, Widths, settings
from lookalike.networks.classes import Classes, chosen, marginal, told
from lookalike.networks.conv import Decoder, Encoder
from lookalike.networks.mlp import MLP


@settings
class ImageSize(TypedDict):
    latent: PositiveInt
    widths: Widths
    depth: PositiveInt


@settings
class VectorSize(TypedDict):
    latent: PositiveInt
    hidden: Widths


class VAE(nn.Module):
    """
    Args:
        domain: what one observation is.
        components: logistics in each dimension's mixture.
        conditional: whether the networks are told an observation's class.
        image: `latent` (dimensions of the code), `widths` and `depth` of the convolutional nets.
        vector: `latent` and `hidden` (layer widths of both networks).
    """

    likelihood_kind: ClassVar[Kind | None] = "lower bound"

    def __init__(
        self, *, domain: Domain, components: PositiveInt, conditional: bool, image: ImageSize, vector: VectorSize
    ) -> None:
        super().__init__()
        self.domain, self.components = domain, components
        self.units = WorkingUnits(domain)
        self.classes = Classes(domain) if conditional else None
        classes = self.classes.count if self.classes is not None else 0
        self.encoder: nn.Module
        self.decoder: nn.Module
        if domain.kind == "image":
            self.latent = image["latent"]
            self.encoder = Encoder(
                shape=domain.shape, widths=image["widths"], depth=image["depth"], features=2 * self.latent
            )
            self.decoder = Decoder(
                features=self.latent + classes,
                shape=domain.shape,
                out_channels=3 * components * domain.shape[0],
                widths=image["widths"],
                depth=image["depth"],
            )
            self.shift = nn.Linear(classes, 2 * self.latent) if classes else None
        else:
            self.latent, hidden = vector["latent"], vector["hidden"]
            self.encoder = MLP(inputs=domain.dimensions + classes, hidden=hidden, outputs=2 * self.latent)
            self.decoder = MLP(inputs=self.latent + classes, hidden=hidden, outputs=3 * components * domain.dimensions)
            self.shift = None

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

    def decode(self, z: Tensor, one_hot: Tensor | None = None) -> LogisticMixture:
        """p(x | z) for codes `[N, latent]`; of a conditional model p(x | z, c)."""
        code = z if one_hot is None else torch.cat([z, one_hot], dim=1)
        parameters = self.decoder(code).view(len(z), 3 * self.components, *self.domain.shape)
        return LogisticMixture(parameters, self.units)

    def start(self, x: Tensor, labels: Tensor | None = None) -> None:
        """Learn how often each class occurs in the training set, where there are classes."""
        if self.classes is not None:
            assert labels is not None
            self.classes.start(labels)

    def losses(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """The negative evidence lower bound in nats a dimension, and its two parts."""
        one_hot = told(self.classes, labels)
        mean, log_std = self.encode(x, one_hot)
        z = mean + log_std.exp() * torch.randn_like(mean)
        distortion = -self.decode(z, one_hot).log_prob(x).flatten(1).sum(1).mean() / self.domain.dimensions
        kl = 0.5 * (mean**2 + (2 * log_std).exp() - 1 - 2 * log_std)
        rate = kl.sum(1).mean() / self.domain.dimensions
        return {"loss": distortion + rate, "distortion": distortion, "rate": rate}

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        """Codes from the prior, then grid points `[n, *shape]` from the decoder's distribution, int64."""
        one_hot = told(self.classes, chosen(self.classes, labels, n))
        z = torch.randn(n, self.latent, device=self.units.scale.device)
        return self.decode(z, one_hot).sample()

    def log_likelihood(self, x: Tensor, *, importance_samples: PositiveInt) -> Tensor:
        """The importance-weighted lower bound in nats `[N]`, with K = `importance_samples` codes a point."""
        noise = row_noise(x, (importance_samples, self.latent), distribution="normal", seed=0)

        def given(labels: Tensor | None) -> Tensor:
            one_hot = told(self.classes, labels)
            mean, log_std = self.encode(x, one_hot)
            log_weights = []
            for eps in noise.unbind(dim=1):
                z = mean + log_std.exp() * eps
                log_conditional = self.decode(z, one_hot).log_prob(x).flatten(1).sum(1, dtype=torch.float64)
                log_prior = -0.5 * (z**2).sum(1)
                log_posterior = -0.5 * (eps**2).sum(1) - log_std.sum(1)
                log_weights.append(log_conditional + log_prior - log_posterior)
            return log_mean_exp(torch.stack(log_weights, dim=1), dim=1)

        return marginal(self.classes, given, len(x))
