"""Images in blocks of 2x2 pixels, whose pixels come one after the other, given a context of the block."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from lookalike.distributions.counts import place_counts
from lookalike.distributions.logistics import LogisticMixture
from lookalike.distributions.tones import Intervals, Tones
from lookalike.domain.domain import Domain
from lookalike.networks.causal import Sequential

MANY = 0.1
"""Share of pixels on the two ends of the grid from which on images count as ink on paper."""


def has_ink(domain: Domain, setting: bool | None) -> bool:
    """Return whether pixels are modelled as ink on paper: as the setting says, or as the training data do if None.

    Drawings, scans and icons have many pixels on the two ends of the grid and few, spiky levels between; photographs
    have neither.
    """
    return setting if setting is not None else max(variable.at_ends for variable in domain.ordered) >= MANY


class PixelBlocks(nn.Module):
    """A mixture of discretized logistics for every pixel of a block, given a context and the pixels before it.

    Blocks are a quarter of the places that pixels have, with four times as much to do at each, and all channels of a
    block's pixels belong to it. An image of an odd size has pixels beyond its border, which are 0 for the networks and
    count for nothing.

    Args:
        domain: a domain of images.
        components: logistics in a pixel's mixture.
        context: width of the context of a block.
        hidden: width of each pixel's network.
        described: numbers that describe a pixel to networks, at least three: its value, and whether it is one of the
            two ends of the grid. More than three are learned, all of them, for each level.
        ink: whether intervals are as wide as levels are common in the training set (`Tones`).
    """

    channel_of: Tensor

    def __init__(
        self, *, domain: Domain, components: int, context: int, hidden: int, described: int, ink: bool
    ) -> None:
        super().__init__()
        self.channels, self.height, self.width = domain.shape
        self.levels, self.features, self.ink = domain.levels, described, ink
        self.rows, self.columns = (self.height + 1) // 2, (self.width + 1) // 2
        self.size = 4 * self.channels
        self.tones = Tones(domain)
        self.register_buffer("channel_of", torch.arange(self.size) // 4, persistent=False)
        self.look = nn.Parameter(torch.empty(self.channels * domain.levels, described)) if described > 3 else None
        self.begin()
        self.inside = Sequential(
            context=context, dimensions=self.size, features=described, hidden=hidden, outputs=3 * components
        )

    def fit(self, x: Tensor) -> Tensor:
        """Learn the tones of a training set `[N, *shape]`; return how often each level occurs at each place."""
        counts = place_counts(x, levels=self.levels)
        if self.ink:
            self.tones.fit(counts.view(self.channels, -1, self.levels).sum(1))
        self.begin()
        return counts

    def begin(self) -> None:
        """Let what is learned of levels begin with three numbers and waves over all tones, the longest first."""
        if self.look is None:
            return
        centres = self.tones.centres
        levels = torch.arange(self.levels, device=centres.device).expand(self.channels, -1)
        phase = 2 * math.pi * (centres - centres[:, :1]) / (centres[:, -1:] - centres[:, :1])
        waves = [(torch.sin, torch.cos)[i % 2](2 ** (i // 2) * phase) / 2 for i in range(self.features - 3)]
        channels = torch.arange(self.channels, device=centres.device)[:, None]
        start = torch.cat([self.plain(levels, channels), torch.stack(waves, dim=-1)], dim=-1)
        self.look.data.copy_(start.flatten(0, 1))

    def split(self, x: Tensor) -> Tensor:
        """Return images `[N, C, H, W]` as blocks `[N, rows, columns, size]`, channel by channel, padded with 0."""
        padded = functional.pad(x, (0, self.width % 2, 0, self.height % 2))
        return functional.pixel_unshuffle(padded, 2).permute(0, 2, 3, 1).contiguous()

    def join(self, blocks: Tensor) -> Tensor:
        """Return blocks `[N, rows, columns, size]` as images."""
        return functional.pixel_shuffle(blocks.permute(0, 3, 1, 2), 2)[:, :, : self.height, : self.width]

    def counted(self) -> Tensor:
        """Return 1 for pixels of the image and 0 beyond its border, `[rows, columns, size]`."""
        return self.split(self.tones.edges.new_ones(1, self.channels, self.height, self.width))[0]

    def describe(self, x: Tensor, channels: Tensor) -> Tensor:
        """Describe pixels `[...]` of channels (that broadcast with them) to networks: `[..., described]`."""
        if self.look is None:
            return self.plain(x, channels)
        return functional.embedding(x.long() + channels * self.levels, self.look)

    def plain(self, x: Tensor, channels: Tensor) -> Tensor:
        """Return the tone of pixels `[...]` and whether it is one of the ends: `[..., 3]`."""
        tones = self.tones.centres.flatten()[x.long() + channels * self.levels]
        return torch.stack([tones, (x == 0).float(), (x == self.levels - 1).float()], dim=-1)

    def described(self, blocks: Tensor) -> Tensor:
        """Describe blocks `[N, rows, columns, size]` to networks: `[N, rows, columns, described * size]`."""
        return (self.describe(blocks, self.channel_of) * self.counted()[..., None]).flatten(3)

    def log_prob(
        self, context: Tensor, blocks: Tensor, first: Tensor | None = None, edges: Tensor | None = None
    ) -> Tensor:
        """Return the log-probability in nats of each pixel, `[N, rows * columns * size]`, 0 beyond the border.

        Args:
            context: `[N, rows, columns, context]`.
            blocks: `[N, rows, columns, size]`.
            first: offset of the mixtures' parameters, `[rows, columns, size, 3 * components]`.
            edges: edges of the intervals of a row's own palette, `[N, rows, channels, levels + 1]`.
        """
        parameters = self.inside(context.flatten(0, 2), self.described(blocks).flatten(0, 2))
        if first is not None:
            parameters = (parameters.unflatten(0, blocks.shape[:3]) + first).flatten(0, 2)
        # All pixels with the same intervals form one long row per parameter: sums over components are then fast.
        groups = 1 if edges is None else len(blocks) * self.rows
        shape = (groups, -1, self.channels, 4)
        rows = parameters.view(*shape, parameters.shape[-1]).permute(0, 2, 4, 1, 3).reshape(
            groups * self.channels, parameters.shape[-1], -1
        )  # fmt: skip
        x = blocks.view(shape).permute(0, 2, 1, 3).reshape(groups * self.channels, -1)
        units = Intervals(self.tones.edges if edges is None else edges.flatten(0, 2))
        log_prob = LogisticMixture(rows, units).log_prob(x).view(groups, self.channels, -1, 4).permute(0, 2, 1, 3)
        return log_prob.reshape(len(blocks), -1) * self.counted().flatten()

    def fill(
        self, context: Tensor, counted: Tensor, first: Tensor | None = None, edges: Tensor | None = None
    ) -> Tensor:
        """Draw the pixels of blocks `[B, size]`, int64, given their contexts `[B, context]`.

        Args:
            context: one per block.
            counted: which pixels are in the image, `[B or 1, size]`.
            first: offset of the mixtures' parameters, `[size, 3 * components]`.
            edges: edges of the intervals of each block's own palette, `[B, channels, levels + 1]`.
        """
        x = torch.zeros(len(context), self.size, dtype=torch.int64, device=context.device)
        described = torch.zeros(len(context), self.size, self.features, device=context.device)
        for d in range(self.size):
            parameters = self.inside.at(context, described.flatten(1), d)
            if first is not None:
                parameters = parameters + first[d]
            if edges is None:
                units = Intervals(self.tones.edges[d // 4][None])
                pixel = LogisticMixture(parameters.T[None], units).sample()[0]
            else:
                pixel = LogisticMixture(parameters[:, :, None], Intervals(edges[:, d // 4])).sample()[:, 0]
            x[:, d] = pixel * counted[:, d].long()
            described[:, d] = self.describe(x[:, d], self.channel_of[d]) * counted[:, d, None]
        return x
