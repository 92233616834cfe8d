"""Images in blocks of 2x2 pixels, whose pixels come one after the other, given what else is known of the block."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from lookalike.core.domain import Domain
from lookalike.core.likelihood import LogisticMixture, Tones
from lookalike.networks.causal import Sequential


class PixelBlocks(nn.Module):
    """A mixture of discretized logistics for every pixel of a block: of its context, and of the pixels before it.

    Blocks are a quarter of the places that pixels have, with four times as much to do at each. An image of an odd size
    has pixels beyond its border, which are told as 0 and count for nothing.

    Networks and mixtures work in tones, which are those of an even grid until `units.fit` has seen a training set.

    Args:
        domain: of the images.
        components: logistics in a pixel's mixture.
        context: numbers that tell a block what else is known.
        hidden: width of each pixel's network.
    """

    DESCRIBED = 3
    """Numbers that a pixel is described by."""

    def __init__(self, *, domain: Domain, components: int, context: int, hidden: int) -> None:
        super().__init__()
        self.units = Tones(domain)
        channels, self.height, self.width = domain.shape
        self.rows, self.columns = (self.height + 1) // 2, (self.width + 1) // 2
        self.size = 4 * channels
        self.inside = Sequential(
            context=context, dimensions=self.size, features=self.DESCRIBED, hidden=hidden, outputs=3 * components
        )

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
        """What networks are told of pixels `[...]`: `[..., 3]`, the value and whether it is one of the ends, where most
        pixels are."""
        return torch.stack([self.units(x), (x == 0).float(), (x == self.units.levels - 1).float()], dim=-1)

    def described(self, blocks: Tensor) -> Tensor:
        """What networks are told of blocks `[N, rows, columns, size]`: `[N, rows, columns, 3 * size]`."""
        return (self.describe(blocks) * self.counted()[..., None]).flatten(3)

    def log_prob(self, context: Tensor, blocks: Tensor, first: Tensor | None = None) -> Tensor:
        """Log-probability of each pixel in nats, `[N, rows * columns * size]`, 0 beyond the border.

        Args:
            context: `[N, rows, columns, context]`.
            blocks: `[N, rows, columns, size]`.
            first: what the mixtures' parameters are counted from, `[rows, columns, size, 3 * components]`.
        """
        parameters = self.inside(context.flatten(0, 2), self.described(blocks).flatten(0, 2))
        if first is not None:
            parameters = (parameters.unflatten(0, blocks.shape[:3]) + first).flatten(0, 2)
        # All pixels as one long row a parameter, which is how a CPU likes sums over components.
        rows = parameters.permute(2, 1, 0).reshape(1, parameters.shape[2], -1)
        log_prob = LogisticMixture(rows, self.units).log_prob(blocks.flatten(0, 2).T.reshape(1, -1))
        return log_prob.view(self.size, len(blocks), -1).permute(1, 2, 0).flatten(1) * self.counted().flatten()

    def fill(self, context: Tensor, counted: Tensor, first: Tensor | None = None) -> Tensor:
        """Draws the pixels of blocks `[B, size]`, given their contexts `[B, context]`.

        Args:
            context: one a block.
            counted: which pixels are in the image, `[B or 1, size]`.
            first: as above, `[size, 3 * components]`.
        """
        x = torch.zeros(len(context), self.size, dtype=torch.int64, device=context.device)
        described = torch.zeros(len(context), self.size, self.DESCRIBED, device=context.device)
        for d in range(self.size):
            if not counted[:, d].any():
                continue
            parameters = self.inside.at(context, described.flatten(1), d)
            if first is not None:
                parameters = parameters + first[d]
            pixel = LogisticMixture(parameters[:, :, None], self.units).sample()[:, 0]
            x[:, d] = pixel * counted[:, d].long()
            described[:, d] = self.describe(x[:, d]) * counted[:, d, None]
        return x
