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

from lookalike.core.domain import Domain
from lookalike.core.likelihood import Kind, WorkingUnits
from lookalike.core.ranges import ImageWidths, PositiveFloat, PositiveInt, Widths, settings
from lookalike.networks.classes import Classes, chosen, told
from lookalike.networks.conv import Decoder, Encoder, as_pixels
from lookalike.networks.mlp import MLP


@settings
class ImageSize(TypedDict):
    latent: PositiveInt
    widths: ImageWidths
    depth: PositiveInt


@settings
class VectorSize(TypedDict):
    latent: PositiveInt
    hidden: Widths


class GAN(nn.Module):
    """
    Args:
        domain: what one observation is.
        penalty: γ, of both gradient penalties.
        conditional: whether both players are told an observation's class.
        image: `latent` (dimensions of the generator's noise), `widths` and `depth` of both networks.
        vector: `latent` and `hidden` (layer widths of both networks).
    """

    likelihood_kind: ClassVar[Kind | None] = None

    REACH = 0.01
    """Of the finite difference that a gradient's square is estimated by, in working units."""

    FEATURES = 64
    """What the discriminator's verdict is made from; a score a class where there are classes."""

    def __init__(
        self, *, domain: Domain, penalty: PositiveFloat, conditional: bool, image: ImageSize, vector: VectorSize
    ) -> None:
        super().__init__()
        self.domain, self.penalty = domain, penalty
        self.units = WorkingUnits(domain)
        self.classes = Classes(domain) if conditional else None
        classes = self.classes.count if self.classes is not None else 0
        self.generator: nn.Module
        if domain.kind == "image":
            self.latent = image["latent"]
            size: Any = {"shape": domain.shape, "widths": image["widths"], "depth": image["depth"]}
            self.generator = Decoder(features=self.latent + classes, outputs=4 * domain.shape[0], **size)
            trunk: nn.Module = Encoder(features=self.FEATURES, **size)
        else:
            self.latent, hidden = vector["latent"], vector["hidden"]
            self.generator = MLP(inputs=self.latent + classes, hidden=hidden, outputs=domain.dimensions)
            trunk = MLP(inputs=domain.dimensions, hidden=hidden, outputs=self.FEATURES)
        # Without a bias, which would cancel: only differences of scores are ever looked at.
        verdict = nn.Linear(self.FEATURES, max(1, classes), bias=False)
        self.discriminator = nn.Sequential(trunk, nn.SiLU(), verdict)

    def start(self, x: Tensor, labels: Tensor | None = None) -> None:
        """Learn the shares of the classes, where there are any."""
        if self.classes is not None:
            assert labels is not None
            self.classes.start(labels)

    def generate(self, n: int, labels: Tensor | None) -> Tensor:
        """Points `[n, *shape]` in working units, of given classes `[n]`, if any."""
        z = torch.randn(n, self.latent, device=self.units.scale.device)
        one_hot = told(self.classes, labels)
        out: Tensor = self.generator(z if one_hot is None else torch.cat([z, one_hot], dim=1))
        if self.domain.kind == "image":
            return torch.tanh(as_pixels(out, *self.domain.shape[1:])) * 1.01
        return out.view(n, *self.domain.shape)

    def judge(self, y: Tensor, labels: Tensor | None, *, frozen: bool = False) -> Tensor:
        """How real points `[N, *shape]` look, given their classes, if any; with `frozen` no gradient reaches the
        discriminator's weights."""
        if frozen:
            weights = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
            scores: Tensor = functional_call(self.discriminator, weights, y)
        else:
            scores = self.discriminator(y)
        return scores[:, 0] if labels is None else scores.gather(1, labels[:, None].long())[:, 0]

    def losses(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Both players' losses, and the penalty in the discriminator's."""
        real = self.units.dequantize(x, torch.rand(x.shape, device=x.device))
        fake = self.generate(len(x), labels)
        given = fake.detach()
        # Of a gradient's square: the expected square of the difference along a short random step, over its length's.
        few = max(1, len(x) // 4)
        near = [y[:few] + self.REACH * torch.randn_like(y[:few]) for y in (real, given)]
        all_labels = None if labels is None else torch.cat([labels, labels, labels[:few], labels[:few]])
        # All that the discriminator sees is one batch: its layers are narrow, and a CPU likes them long.
        scores = self.judge(torch.cat([real, given, *near]), all_labels)
        real_score, fake_score, near_real, near_fake = scores.split([len(x), len(x), few, few])
        differences = torch.cat([near_real - real_score[:few], near_fake - fake_score[:few]])
        penalty = 2 * (differences**2).mean() / self.REACH**2
        discriminator = functional.softplus(fake_score - real_score).mean()
        generator = functional.softplus(real_score.detach() - self.judge(fake, labels, frozen=True)).mean()
        loss = discriminator + 0.5 * self.penalty * penalty + generator
        return {"loss": loss, "discriminator": discriminator, "generator": generator, "penalty": penalty}

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        """Grid points `[n, *shape]`, int64."""
        return self.units.to_grid(self.generate(n, chosen(self.classes, labels, n)))
