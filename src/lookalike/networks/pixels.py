"""Images in blocks of 2x2 pixels, whose pixels come one after the other, given what else is known of the block."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from lookalike.core.domain import Domain
from lookalike.core.likelihood import LogisticMixture, OwnTones, Tones
from lookalike.networks.causal import Sequential


class PixelBlocks(nn.Module):
    """A mixture of discretized logistics for every pixel of a block: of its context, and of the pixels before it.

    Blocks are a quarter of the places that pixels have, with four times as much to do at each. An image of an odd size
    has pixels beyond its border, which are told as 0 and count for nothing.

    Networks and mixtures work in tones, which are those of an even grid until `fit` has seen a training set.

    Args:
        domain: of the images.
        components: logistics in a pixel's mixture.
        context: numbers that tell a block what else is known.
        hidden: width of each pixel's network.
        described: numbers that a pixel is described by, at least three: its value, and whether it is one of the two
            ends, where most pixels are. More than these are learned, all of them, for each level of grey.
    """

    def __init__(self, *, domain: Domain, components: int, context: int, hidden: int, described: int) -> None:
        super().__init__()
        self.units, self.features = Tones(domain), described
        self.look = nn.Parameter(torch.empty(domain.levels, described)) if described > 3 else None
        self.start()
        channels, self.height, self.width = domain.shape
        self.rows, self.columns = (self.height + 1) // 2, (self.width + 1) // 2
        self.size = 4 * channels
        self.inside = Sequential(
            context=context, dimensions=self.size, features=described, hidden=hidden, outputs=3 * components
        )

    def fit(self, x: Tensor) -> None:
        """Learn the tones of a training set `[N, *shape]`, and start with descriptions in them."""
        self.units.fit(x)
        self.start()

    def start(self) -> None:
        """Let what is learned of levels begin with the three numbers, and waves over all tones, the longest first."""
        if self.look is None:
            return
        levels = torch.arange(self.units.levels, device=self.look.device)
        tones = self.units(levels)
        phase = 2 * math.pi * (tones - tones[0]) / (tones[-1] - tones[0])
        waves = [(torch.sin, torch.cos)[i % 2](2 ** (i // 2) * phase) / 2 for i in range(self.look.shape[1] - 3)]
        self.look.data.copy_(torch.cat([self.plain(levels), torch.stack(waves, dim=-1)], dim=-1))

    def split(self, x: Tensor) -> Tensor:
        """Images `[N, C, H, W]` as blocks `[N, rows, columns, size]`, 0 beyond the border."""
        padding = (0, self.width % 2, 0, self.height % 2)
        return functional.pixel_unshuffle(functional.pad(x, padding), 2).permute(0, 2, 3, 1).contiguous()

    def join(self, blocks: Tensor) -> Tensor:
        """Blocks `[N, rows, columns, size]` as images."""
        return functional.pixel_shuffle(blocks.permute(0, 3, 1, 2), 2)[:, :, : self.height, : self.width]

    def counted(self) -> Tensor:
        """1 for pixels of the image, 0 beyond its border, `[rows, columns, size]`."""
        return self.split(torch.ones(1, self.size // 4, self.height, self.width, device=self.units.scale.device))[0]

    def describe(self, x: Tensor) -> Tensor:
        """What networks are told of pixels `[...]`: `[..., described]`."""
        return self.plain(x) if self.look is None else functional.embedding(x.long(), self.look)

    def plain(self, x: Tensor) -> Tensor:
        """The value of pixels `[...]` and whether it is one of the ends: `[..., 3]`."""
        return torch.stack([self.units(x), (x == 0).float(), (x == self.units.levels - 1).float()], dim=-1)

    def described(self, blocks: Tensor) -> Tensor:
        """What networks are told of blocks `[N, rows, columns, size]`: `[N, rows, columns, described * size]`."""
        return (self.describe(blocks) * self.counted()[..., None]).flatten(3)

    def log_prob(
        self, context: Tensor, blocks: Tensor, first: Tensor | None = None, edges: Tensor | None = None
    ) -> Tensor:
        """Log-probability of each pixel in nats, `[N, rows * columns * size]`, 0 beyond the border.

        Args:
            context: `[N, rows, columns, context]`.
            blocks: `[N, rows, columns, size]`.
            first: what the mixtures' parameters are counted from, `[rows, columns, size, 3 * components]`.
            edges: of the intervals that grid points own, where a row has its own, `[N, rows, levels + 1]`.
        """
        parameters = self.inside(context.flatten(0, 2), self.described(blocks).flatten(0, 2))
        if first is not None:
            parameters = (parameters.unflatten(0, blocks.shape[:3]) + first).flatten(0, 2)
        # All pixels that share units as one long row a parameter, which is how a CPU likes sums over components.
        units = self.units if edges is None else OwnTones(edges.flatten(0, 1))
        alike = 1 if edges is None else len(blocks) * self.rows
        rows = parameters.unflatten(0, (alike, -1)).permute(0, 3, 1, 2).flatten(2)
        log_prob = LogisticMixture(rows, units).log_prob(blocks.reshape(alike, -1))
        return log_prob.view(len(blocks), -1) * self.counted().flatten()

    def fill(
        self, context: Tensor, counted: Tensor, first: Tensor | None = None, edges: Tensor | None = None
    ) -> Tensor:
        """Draws the pixels of blocks `[B, size]`, given their contexts `[B, context]`.

        Args:
            context: one a block.
            counted: which pixels are in the image, `[B or 1, size]`.
            first: as above, `[size, 3 * components]`.
            edges: as above, `[B, levels + 1]`.
        """
        x = torch.zeros(len(context), self.size, dtype=torch.int64, device=context.device)
        described = torch.zeros(len(context), self.size, self.features, device=context.device)
        units = self.units if edges is None else OwnTones(edges)
        for d in range(self.size):
            if not counted[:, d].any():
                continue
            parameters = self.inside.at(context, described.flatten(1), d)
            if first is not None:
                parameters = parameters + first[d]
            pixel = LogisticMixture(parameters[:, :, None], units).sample()[:, 0]
            x[:, d] = pixel * counted[:, d].long()
            described[:, d] = self.describe(x[:, d]) * counted[:, d, None]
        return x
