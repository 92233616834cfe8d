"""One-step generation: the mean velocity between two times of a path, so that a step of any length is exact.

    u(y_t, t, r) = (y_r - y_t) / (r - t),   (r - t) u = ∫_t^r v(y_s, s) ds

Differentiated along the path this says v = u - (r - t) du/dt, which a network can be trained on without solving any
equation (Geng et al., Mean flows for one-step generative modeling, 2025, arXiv:2505.13447):

    loss = E (1 - t)² ‖u - (r - t) sg(du/dt) - (x - ε)‖²

This is an error of the data point. With `robust` it is divided by its own root, so that outliers do not dominate the
gradient: over hundreds of places an error says how steep the derivative is there; over a few it would be chance, and
the mean that is learned would become a median. The derivative is a difference over a part of the way, which costs a
pass without gradients. The path and the network are those of `flow_matching`: it predicts a data point x̂, and
u = (x̂ - y_t) / (1 - t). For r = t that is the expected data point, for r at the path's end the one that y_t is carried
to.

A sample is noise and one step, or a few, which are better. There is no likelihood: a map that is only learned has no
inverse to compute one with.
"""

from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import TypedDict

from lookalike.distributions.classes import labels_or_sample, one_hot
from lookalike.domain.domain import Domain
from lookalike.families.contract import Family
from lookalike.networks import roles
from lookalike.networks.denoiser import Denoiser
from lookalike.networks.embeddings import FourierTime
from lookalike.paths.path import Times, shaped
from lookalike.paths.posterior import Posterior
from lookalike.workspace.ranges import Fraction, PositiveInt, Share, settings


@settings
class Steps(TypedDict):
    """How the times of a training batch are drawn, and over which part of the way the derivative is taken.

    A share `crossing` of a batch goes from the earlier of two times to the later; the rest stays where it is. Of the
    first, a share `whole` goes to the path's end, half of these all the way from its start. The derivative is taken
    over the part `hop` of the way.
    """

    crossing: Share
    whole: Share
    hop: Fraction


class OneStep(Family):
    """
    Args:
        domain: what one observation is.
        components: normal distributions in the prediction for a place.
        times: distribution of the times that training steps begin and end at, as in `flow_matching`.
        steps: how training steps are drawn.
        robust: whether an observation's error is divided by its root.
        conditional: whether the network is given an observation's class.
        sizes: sizes of the network.
    """

    needs: ClassVar[tuple[roles.Role, ...]] = (roles.denoiser,)

    BEND = 1.5
    """A sample's n steps start at times (i / n)^BEND: the early steps decide what a sample becomes."""

    FLOOR = 0.01
    """Added to an error before its root is taken."""

    def __init__(
        self,
        *,
        domain: Domain,
        components: PositiveInt,
        times: Times,
        steps: Steps,
        robust: bool,
        conditional: bool,
        sizes: dict[str, Any],
    ) -> None:
        super().__init__(domain=domain, conditional=conditional)
        self.times, self.steps, self.robust = times, steps, robust
        self.denoise = Denoiser(domain=domain, components=components, size=sizes, classes=self.class_count)
        self.units, self.path = self.denoise.units, self.denoise.path
        self.length = FourierTime(width=self.denoise.network.embedding, features=16, highest=10.0)

    def start(self, x: Tensor, labels: Tensor | None = None) -> None:
        """Let the network start from the training set's marginal distributions."""
        super().start(x, labels)
        self.denoise.start(x)

    def target(self, y: Tensor, t: Tensor, r: Tensor, classes: Tensor | None) -> Tensor:
        """Return x̂ `[N, *shape]`: where the mean velocity from time t to r `[N]` would carry y_t by t = 1."""
        posterior: Posterior = self.denoise(y, t, classes, also=self.length(r - t))
        return posterior.mean()

    def velocity(self, y: Tensor, t: Tensor, r: Tensor, classes: Tensor | None = None) -> Tensor:
        """Return u(y_t, t, r) `[N, *shape]`, given classes, if any."""
        return (self.target(y, t, r, classes) - y) / (1 - shaped(t, y))

    def draw_times(self, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Draw training times t ≤ r, each `[count]`."""
        first, second = (
            self.path.draw(count, self.times, device)[torch.randperm(count, device=device)] for _ in range(2)
        )
        t, r = torch.minimum(first, second), torch.maximum(first, second)
        place = torch.rand(count, device=device) / max(self.steps["crossing"], 1e-6)
        t = torch.where(place < self.steps["whole"] / 2, 0.0, t)
        r = torch.where(place < self.steps["whole"], self.path.end, r)
        return t, torch.where(place < 1, r, t)

    def losses(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return the weighted loss, and the mean squared error of the data point per dimension, in working units."""
        classes = one_hot(self.classes, labels)
        y1 = self.units(x)
        noise = torch.randn_like(y1)
        t, r = self.draw_times(len(x), x.device)
        y, v = self.path.noisy(y1, noise, t), y1 - noise
        u = self.velocity(y, t, r, classes)
        part = self.steps["hop"]
        hop = part * (r - t)
        with torch.no_grad():
            change = (self.velocity(y + shaped(hop, y) * v, t + hop, r, classes) - u) / part
        error = (1 - t) ** 2 * ((u - change - v) ** 2).flatten(1).mean(1)
        loss = error / (error.detach() + self.FLOOR).sqrt() if self.robust else error
        return {"loss": loss.mean(), "error": error.mean()}

    def sample(self, n: int, labels: Tensor | None = None, *, steps: PositiveInt) -> Tensor:
        """Draw grid points `[n, *shape]`, int64: noise carried along the path in a few steps."""
        classes = one_hot(self.classes, labels_or_sample(self.classes, labels, n))
        device = self.units.scale.device
        y = torch.randn(n, *self.domain.shape, device=device)
        times = self.path.end * (torch.arange(steps + 1, device=device) / steps) ** self.BEND
        for t, r in pairwise(times):
            x = self.target(y, t.expand(n), r.expand(n), classes)
            y = y + (r - t) / (1 - t) * (x - y)
        return self.units.to_grid(x)
