"""Autoregressive model: one dimension at a time, each given all that came before.

    log p(x) = Σ_d log p(x_d | x_1, …, x_{d-1})

The chain rule is exact, so is the likelihood, and training maximizes it directly (van den Oord et al., Pixel recurrent
neural networks, 2016, arXiv:1601.06759; Uria et al., Neural autoregressive distribution estimation, 2016,
arXiv:1605.02226). Every conditional is a mixture of logistics discretized to the grid, whose ends own what lies beyond
(Salimans et al., PixelCNN++, 2017, arXiv:1701.05517).

An image is read in blocks of 2x2 pixels. A causal network tells each block of the blocks before it: gated convolutions
look near by, dense masked layers (Germain et al., MADE, 2015, arXiv:1502.03509) look at everything, at the price of a
matrix product an image. Inside a block a small network a pixel adds the pixels before it. A vector is one such block.

A conditional model tells every block the class, too. log p(x) = log Σ_c p(c) p(x | c) is as exact.
"""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import TypedDict

from lookalike.core.domain import Domain
from lookalike.core.likelihood import Kind, LogisticMixture, WorkingUnits
from lookalike.core.ranges import PositiveInt, settings
from lookalike.networks.causal import CausalConv, CausalMixer, CausalResidual, Sequential
from lookalike.networks.classes import Classes, chosen, marginal, told
from lookalike.networks.first import marginal_mixture


@settings
class ImageSize(TypedDict):
    channels: PositiveInt
    depth: PositiveInt
    mixed: PositiveInt
    hidden: PositiveInt


@settings
class VectorSize(TypedDict):
    hidden: PositiveInt


