"""Variational autoencoder: a code drawn from a prior, and a decoder that says how likely each grid point is.

    p(x) = ∫ p(z) p(x | z) dz,   q(z | x) = N(z; μ(x), diag σ²(x))

Training maximizes the evidence lower bound E_q[log p(x | z) + log p(z) - log q(z | x)] (Kingma & Welling, Auto-encoding
variational Bayes, 2014, arXiv:1312.6114). Evaluation uses K codes at once, log 1/K Σ p(x | z) p(z) / q(z | x), a bound
that tightens with K (Burda et al., Importance weighted autoencoders, 2016, arXiv:1509.00519). The decoder gives every
place a mixture of discretized logistics, so the bound is one on the probability of the grid points themselves.

The prior of an image's code is learned, one number after the other (Chen et al., Variational lossy autoencoder, 2017,
arXiv:1611.02731): codes of data do not fill a normal distribution, and decoding its holes gives no data. With
`prior: 0` the prior is N(0, I), whatever the class.

For images the code gives a context to blocks of 2x2 pixels; inside a block every pixel sees those before it, too (a
small step towards Gulrajani et al., PixelVAE, 2017, arXiv:1611.05013). A sample still takes one pass of the decoder,
and has less noise along its edges. Columns of a table are independent given the code.

Prior, decoder and encoder of a conditional model are given an observation's class (Sohn et al., Learning structured
output representation using deep conditional generative models, 2015).
"""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lookalike.distributions.classes import labels_or_sample, marginal, one_hot
from lookalike.domain.domain import Domain
from lookalike.domain.grid import LikelihoodKind, log_mean_exp, row_noise
from lookalike.domain.units import WorkingUnits
from lookalike.families.contract import Family
from lookalike.networks import roles
from lookalike.networks.causal import Sequential
from lookalike.workspace.ranges import NonNegativeInt, PositiveInt

HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
"""½ log 2π."""


