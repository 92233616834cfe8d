"""One-step generation: the mean velocity between two times of a path, so that a step of any length is exact.

    u(y_t, t, r) = (y_r - y_t) / (r - t),   (r - t) u = ∫_t^r v(y_s, s) ds

Differentiated along the path this says v = u - (r - t) du/dt, which a network can be trained on without solving any
equation (Geng et al., Mean flows for one-step generative modeling, 2025, arXiv:2505.13447):

    loss = E (1 - t)² |u - (r - t) sg(du/dt) - (x - ε)|²

an error of the data point. For images it is divided by its own root, so that no observation rules a batch: over
hundreds of dimensions an error says how steep the derivative is there. Over a few it would be chance, and the mean that
is learned become a median. The derivative is a difference over a part of the way, at the price of a pass without
gradients. The path and the network are those of `flow_matching`: it says a data point x̂, and u = (x̂ - y_t) / (1 - t).
For r = t that is the expected data point, for r at the path's end the one that y_t is carried to.

A sample is noise and one step, or a few, which are better. There is no likelihood: a map that is only learned has no
inverse to compute one with.
"""

from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import TypedDict

from lookalike.core.domain import Domain
from lookalike.core.likelihood import Kind
from lookalike.core.ranges import Fraction, PositiveInt, Share, settings
from lookalike.networks.classes import Classes, chosen, told
from lookalike.networks.denoiser import Denoiser, ImageSize, PerKind, VectorSize
from lookalike.networks.embeddings import FourierTime
from lookalike.networks.paths import Posterior, Times, shaped


@settings
class Hop(TypedDict):
    image: Fraction
    vector: Fraction


@settings
class Steps(TypedDict):
    crossing: Share
    whole: Share
    hop: Hop


class OneStep(nn.Module):
    """
    Args:
        domain: what one observation is.
        components: normal distributions in what the network says of a dimension.
        times: that training steps begin and end at, as in `flow_matching`.
        steps: a share `crossing` of a batch goes from the earlier of two times to the later, the rest stays where it
            is; of the first, a share `whole` goes to the path's end, half of these all the way from its start. The
            derivative is taken over the part `hop` of the way.
        conditional: whether the network is told an observation's class.
        image: `widths`, `depth` and `hidden` of the U-Net.
        vector: `hidden` (layer widths of the network).
    """

    likelihood_kind: ClassVar[Kind | None] = None

    BEND = 1.5
    """A sample's n steps start at times (i / n)^BEND: it is early that is decided what a sample becomes."""

    FLOOR = 0.01
    """Added to an image's error before the root."""

    def __init__(
        self,
        *,
        domain: Domain,
        components: PositiveInt,
        times: Times,
        steps: Steps,
        conditional: bool,
        image: ImageSize,
        vector: VectorSize,
    ) -> None:
        super().__init__()
        self.domain, self.times, self.steps = domain, times, steps
        self.classes = Classes(domain) if conditional else None
        classes = self.classes.count if self.classes is not None else 0
        self.denoise = Denoiser(domain=domain, components=components, image=image, vector=vector, classes=classes)
        self.units, self.path = self.denoise.units, self.denoise.path
        network: Any = self.denoise.network
        self.length = FourierTime(width=network.embedding, features=16, highest=10.0)

    def start(self, x: Tensor, labels: Tensor | None = None) -> None:
        """Let the network start from the training set's marginal distributions."""
        if self.classes is not None:
            assert labels is not None
            self.classes.start(labels)
        self.denoise.start(x)

    def target(self, y: Tensor, t: Tensor, r: Tensor, one_hot: Tensor | None) -> Tensor:
        """x̂ `[N, *shape]`: where the mean velocity from time t to r `[N]` would carry y_t by t = 1."""
        posterior: Posterior = self.denoise(y, t, one_hot, also=self.length(r - t))
        return posterior.mean()

    def velocity(self, y: Tensor, t: Tensor, r: Tensor, one_hot: Tensor | None = None) -> Tensor:
        """u(y_t, t, r) `[N, *shape]`, given the classes, if any."""
        return (self.target(y, t, r, one_hot) - y) / (1 - shaped(t, y))

    def draw_times(self, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Training times t ≤ r, each `[count]`."""
        first, second = (self.path.draw(count, self.times, device)[torch.randperm(count)] for _ in range(2))
        t, r = torch.minimum(first, second), torch.maximum(first, second)
        place = torch.rand(count, device=device) / max(self.steps["crossing"], 1e-6)
        t = torch.where(place < self.steps["whole"] / 2, 0.0, t)
        r = torch.where(place < self.steps["whole"], self.path.end, r)
        return t, torch.where(place < 1, r, t)

    def losses(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """The weighted loss, and the mean squared error of the data point in it, a dimension, in working units."""
        one_hot = told(self.classes, labels)
        y1 = self.units(x)
        noise = torch.randn_like(y1)
        t, r = self.draw_times(len(x), x.device)
        y, v = self.path.noisy(y1, noise, t), y1 - noise
        u = self.velocity(y, t, r, one_hot)
        part = self.steps["hop"][self.domain.kind]
        hop = part * (r - t)
        with torch.no_grad():
            change = (self.velocity(y + shaped(hop, y) * v, t + hop, r, one_hot) - u) / part
        error = (1 - t) ** 2 * ((u - change - v) ** 2).flatten(1).mean(1)
        loss = error
        if self.domain.kind == "image":
            loss = error / (error.detach() + self.FLOOR).sqrt()
        return {"loss": loss.mean(), "error": error.mean()}

    def sample(self, n: int, labels: Tensor | None = None, *, steps: PerKind) -> Tensor:
        """Grid points `[n, *shape]`, int64: noise carried along the path in a few steps."""
        one_hot = told(self.classes, chosen(self.classes, labels, n))
        device, count = self.units.scale.device, steps[self.domain.kind]
        y = torch.randn(n, *self.domain.shape, device=device)
        times = self.path.end * (torch.arange(count + 1, device=device) / count) ** self.BEND
        for t, r in pairwise(times):
            x = self.target(y, t.expand(n), r.expand(n), one_hot)
            y = y + (r - t) / (1 - t) * (x - y)
        return self.units.to_grid(x)
