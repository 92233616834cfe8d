"""Autoregressive model: one dimension at a time, each given all that came before.

    log p(x) = Σ_d log p(x_d | x_1, …, x_{d-1})

The chain rule is exact, so is the likelihood, and training maximizes it directly (van den Oord et al., Pixel recurrent
neural networks, 2016, arXiv:1601.06759; Uria et al., Neural autoregressive distribution estimation, 2016,
arXiv:1605.02226). Every conditional is a mixture of logistics discretized to the grid, whose ends own what lies beyond
(Salimans et al., PixelCNN++, 2017, arXiv:1701.05517). Pixels are measured in tones, units in which each level of grey
is as wide as it is common in the training set: what spikes their histogram has need no logistics of their own.

An image is read in blocks of 2x2 pixels. A causal network tells each block of the blocks before it: gated convolutions
look near by, dense masked layers (Germain et al., MADE, 2015, arXiv:1502.03509) look at everything, at the price of a
matrix product an image. Inside a block a small network a pixel adds the pixels before it. A vector is one such block.

An image has levels of grey of its own. Networks are shown a level by numbers that are learned for it, since 127 and 128
may have little in common; and the histogram of the rows above tells each row of blocks what levels to expect, by the
widths of their intervals and by numbers that its network is told besides (`Palette`).

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
from lookalike.core.ranges import AtLeastThree, NonNegativeInt, PositiveInt, settings
from lookalike.networks.causal import CausalConv, CausalMixer, CausalResidual, Sequential
from lookalike.networks.classes import Classes, chosen, marginal, told
from lookalike.networks.first import marginal_mixture
from lookalike.networks.palette import Palette
from lookalike.networks.pixels import PixelBlocks


@settings
class ImageSize(TypedDict):
    components: PositiveInt
    described: AtLeastThree
    palette: NonNegativeInt
    channels: PositiveInt
    depth: PositiveInt
    mixed: PositiveInt
    hidden: PositiveInt


@settings
class VectorSize(TypedDict):
    components: PositiveInt
    hidden: PositiveInt


class Autoregressive(nn.Module):
    """
    Args:
        domain: what one observation is.
        conditional: whether the network is told an observation's class.
        image: `components` (logistics in each conditional's mixture), numbers by which a pixel is `described` (more
            than 3 are learned), hidden width of the `palette` (0: none), `channels` of the causal network, `depth`
            (convolutions, each followed by a dense layer), numbers a block that are `mixed` by a dense layer, and
            `hidden` width of the networks inside a block.
        vector: `components`, and `hidden` width of each dimension's network.
    """

    likelihood_kind: ClassVar[Kind | None] = "exact"

    def __init__(self, *, domain: Domain, conditional: bool, image: ImageSize, vector: VectorSize) -> None:
        super().__init__()
        self.domain = domain
        self.units = WorkingUnits(domain)
        self.classes = Classes(domain) if conditional else None
        classes = self.classes.count if self.classes is not None else 0
        self.is_image = domain.kind == "image"
        self.components = components = (image if self.is_image else vector)["components"]
        if self.is_image:
            context = image["channels"]
            self.pixels: Any = PixelBlocks(
                domain=domain,
                components=components,
                context=context,
                hidden=image["hidden"],
                described=image["described"],
            )
            grid = self.pixels.rows, self.pixels.columns
            described = self.pixels.size * image["described"]
            # It takes a level between the ends, and a row above another.
            has_palette = image["palette"] > 0 and domain.levels > 2 and grid[0] > 1
            self.palette = (
                Palette(levels=domain.levels, hidden=image["palette"], outputs=context) if has_palette else None
            )
            self.stem = CausalConv(inputs=described, outputs=context, rows=2, reach=2, itself=False)
            self.before = nn.Linear(described, context, bias=False)
            self.position = nn.Parameter(0.1 * torch.randn(*grid, context))
            self.near: Any = nn.ModuleList(CausalResidual(channels=context) for _ in range(image["depth"]))
            self.far: Any = nn.ModuleList(
                CausalMixer(channels=context, places=grid[0] * grid[1], width=image["mixed"])
                for _ in range(image["depth"])
            )
            # Where a class has its strokes is the first thing there is to know of it.
            self.of_class = nn.Parameter(torch.zeros(classes, *grid, context)) if classes else None
            self.first = nn.Parameter(torch.zeros(*grid, self.pixels.size, 3 * components))
        else:
            dimensions, hidden = domain.dimensions, vector["hidden"]
            self.inside = Sequential(
                context=classes, dimensions=dimensions, features=1, hidden=hidden, outputs=3 * components
            )
            self.first = nn.Parameter(torch.zeros(dimensions, 3 * components))

    def start(self, x: Tensor, labels: Tensor | None = None) -> None:
        """Begin with the mixture that each dimension has in the training set, whatever came before."""
        if self.classes is not None:
            assert labels is not None
            self.classes.start(labels)
        if self.is_image:
            self.pixels.fit(x)
        units = self.pixels.units if self.is_image else self.units
        ends = self.is_image and self.components > 2
        logits, means, deviations = marginal_mixture(x, units, components=self.components - 2 * ends, ends=ends)
        # A logistic of scale s has the standard deviation π s / √3.
        first = torch.cat([logits, means, torch.log(deviations * 3**0.5 / math.pi)])
        self.first.data.copy_(self.pixels.split(first).permute(1, 2, 3, 0) if self.is_image else first.T)
        inside = self.pixels.inside if self.is_image else self.inside
        nn.init.zeros_(inside.outer)
        nn.init.zeros_(inside.third)

    def kernels(self) -> list[nn.Parameter]:
        """What `optimizer.muon` turns: the matrices of an image network, but for those of a block's pixels that have a
        mask or lead to a mixture, and but for dense layers over all places, of which a step would cost more than all
        else, and but for those of the palette and of levels."""
        if not self.is_image:
            return []
        inside = self.pixels.inside
        hidden = [weight for near in self.near for weight in (near.conv.weight, near.out.weight)]
        return [self.stem.weight, self.before.weight, *hidden, inside.context.weight, inside.inner]

    def context(self, blocks: Tensor, one_hot: Tensor | None, of_rows: Tensor | None) -> Tensor:
        """What each block `[N, rows, columns, size]` is told of those before it, of the class and of its row's palette
        `[N, rows, channels]`: `[N, rows, columns, channels]`."""
        described = self.pixels.described(blocks)
        before = functional.pad(described.flatten(1, 2)[:, :-1], (0, 0, 1, 0)).view(described.shape)
        h: Tensor = self.stem(described) + self.before(before) + self.position
        if self.of_class is not None:
            h = h + torch.tensordot(one_hot, self.of_class, dims=1)
        if of_rows is not None:
            h = h + of_rows[:, :, None]
        for near, far in zip(self.near, self.far, strict=True):
            h = far(near(h))
        return h

    def log_probs(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """log p(x_d | x_<d) in nats, a dimension each, in the order that they come in; given the class where there are
        any. Pixels beyond the border of an image of an odd size count 0."""
        one_hot = told(self.classes, labels)
        if self.is_image:
            blocks = self.pixels.split(x)
            edges = of_rows = None
            if self.palette is not None:
                edges, of_rows = self.palette(self.palette.above(blocks.flatten(2)), self.pixels.units.edges)
            context = self.context(blocks, one_hot, of_rows)
            log_probs: Tensor = self.pixels.log_prob(context, blocks, self.first, edges)
            return log_probs
        parameters = self.inside(one_hot, self.units(x)) + self.first
        return LogisticMixture(parameters.transpose(1, 2), self.units).log_prob(x)

    def losses(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """The negative log-likelihood in nats a dimension."""
        return {"loss": -self.log_probs(x, labels).sum(1).mean() / self.domain.dimensions}

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Exact log-probability in nats `[N]` of grid points `[N, *shape]`."""
        return marginal(self.classes, lambda labels: self.log_probs(x, labels).sum(1, dtype=torch.float64), len(x))

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        """Grid points `[n, *shape]`, int64, one dimension after the other."""
        one_hot = told(self.classes, chosen(self.classes, labels, n))
        return self.sample_images(n, one_hot) if self.is_image else self.sample_vectors(n, one_hot)

    def sample_vectors(self, n: int, one_hot: Tensor | None) -> Tensor:
        """Dimension after dimension."""
        x = torch.zeros(n, self.domain.dimensions, dtype=torch.int64, device=self.units.scale.device)
        for d in range(self.domain.dimensions):
            # Every dimension is drawn, from parameters of the one that counts.
            parameters = (self.inside.at(one_hot, self.units(x), d) + self.first[d])[:, :, None]
            x[:, d] = LogisticMixture(parameters.expand(-1, -1, len(self.first)), self.units).sample()[:, d]
        return x

    def sample_images(self, n: int, one_hot: Tensor | None) -> Tensor:
        """Block after block, with all that earlier blocks computed kept."""
        pixels = self.pixels
        start = torch.zeros(n, device=self.units.scale.device)
        counted = pixels.counted()
        size = counted.shape[:2]
        seen = self.stem.buffer(start, *size)
        near_seen = [near.conv.buffer(start, *size) for near in self.near]
        far_seen = [start.new_zeros(n, far.places * far.width) for far in self.far]
        blocks = torch.zeros(n, *counted.shape, dtype=torch.int64, device=start.device)
        before = start.new_zeros(n, pixels.size * pixels.features)
        edges = of_row = None
        of_class = None if self.of_class is None else torch.tensordot(one_hot, self.of_class, dims=1)
        for place in range(size.numel()):
            i, j = divmod(place, size[1])
            if self.palette is not None and j == 0:
                edges, of_row = self.palette(self.palette.count(blocks[:, :i].flatten(1)), pixels.units.edges)
            h = self.stem.at(seen, i, j) + self.before(before) + self.position[i, j]
            if of_class is not None:
                h = h + of_class[:, i, j]
            if of_row is not None:
                h = h + of_row
            for near, far, near_buffer, far_buffer in zip(self.near, self.far, near_seen, far_seen, strict=True):
                h = far.at(far_buffer, near.at(near_buffer, h, i, j), place)
            blocks[:, i, j] = pixels.fill(h, counted[i, j][None], self.first[i, j], edges)
            before = (pixels.describe(blocks[:, i, j]) * counted[i, j, :, None]).flatten(1)
            self.stem.put(seen, before, i, j)
        images: Tensor = pixels.join(blocks)
        return images
