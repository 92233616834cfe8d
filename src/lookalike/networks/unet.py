"""A small U-Net that does its work at a half of the image's resolution and below.

On a CPU a 3x3 convolution at full resolution costs most and adds least: four neighbouring pixels that share one
position (space-to-depth) give the same receptive field at a quarter of the positions and keep the vector units busy.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from lookalike.networks.blocks import Stage, halvings
from lookalike.networks.embeddings import FourierTime


class DenseMixer(nn.Module):
    """One hidden layer over all positions and channels at once: the role of attention, at a dense price."""

    def __init__(self, *, channels: int, height: int, width: int, hidden: int) -> None:
        super().__init__()
        size = channels * height * width
        self.norm = nn.GroupNorm(8, channels)
        self.layers = nn.Sequential(nn.Linear(size, hidden), nn.SiLU(), nn.Linear(hidden, size))

    def forward(self, h: Tensor) -> Tensor:
        """Map `[N, channels, H, W]` to the same shape."""
        mixed: Tensor = self.layers(self.norm(h).flatten(1))
        return h + mixed.view(h.shape)


class UNet(nn.Module):
    """Map images `[N, C, H, W]` and times `[N]` to `[N, out_channels, H, W]`, for any height and width.

    Args:
        shape: (C, H, W) of the input.
        out_channels: channels of the output.
        widths: channels at a half, a quarter, … of the resolution.
        depth: residual blocks at each resolution on the way down and on the way up.
        hidden: width of the dense layer at the lowest resolution.

    Attributes:
        embedding: width of the time's embedding, to which other conditions are added.
    """

    def __init__(
        self, *, shape: tuple[int, ...], out_channels: int, widths: list[int], depth: int, hidden: int
    ) -> None:
        super().__init__()
        channels, height, width = shape
        self.pad = (0, width % 2, 0, height % 2)
        rows, columns = halvings(height, width, len(widths))[-1]
        self.embedding = 2 * widths[-1]
        self.time = FourierTime(width=self.embedding)
        self.stem = nn.Conv2d(4 * channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(Stage(channels=c, depth=depth, condition=self.embedding) for c in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.mixer = DenseMixer(channels=widths[-1], height=rows, width=columns, hidden=hidden)
        self.up = nn.ModuleList(Stage(channels=c, depth=depth, condition=self.embedding) for c in widths)
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.merge = nn.ModuleList(nn.Conv2d(2 * a, a, 1) for a, _ in pairwise(widths))
        fine = widths[0]
        self.head = nn.Sequential(nn.GroupNorm(8, fine), nn.SiLU(), nn.Conv2d(fine, 4 * out_channels, 3, padding=1))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, t: Tensor, also: Tensor | None = None) -> Tensor:
        """Return the output given times `[N]` and what is added to their embedding, `[N, embedding]`, if anything."""
        height, width = x.shape[-2:]
        condition = functional.silu(self.time(t) if also is None else self.time(t) + also)
        blocks = functional.pixel_unshuffle(functional.pad(x, self.pad), 2)
        h = self.down[0](self.stem(blocks.contiguous(memory_format=torch.channels_last)), condition)
        skips = []
        for shrink, stage in zip(self.shrink, list(self.down)[1:], strict=True):
            skips.append(h)
            h = stage(shrink(h), condition)
        h = self.up[-1](self.mixer(h), condition)
        for i in reversed(range(len(skips))):
            h = functional.interpolate(self.grow[i](h), size=skips[i].shape[-2:], mode="nearest")
            h = self.up[i](self.merge[i](torch.cat([h, skips[i]], dim=1)), condition)
        return functional.pixel_shuffle(self.head(h), 2)[:, :, :height, :width]