class VAE(Family):
    """
    Args:
        domain: what one observation is.
        components: logistics in each place's mixture, and normal distributions in the prior of each number of the code.
        conditional: whether the networks are given an observation's class.
        latent: numbers in the code.
        prior: width of the network of each number of the code; 0 for a standard normal prior.
        sizes: sizes of encoder and decoder.
    """

    needs: ClassVar[tuple[roles.Role, ...]] = (roles.encoder, roles.decoder)
    likelihood_kind: ClassVar[LikelihoodKind | None] = "lower bound"

    def __init__(
        self,
        *,
        domain: Domain,
        components: PositiveInt,
        conditional: bool,
        latent: PositiveInt,
        prior: NonNegativeInt,
        sizes: dict[str, Any],
    ) -> None:
        super().__init__(domain=domain, conditional=conditional)
        self.latent, classes = latent, self.class_count
        self.units = WorkingUnits(domain)
        self.encoder = roles.encoder(domain, sizes, outputs=2 * latent, classes=classes)
        self.decoder = roles.decoder(domain, sizes, inputs=latent + classes, components=components)
        self.prior: Prior | StandardPrior = (
            Prior(latent=latent, classes=classes, hidden=prior, components=components)
            if prior
            else StandardPrior(latent)
        )

    def start(self, x: Tensor, labels: Tensor | None = None) -> None:
        """Learn how common each level is in the training set `[N, *shape]`, and each class, if there are any."""
        super().start(x, labels)
        self.decoder.start(x)

    def encode(self, x: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of q(z | x), both `[N, latent]`, given classes `[N, C]`, if any."""
        mean, log_std = self.encoder(self.units(x), classes).chunk(2, dim=1)
        return mean, log_std.clamp(-7, 3)

    def log_conditional(self, x: Tensor, z: Tensor, classes: Tensor | None = None) -> Tensor:
        """Return log p(x | z) in nats `[N]` of codes `[N, latent]`, given classes, if any."""
        log_prob: Tensor = self.decoder.log_prob(x, joined(z, classes)).sum(1, dtype=torch.float64)
        return log_prob

    def losses(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return the negative evidence lower bound in nats per dimension, and its two parts."""
        classes = one_hot(self.classes, labels)
        mean, log_std = self.encode(x, classes)
        z = mean + log_std.exp() * torch.randn_like(mean)
        distortion = -self.log_conditional(x, z, classes).float().mean() / self.domain.dimensions
        rate = self.prior.rate(mean, log_std, z, classes).mean() / self.domain.dimensions
        return {"loss": distortion + rate, "distortion": distortion, "rate": rate}

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        """Draw codes from the prior, then grid points `[n, *shape]`, int64, from the decoder's distribution."""
        classes = one_hot(self.classes, labels_or_sample(self.classes, labels, n))
        z = self.prior.sample(torch.empty(n, self.latent, device=self.units.scale.device), classes)
        drawn: Tensor = self.decoder.sample(joined(z, classes))
        return drawn

    def log_likelihood(self, x: Tensor, *, importance_samples: PositiveInt) -> Tensor:
        """Return the importance-weighted lower bound in nats `[N]`, with K = `importance_samples` codes per point."""
        noise = row_noise(x, (importance_samples, self.latent), distribution="normal", seed=0)

        def given(labels: Tensor | None) -> Tensor:
            classes = one_hot(self.classes, labels)
            mean, log_std = self.encode(x, classes)
            log_weights = []
            for eps in noise.unbind(dim=1):
                z = mean + log_std.exp() * eps
                log_posterior = -(0.5 * eps**2 + HALF_LOG_TAU + log_std).sum(1)
                log_prior = self.prior.log_prob(z, classes)
                log_weights.append(self.log_conditional(x, z, classes) + log_prior - log_posterior)
            return log_mean_exp(torch.stack(log_weights, dim=1), dim=1)

        return marginal(self.classes, given, len(x))


def joined(z: Tensor, classes: Tensor | None) -> Tensor:
    """Return the input of the decoder: codes `[N, latent]` and classes `[N, C]`, if any."""
    return z if classes is None else torch.cat([z, classes], dim=1)


class StandardPrior(nn.Module):
    """N(0, I), whatever the class."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent

    def log_prob(self, z: Tensor, classes: Tensor | None) -> Tensor:
        """Return log p(z) `[N]`."""
        return -(0.5 * z**2 + HALF_LOG_TAU).sum(1)

    def rate(self, mean: Tensor, log_std: Tensor, z: Tensor, classes: Tensor | None) -> Tensor:
        """Return KL(q(z | x) ‖ p(z)) `[N]`."""
        return (0.5 * (mean**2 + (2 * log_std).exp() - 1) - log_std).sum(1)

    def sample(self, like: Tensor, classes: Tensor | None) -> Tensor:
        """Draw codes of the shape of `like`."""
        return torch.randn_like(like)


class Prior(nn.Module):
    """p(z) = Π_j Σ_k π_k N(z_j; μ_k, σ_k²), where π, μ and σ depend on z_1, …, z_{j-1} and the class.

    Args:
        latent: numbers in the code.
        classes: number of classes; 0 for none.
        hidden: width of each number's network.
        components: normal distributions per number.
    """

    def __init__(self, *, latent: int, classes: int, hidden: int, components: int) -> None:
        super().__init__()
        self.network = Sequential(context=classes, dimensions=latent, features=1, hidden=hidden, outputs=3 * components)
        # Begin near the standard normal distribution, with means that are not all the same.
        start = torch.zeros(3, components)
        start[1] = torch.linspace(-0.5, 0.5, components) if components > 1 else 0.0
        self.network.third.data.copy_(start.flatten())

    def parts(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log-weights, means and log standard deviations."""
        logits, means, log_stds = parameters.chunk(3, dim=-1)
        return logits.log_softmax(dim=-1), means, log_stds.clamp(-7, 3)

    def log_prob(self, z: Tensor, classes: Tensor | None) -> Tensor:
        """Return log p(z) `[N]`, given classes `[N, C]`, if any."""
        log_weights, means, log_stds = self.parts(self.network(classes, z))
        log_normal = -0.5 * ((z[:, :, None] - means) * torch.exp(-log_stds)) ** 2 - log_stds - HALF_LOG_TAU
        return torch.logsumexp(log_weights + log_normal, dim=-1).sum(1)

    def rate(self, mean: Tensor, log_std: Tensor, z: Tensor, classes: Tensor | None) -> Tensor:
        """Return log q(z | x) - log p(z) `[N]`, with the first term averaged over all codes, not taken at this one."""
        entropy = (log_std + 0.5 + HALF_LOG_TAU).sum(1)
        return -entropy - self.log_prob(z, classes)

    def sample(self, like: Tensor, classes: Tensor | None) -> Tensor:
        """Draw codes of the shape of `like`, one number after the other."""
        z = torch.zeros_like(like)
        for j in range(z.shape[1]):
            log_weights, means, log_stds = self.parts(self.network.at(classes, z, j))
            component = torch.multinomial(log_weights.exp(), 1)
            std = log_stds.gather(1, component).exp()
            z[:, j] = (means.gather(1, component) + std * torch.randn_like(std))[:, 0]
        return z
