"""Generative adversarial network: a generator learns to fool a discriminator that learns to tell samples from data.

    L_D = E softplus(D(G(z)) - D(x)) + γ/2 (E |∇D(x)|² + E |∇D(G(z))|²),   L_G = E softplus(D(x) - D(G(z)))

The discriminator says of a pair which of the two is real (Jolicoeur-Martineau, The relativistic discriminator, 2018,
arXiv:1807.00734), so no mode of the data can be dropped unpunished, and gradient penalties on data (R1) and samples
(R2) make training converge (Mescheder et al., Which training methods for GANs do actually converge?, 2018,
arXiv:1801.04406). Together they need no other tricks (Huang et al., The GAN is dead; long live the GAN!, 2024,
arXiv:2501.05441).

Both players move at once: L_D sees the generator's samples as given and L_G the discriminator's weights, so one
gradient of L_D + L_G is each player's own. There is no likelihood: nothing here says how probable an image is.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from typing_extensions import TypedDict

from lookalike.domain import Domain
from lookalike.likelihood import Kind, WorkingUnits
from lookalike.networks.classes import Classes
from lookalike.networks.conv import Decoder, Encoder
from lookalike.networks.mlp import MLP
from lookalike.ranges import PositiveFloat, PositiveInt, Widths, settings


@settings
class ImageSize(TypedDict):
    latent: PositiveInt
    widths: Widths
    depth: PositiveInt


@settings
class VectorSize(TypedDict):
    latent: PositiveInt
    hidden: Widths


class GAN(nn.Module):
    """
    Args:
        domain: what one observation is.
        conditional: whether both players are told the class.
        penalty: γ, of both gradient penalties.
        image: `latent` (dimensions of the generator's noise), `widths` and `depth` of both networks.
        vector: `latent` and `hidden` (layer widths of both networks).
    """

    likelihood_kind: ClassVar[Kind | None] = None

    REACH = 0.01
    """Of the finite difference that a gradient's square is estimated by, in working units."""

    def __init__(
        self, *, domain: Domain, conditional: bool, penalty: PositiveFloat, image: ImageSize, vector: VectorSize
    ) -> None:
        super().__init__()
        self.domain, self.penalty = domain, penalty
        self.units = WorkingUnits(domain)
        self.classes = Classes(domain) if conditional else None
        told = self.classes.count if self.classes else 0
        self.generator: nn.Module
        self.discriminator: nn.Module
        if domain.kind == "image":
            self.latent = image["latent"]
            size: Any = {"shape": domain.shape, "widths": image["widths"], "depth": image["depth"]}
            self.generator = Decoder(features=self.latent + told, out_channels=domain.shape[0], **size)
            self.discriminator = Encoder(features=max(1, told), **size)
        else:
            self.latent, hidden = vector["latent"], vector["hidden"]
            self.generator = MLP(inputs=self.latent + told, hidden=hidden, outputs=domain.dimensions)
            self.discriminator = MLP(inputs=domain.dimensions, hidden=hidden, outputs=max(1, told))

    def start(self, x: Tensor, labels: Tensor | None = None) -> None:
        """Learn how often each class occurs."""
        if self.classes is not None:
            assert labels is not None
            self.classes.start(labels)

    def generate(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Points `[N, *shape]` in working units from noise `[N, latent]` and, if conditional, classes `[N]`."""
        told = z if self.classes is None or labels is None else torch.cat([z, self.classes.one_hot(labels)], dim=1)
        out: Tensor = self.generator(told).view(len(z), *self.domain.shape)
        return torch.tanh(out) * 1.01 if self.domain.kind == "image" else out

    def judge(self, y: Tensor, labels: Tensor | None, *, frozen: bool = False) -> Tensor:
        """How real points look, `[N]`; with `frozen` no gradient reaches the discriminator's weights."""
        if frozen:
            weights = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
            scores: Tensor = functional_call(self.discriminator, weights, y)
        else:
            scores = self.discriminator(y)
        return scores[:, 0] if labels is None else scores.gather(1, labels[:, None])[:, 0]

    def losses(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Both players' losses, and the penalty in the discriminator's."""
        real = self.units.dequantize(x, torch.rand(x.shape, device=x.device))
        fake = self.generate(torch.randn(len(x), self.latent, device=x.device), labels)
        given = fake.detach()
        few = max(1, len(x) // 4)
        near = [y[:few] + self.REACH * torch.randn_like(y[:few]) for y in (real, given)]
        all_labels = None if labels is None else torch.cat([labels, labels, labels[:few], labels[:few]])
        scores = self.judge(torch.cat([real, given, *near]), all_labels)
        real_score, fake_score, near_real, near_fake = scores.split([len(x), len(x), few, few])
        differences = torch.cat([near_real - real_score[:few], near_fake - fake_score[:few]])
        penalty = 2 * (differences**2).mean() / self.REACH**2
        discriminator = functional.softplus(fake_score - real_score).mean()
        generator = functional.softplus(real_score.detach() - self.judge(fake, labels, frozen=True)).mean()
        loss = discriminator + 0.5 * self.penalty * penalty + generator
        return {"loss": loss, "discriminator": discriminator, "generator": generator, "penalty": penalty}

    def sample(self, n: int, *, labels: Tensor | None = None) -> Tensor:
        """Grid points `[n, *shape]`, int64."""
        if self.classes is not None and labels is None:
            labels = self.classes.draw(n)
        return self.units.to_grid(self.generate(torch.randn(n, self.latent, device=self.units.scale.device), labels))
