"""A convolutional encoder and decoder between an image and a flat code, at a half and a quarter of its resolution."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from lookalike.networks.blocks import Residual, reduced


class Encoder(nn.Module):
    """Images `[N, C, H, W]` to codes `[N, features]`."""

    def __init__(self, *, shape: tuple[int, ...], widths: list[int], depth: int, features: int) -> None:
        super().__init__()
        channels, height, width = shape
        self.pad = (height % 2, width % 2)
        _, quarter = reduced(height, width)
        fine, coarse = widths
        self.stem = nn.Conv2d(4 * channels, fine, 3, padding=1)
        self.fine = nn.ModuleList(Residual(channels=fine, condition=None) for _ in range(depth))
        self.shrink = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.coarse = nn.ModuleList(Residual(channels=coarse, condition=None) for _ in range(depth))
        self.head = nn.Linear(coarse * quarter[0] * quarter[1], features)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        x = functional.pad(x, (0, self.pad[1], 0, self.pad[0]))
        h = self.stem(functional.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last))
        for block in self.fine:
            h = block(h, None)
        h = self.shrink(h)
        for block in self.coarse:
            h = block(h, None)
        code: Tensor = self.head(functional.silu(h).flatten(1))
        return code


class Decoder(nn.Module):
    """Codes `[N, features]` to what blocks of 2x2 pixels are told, `[N, outputs, rows, columns]`."""

    def __init__(self, *, features: int, shape: tuple[int, ...], outputs: int, widths: list[int], depth: int) -> None:
        super().__init__()
        self.finer, self.coarser = reduced(*shape[1:])
        fine, coarse = widths
        self.stem = nn.Linear(features, coarse * self.coarser[0] * self.coarser[1])
        self.coarse = nn.ModuleList(Residual(channels=coarse, condition=None) for _ in range(depth))
        self.grow = nn.Conv2d(coarse, 4 * fine, 1)
        self.fine = nn.ModuleList(Residual(channels=fine, condition=None) for _ in range(depth))
        self.head = nn.Sequential(nn.GroupNorm(8, fine), nn.SiLU(), nn.Conv2d(fine, outputs, 3, padding=1))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, code: Tensor) -> Tensor:
        h = self.stem(code).unflatten(1, (-1, *self.coarser)).contiguous(memory_format=torch.channels_last)
        for block in self.coarse:
            h = block(h, None)
        h = functional.pixel_shuffle(self.grow(h), 2)[:, :, : self.finer[0], : self.finer[1]]
        h = h.contiguous(memory_format=torch.channels_last)
        for block in self.fine:
            h = block(h, None)
        out: Tensor = self.head(h)
        return out


def as_pixels(blocks: Tensor, height: int, width: int) -> Tensor:
    """Blocks `[N, 4 * channels, rows, columns]` as images `[N, channels, height, width]`."""
    return functional.pixel_shuffle(blocks, 2)[:, :, :height, :width]
