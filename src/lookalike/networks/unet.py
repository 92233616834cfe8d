"""A small U-Net that does its work at a half and a quarter of the image's resolution.

On a CPU a 3x3 convolution at full resolution costs most and says least: four neighbouring pixels that share one
position (space-to-depth) give the same receptive field at a quarter of the positions and keep the vector units busy.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from lookalike.networks.blocks import Residual, reduced
from lookalike.networks.embeddings import FourierTime


class DenseMixer(nn.Module):
    """One hidden layer over all positions and channels at once: what attention does, at 7x7 and at a dense price."""

    def __init__(self, *, channels: int, height: int, width: int, hidden: int) -> None:
        super().__init__()
        size = channels * height * width
        self.norm = nn.GroupNorm(8, channels)
        self.layers = nn.Sequential(nn.Linear(size, hidden), nn.SiLU(), nn.Linear(hidden, size))

    def forward(self, h: Tensor) -> Tensor:
        mixed: Tensor = self.layers(self.norm(h).flatten(1))
        return h + mixed.view(h.shape)


class UNet(nn.Module):
    """`[N, C, H, W]` and times `[N]` to `[N, out_channels, H, W]`, for any height and width.

    What else there is to know is told as numbers `[N, embedding]` that are added to the time's.

    Args:
        shape: (C, H, W) of the input.
        out_channels: channels of the output.
        widths: channels at a half and at a quarter of the resolution.
        depth: residual blocks at each resolution on the way down and on the way up.
        hidden: width of the dense mixing at the lowest resolution.
    """

    def __init__(
        self, *, shape: tuple[int, ...], out_channels: int, widths: list[int], depth: int, hidden: int
    ) -> None:
        super().__init__()
        channels, height, width = shape
        self.pad = (height % 2, width % 2)
        _, quarter = reduced(height, width)
        fine, coarse = widths
        embedding = 2 * coarse
        self.embedding = embedding
        self.time = FourierTime(width=embedding)
        self.stem = nn.Conv2d(4 * channels, fine, 3, padding=1)
        self.down_fine = nn.ModuleList(Residual(channels=fine, condition=embedding) for _ in range(depth))
        self.shrink = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.down_coarse = nn.ModuleList(Residual(channels=coarse, condition=embedding) for _ in range(depth))
        self.mixer = DenseMixer(channels=coarse, height=quarter[0], width=quarter[1], hidden=hidden)
        self.up_coarse = nn.ModuleList(Residual(channels=coarse, condition=embedding) for _ in range(depth))
        self.grow = nn.Conv2d(coarse, fine, 1)
        self.merge = nn.Conv2d(2 * fine, fine, 1)
        self.up_fine = nn.ModuleList(Residual(channels=fine, condition=embedding) for _ in range(depth))
        self.head = nn.Sequential(nn.GroupNorm(8, fine), nn.SiLU(), nn.Conv2d(fine, 4 * out_channels, 3, padding=1))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, t: Tensor, also: Tensor | None = None) -> Tensor:
        height, width = x.shape[-2:]
        condition = functional.silu(self.time(t) if also is None else self.time(t) + also)
        x = functional.pad(x, (0, self.pad[1], 0, self.pad[0]))
        h = functional.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)
        h = self.stem(h)
        for block in self.down_fine:
            h = block(h, condition)
        skip = h
        h = self.shrink(h)
        for block in self.down_coarse:
            h = block(h, condition)
        h = self.mixer(h)
        for block in self.up_coarse:
            h = block(h, condition)
        h = functional.interpolate(self.grow(h), size=skip.shape[-2:], mode="nearest")
        h = self.merge(torch.cat([h, skip], dim=1))
        for block in self.up_fine:
            h = block(h, condition)
        return functional.pixel_shuffle(self.head(h), 2)[:, :, :height, :width]