class Autoregressive(nn.Module):
    """
    Args:
        domain: what one observation is.
        components: logistics in each conditional's mixture.
        conditional: whether the network is told an observation's class.
        image: `channels` of the causal network, `depth` (convolutions, each followed by a dense layer), numbers a
            block that are `mixed` by a dense layer, and `hidden` width of the networks inside a block.
        vector: `hidden` width of each dimension's network.
    """

    likelihood_kind: ClassVar[Kind | None] = "exact"

    def __init__(
        self, *, domain: Domain, components: PositiveInt, conditional: bool, image: ImageSize, vector: VectorSize
    ) -> None:
        super().__init__()
        self.domain, self.components = domain, components
        self.units = WorkingUnits(domain)
        self.classes = Classes(domain) if conditional else None
        classes = self.classes.count if self.classes is not None else 0
        self.is_image = domain.kind == "image"
        self.block, self.features = domain.dimensions, 1
        context = classes
        hidden = vector["hidden"]
        if self.is_image:
            channels, height, width = domain.shape
            self.rows, self.columns = (height + 1) // 2, (width + 1) // 2
            self.block, self.features, context, hidden = 4 * channels, 3, image["channels"], image["hidden"]
            self.stem = CausalConv(inputs=self.block * self.features, outputs=context, rows=2, reach=2, itself=False)
            self.before = nn.Linear(self.block * self.features, context, bias=False)
            self.position = nn.Parameter(0.1 * torch.randn(self.rows, self.columns, context))
            self.near: Any = nn.ModuleList(CausalResidual(channels=context) for _ in range(image["depth"]))
            self.far: Any = nn.ModuleList(
                CausalMixer(channels=context, places=self.rows * self.columns, width=image["mixed"])
                for _ in range(image["depth"])
            )
            # Where a class has its strokes is the first thing there is to know of it.
            self.of_class = nn.Parameter(torch.zeros(classes, self.rows, self.columns, context)) if classes else None
        places = (int(self.rows), int(self.columns)) if self.is_image else ()
        self.first = nn.Parameter(torch.zeros(*places, self.block, 3 * components))
        self.inside = Sequential(
            context=context,
            dimensions=self.block,
            features=self.features,
            hidden=hidden,
            outputs=3 * components,
        )

    def start(self, x: Tensor, labels: Tensor | None = None) -> None:
        """Begin with the mixture that each dimension has in the training set, whatever came before."""
        if self.classes is not None:
            assert labels is not None
            self.classes.start(labels)
        ends = self.is_image and self.components > 2
        logits, means, deviations = marginal_mixture(x, self.units, components=self.components - 2 * ends, ends=ends)
        # A logistic of scale s has the standard deviation π s / √3.
        first = torch.cat([logits, means, torch.log(deviations * 3**0.5 / math.pi)])
        if self.is_image:
            self.first.data.copy_(self.blocks(first)[0].permute(1, 2, 3, 0))
        else:
            self.first.data.copy_(first.T)
        nn.init.zeros_(self.inside.outer)
        nn.init.zeros_(self.inside.third)

    def describe(self, x: Tensor) -> Tensor:
        """What networks are told of grid points `[..., D]`: `[..., D, features]`.

        Of a pixel the value and whether it is one of the ends, where most pixels are.
        """
        y: Tensor = self.units(x)
        if not self.is_image:
            return y[..., None]
        return torch.stack([y, (x == 0).float(), (x == self.domain.levels - 1).float()], dim=-1)

    def blocks(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images as blocks `[N, rows, columns, block]`, and which of their pixels are in the image."""
        _, height, width = self.domain.shape
        padding = (0, width % 2, 0, height % 2)
        inside = functional.pixel_unshuffle(functional.pad(torch.ones_like(x[:1]), padding), 2)
        blocks = functional.pixel_unshuffle(functional.pad(x, padding), 2)
        return blocks.permute(0, 2, 3, 1).contiguous(), inside.permute(0, 2, 3, 1)

    def context(self, described: Tensor, one_hot: Tensor | None) -> Tensor:
        """What each block is told of those before it and of the class, `[N, rows, columns, channels]`, from
        descriptions `[N, rows, columns, block * features]`."""
        before = functional.pad(described.flatten(1, 2)[:, :-1], (0, 0, 1, 0)).view(described.shape)
        h: Tensor = self.stem(described) + self.before(before) + self.position
        if self.of_class is not None:
            h = h + torch.tensordot(one_hot, self.of_class, dims=1)
        for near, far in zip(self.near, self.far, strict=True):
            h = far(near(h))
        return h

    def log_probs(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """log p(x_d | x_<d) in nats, `[N, D]`, in the order that they come in; given the class where there are any."""
        one_hot = told(self.classes, labels)
        if not self.is_image:
            parameters = self.inside(one_hot, self.describe(x).flatten(1)) + self.first
            return LogisticMixture(parameters.transpose(1, 2), self.units).log_prob(x)
        blocks, inside = self.blocks(x)
        described = (self.describe(blocks) * inside[..., None]).flatten(3)
        context = self.context(described, one_hot)
        parameters = self.inside(context.flatten(0, 2), described.flatten(0, 2)).unflatten(0, context.shape[:3])
        parameters = (parameters + self.first).flatten(0, 2)
        log_prob = LogisticMixture(parameters.transpose(1, 2), self.units).log_prob(blocks.flatten(0, 2))
        return log_prob.view(len(x), -1) * inside.reshape(1, -1)

    def losses(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """The negative log-likelihood in nats a dimension."""
        return {"loss": -self.log_probs(x, labels).sum(1).mean() / self.domain.dimensions}

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Exact log-probability in nats `[N]` of grid points `[N, *shape]`."""
        return marginal(self.classes, lambda labels: self.log_probs(x, labels).sum(1, dtype=torch.float64), len(x))

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        """Grid points `[n, *shape]`, int64, one dimension after the other."""
        one_hot = told(self.classes, chosen(self.classes, labels, n))
        if not self.is_image:
            return self.fill(one_hot, self.first, torch.ones(self.block), n)
        return self.sample_images(n, one_hot)

    def fill(self, context: Tensor | None, first: Tensor, inside: Tensor, n: int) -> Tensor:
        """The dimensions of a block `[n, block]`, given its context `[n, channels]` and first parameters `[block, 3 *
        components]`; 0 where not `inside`."""
        device = self.units.scale.device
        x = torch.zeros(n, self.block, dtype=torch.int64, device=device)
        described = torch.zeros(n, self.block * self.features, device=device)
        for d in range(self.block):
            if not inside[d]:
                continue
            parameters = (self.inside.at(context, described, d) + first[d])[:, :, None].expand(-1, -1, self.block)
            x[:, d] = LogisticMixture(parameters, self.units).sample()[:, d]
            described.view(n, self.block, self.features)[:, d] = self.describe(x)[:, d]
        return x

    def sample_images(self, n: int, one_hot: Tensor | None) -> Tensor:
        """Block after block, with all that earlier blocks computed kept."""
        device = self.units.scale.device
        _, inside = self.blocks(torch.zeros(1, *self.domain.shape, device=device))
        start = torch.zeros(n, device=device)
        size = int(self.rows), int(self.columns)
        seen = self.stem.buffer(start, *size)
        near_seen = [near.conv.buffer(start, *size) for near in self.near]
        far_seen = [torch.zeros(n, int(far.places * far.width), device=device) for far in self.far]
        blocks = torch.zeros(n, *size, self.block, dtype=torch.int64, device=device)
        before = torch.zeros(n, self.block * self.features, device=device)
        of_class = None if self.of_class is None else torch.tensordot(one_hot, self.of_class, dims=1)
        for place in range(self.rows * self.columns):
            i, j = divmod(place, self.columns)
            h = self.stem.at(seen, i, j) + self.before(before) + self.position[i, j]
            if of_class is not None:
                h = h + of_class[:, i, j]
            for near, far, near_buffer, far_buffer in zip(self.near, self.far, near_seen, far_seen, strict=True):
                h = far.at(far_buffer, near.at(near_buffer, h, i, j), place)
            x = self.fill(h, self.first[i, j], inside[0, i, j], n)
            blocks[:, i, j] = x
            before = (self.describe(x) * inside[0, i, j][:, None]).flatten(1)
            self.stem.put(seen, before, i, j)
        _, height, width = self.domain.shape
        return functional.pixel_shuffle(blocks.permute(0, 3, 1, 2), 2)[:, :, :height, :width]
