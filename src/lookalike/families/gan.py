"""Generative adversarial network: a generator learns to fool a discriminator that learns to tell samples from data.

    L_D = E softplus(D(G(z)) - D(x)) + γ/2 (E ‖∇D(x)‖² + E ‖∇D(G(z))‖²),   L_G = E softplus(D(x) - D(G(z)))

The discriminator says of a pair which of the two is real (Jolicoeur-Martineau, The relativistic discriminator, 2018,
arXiv:1807.00734), so that dropping a mode of the data always costs, and gradient penalties on data (R1) and samples
(R2) make training converge (Mescheder et al., Which training methods for GANs do actually converge?, 2018,
arXiv:1801.04406). Together they need no other tricks (Huang et al., The GAN is dead; long live the GAN!, 2024,
arXiv:2501.05441).

Both players move at once: L_D treats the generator's samples as constants and L_G the discriminator's weights, so one
gradient of L_D + L_G is each player's own. There is no likelihood: nothing here says how probable an image is.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from lookalike.distributions.classes import labels_or_sample, one_hot
from lookalike.domain.domain import Domain
from lookalike.domain.units import WorkingUnits
from lookalike.families.contract import Family
from lookalike.networks import roles
from lookalike.workspace.ranges import PositiveFloat, PositiveInt


class GAN(Family):
    """
    Args:
        domain: what one observation is.
        penalty: γ, the weight of both gradient penalties.
        conditional: whether both players are given an observation's class.
        latent: dimensions of the generator's noise.
        sizes: sizes of both networks.
    """

    needs: ClassVar[tuple[roles.Role, ...]] = (roles.generator, roles.encoder)

    REACH = 0.01
    """Length of the step of the finite difference that estimates a gradient's square, in working units."""

    FEATURES = 64
    """Features that the discriminator's score is a linear function of; one score per class where there are classes."""

    def __init__(
        self,
        *,
        domain: Domain,
        penalty: PositiveFloat,
        conditional: bool,
        latent: PositiveInt,
        sizes: dict[str, Any],
    ) -> None:
        super().__init__(domain=domain, conditional=conditional)
        self.penalty, self.latent = penalty, latent
        self.units = WorkingUnits(domain)
        self.generator = roles.generator(domain, sizes, inputs=latent + self.class_count)
        trunk = roles.encoder(domain, sizes, outputs=self.FEATURES)
        # No bias, because it would cancel: only differences of scores matter.
        verdict = nn.Linear(self.FEATURES, max(1, self.class_count), bias=False)
        self.discriminator = nn.Sequential(trunk, nn.SiLU(), verdict)

    def generate(self, n: int, labels: Tensor | None) -> Tensor:
        """Draw points `[n, *shape]` in working units, of given classes `[n]`, if any."""
        z = torch.randn(n, self.latent, device=self.units.scale.device)
        classes = one_hot(self.classes, labels)
        points: Tensor = self.generator(z if classes is None else torch.cat([z, classes], dim=1))
        return points

    def judge(self, y: Tensor, labels: Tensor | None, *, frozen: bool = False) -> Tensor:
        """Return how real points `[N, *shape]` look, given their classes, if any.

        With `frozen` no gradient reaches the discriminator's weights.
        """
        if frozen:
            weights = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
            scores: Tensor = functional_call(self.discriminator, weights, y)
        else:
            scores = self.discriminator(y)
        return scores[:, 0] if labels is None else scores.gather(1, labels[:, None].long())[:, 0]

    def losses(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return the sum of both players' losses, each of them, and the penalty in the discriminator's."""
        real = self.units.dequantize(x, torch.rand(x.shape, device=x.device))
        fake = self.generate(len(x), labels)
        given = fake.detach()
        # Finite-difference estimate of ‖∇D‖²: the mean squared difference along short random steps.
        few = max(1, len(x) // 4)
        near = [y[:few] + self.REACH * torch.randn_like(y[:few]) for y in (real, given)]
        all_labels = None if labels is None else torch.cat([labels, labels, labels[:few], labels[:few]])
        # The discriminator sees everything in one batch: its layers are narrow, and a CPU prefers them long.
        scores = self.judge(torch.cat([real, given, *near]), all_labels)
        real_score, fake_score, near_real, near_fake = scores.split([len(x), len(x), few, few])
        differences = torch.cat([near_real - real_score[:few], near_fake - fake_score[:few]])
        penalty = 2 * (differences**2).mean() / self.REACH**2
        discriminator = functional.softplus(fake_score - real_score).mean()
        generator = functional.softplus(real_score.detach() - self.judge(fake, labels, frozen=True)).mean()
        loss = discriminator + 0.5 * self.penalty * penalty + generator
        return {"loss": loss, "discriminator": discriminator, "generator": generator, "penalty": penalty}

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        """Draw grid points `[n, *shape]`, int64."""
        return self.units.to_grid(self.generate(n, labels_or_sample(self.classes, labels, n)))
