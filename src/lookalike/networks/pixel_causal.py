"""An autoregressive model of images: block after block of 2x2 pixels, and pixel after pixel inside a block."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lookalike.distributions.marginal_mixture import marginal_mixture
from lookalike.distributions.palette import Palette
from lookalike.domain.domain import Domain
from lookalike.networks.causal import CausalConv, CausalMixer, CausalResidual
from lookalike.networks.pixels import PixelBlocks

PI_OVER_ROOT_3 = torch.pi / 3**0.5
"""Standard deviation of a logistic distribution of scale 1."""


class PixelsInOrder(nn.Module):
    """A causal network gives each block a context from the blocks before it; inside a block, pixels come in order.

    Gated convolutions look near by; dense masked layers (Germain et al., MADE, 2015, arXiv:1502.03509) look at
    everything before, at the price of one matrix product per image. Inside a block a small network per pixel adds the
    pixels before it.

    Where images are ink on paper, networks see a level by numbers that are learned for it, since 127 and 128 may have
    little in common, and the histogram of the rows above predicts the levels of each row of blocks (`Palette`).

    Args:
        domain: a domain of images.
        classes: number of classes that the network is given; 0 for none.
        components: logistics in each pixel's mixture.
        described: numbers that describe a pixel to networks; more than 3 are learned.
        palette: width of the palette's network; 0 for none.
        channels: width of the causal network.
        depth: number of gated convolutions, each followed by a dense layer.
        mixed: numbers per block that a dense layer mixes; 0 for no dense layers.
        hidden: width of the networks inside a block.
        ink: whether images are ink on paper.
    """

    def __init__(
        self,
        *,
        domain: Domain,
        classes: int,
        components: int,
        described: int,
        palette: int,
        channels: int,
        depth: int,
        mixed: int,
        hidden: int,
        ink: bool,
    ) -> None:
        super().__init__()
        self.components, self.ends = components, ink and components > 2
        self.pixels = PixelBlocks(
            domain=domain, components=components, context=channels, hidden=hidden, described=described, ink=ink
        )
        rows, columns = self.pixels.rows, self.pixels.columns
        inputs = self.pixels.size * described
        # A palette needs two levels between the ends, and a row above another.
        self.palette = (
            Palette(channels=domain.shape[0], levels=domain.levels, hidden=palette, outputs=channels)
            if ink and palette > 0 and domain.levels > 3 and rows > 1
            else None
        )
        self.stem = CausalConv(inputs=inputs, outputs=channels, rows=2, reach=2, itself=False)
        self.before = nn.Linear(inputs, channels, bias=False)
        self.position = nn.Parameter(0.1 * torch.randn(rows, columns, channels))
        self.near: Any = nn.ModuleList(CausalResidual(channels=channels) for _ in range(depth))
        self.far: Any = nn.ModuleList(
            CausalMixer(channels=channels, places=rows * columns, width=mixed) for _ in range(depth if mixed else 0)
        )
        # Per-class bias at every position.
        self.of_class = nn.Parameter(torch.zeros(classes, rows, columns, channels)) if classes else None
        self.first = nn.Parameter(torch.zeros(rows, columns, self.pixels.size, 3 * components))

    def start(self, x: Tensor) -> None:
        """Begin with the mixture that each pixel has in the training set `[N, *shape]`, whatever came before."""
        pixels, tones = self.pixels, self.pixels.tones
        counts = pixels.fit(x)
        values = tones.centres.repeat_interleave(len(counts) // pixels.channels, 0)
        step = torch.full((1,), 1 / tones.scale, device=x.device)
        logits, means, stds = marginal_mixture(
            counts, values, components=self.components - 2 * self.ends, ends=self.ends, step=step
        )
        first = torch.cat([logits, means, torch.log(stds / PI_OVER_ROOT_3)])
        images = first.view(-1, pixels.channels, pixels.height, pixels.width)
        self.first.data.copy_(pixels.split(images).permute(1, 2, 3, 0))
        nn.init.zeros_(pixels.inside.outer)
        nn.init.zeros_(pixels.inside.third)

    def muon_weights(self) -> list[nn.Parameter]:
        """Return the hidden matrices, without those with a mask or before a mixture, dense layers and the palette.

        An orthogonal step of a dense layer over all places would cost more than everything else.
        """
        inside: Any = self.pixels.inside
        weights: list[Any] = [self.stem.weight, self.before.weight]
        for near in self.near:
            weights += [near.conv.weight, near.out.weight]
        return [*weights, inside.context.weight, inside.inner]

    def context(self, blocks: Tensor, one_hot: Tensor | None, of_rows: Tensor | None) -> Tensor:
        """Return the context of each block `[N, rows, columns, size]` from those before it.

        Args:
            blocks: grid points.
            one_hot: classes `[N, classes]`, if any.
            of_rows: what the palette adds to each row, `[N, rows, channels]`, if anything.

        Returns:
            `[N, rows, columns, channels]`.
        """
        described = self.pixels.described(blocks)
        before = functional.pad(described.flatten(1, 2)[:, :-1], (0, 0, 1, 0)).view(described.shape)
        h = self.stem(described) + self.before(before) + self.position
        if self.of_class is not None:
            assert one_hot is not None
            h = h + torch.tensordot(one_hot, self.of_class, dims=1)
        if of_rows is not None:
            h = h + of_rows[:, :, None]
        for i, near in enumerate(self.near):
            h = near(h)
            if self.far:
                h = self.far[i](h)
        context: Tensor = h
        return context

    def by_channel(self, blocks: Tensor) -> Tensor:
        """Return blocks `[N, rows, columns, size]` as pixels `[N, rows, channels, columns * 4]`."""
        pixels: Tensor = blocks.unflatten(3, (self.pixels.channels, 4)).permute(0, 1, 3, 2, 4)
        return pixels.flatten(3)

    def log_probs(self, x: Tensor, one_hot: Tensor | None) -> Tensor:
        """Return log p(x_d | x_<d) in nats, in the order of the pixels; pixels beyond the border count 0."""
        blocks = self.pixels.split(x)
        edges = of_rows = None
        if self.palette is not None:
            edges, of_rows = self.palette(self.palette.above(self.by_channel(blocks)), self.pixels.tones.edges)
        log_prob: Tensor = self.pixels.log_prob(self.context(blocks, one_hot, of_rows), blocks, self.first, edges)
        return log_prob

    def sample(self, n: int, one_hot: Tensor | None) -> Tensor:
        """Draw images `[n, C, H, W]`, int64, block after block; what earlier blocks computed is stored."""
        pixels = self.pixels
        start = self.position.new_zeros(n)
        counted = pixels.counted()
        rows, columns = counted.shape[:2]
        seen = self.stem.buffer(start, rows, columns)
        near_seen = [near.conv.buffer(start, rows, columns) for near in self.near]
        far_seen = [start.new_zeros(n, far.places * far.width) for far in self.far]
        blocks = torch.zeros(n, *counted.shape, dtype=torch.int64, device=start.device)
        before = start.new_zeros(n, pixels.size * pixels.features)
        edges = of_row = None
        of_class = None
        if self.of_class is not None:
            assert one_hot is not None
            of_class = torch.tensordot(one_hot, self.of_class, dims=1)
        for place in range(rows * columns):
            i, j = divmod(place, columns)
            if self.palette is not None and j == 0:
                above = self.by_channel(blocks[:, :i]).transpose(1, 2).flatten(2)
                edges, of_row = self.palette(self.palette.count(above), pixels.tones.edges)
            h = self.stem.at(seen, i, j) + self.before(before) + self.position[i, j]
            if of_class is not None:
                h = h + of_class[:, i, j]
            if of_row is not None:
                h = h + of_row
            for k, near in enumerate(self.near):
                h = near.at(near_seen[k], h, i, j)
                if self.far:
                    h = self.far[k].at(far_seen[k], h, place)
            blocks[:, i, j] = pixels.fill(h, counted[i, j][None], self.first[i, j], edges)
            before = (pixels.describe(blocks[:, i, j], pixels.channel_of) * counted[i, j, :, None]).flatten(1)
            self.stem.put(seen, before, i, j)
        return pixels.join(blocks)
