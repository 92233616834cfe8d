"""A convolutional encoder and decoder between an image and a flat code, at halved resolutions."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from lookalike.networks.blocks import Stage, halvings


class Encoder(nn.Module):
    """Map images `[N, C, H, W]` to codes `[N, features]`.

    Args:
        shape: (C, H, W) of an image, of any size.
        widths: channels at a half, a quarter, … of the resolution.
        depth: residual blocks at each resolution.
        features: numbers in the code.
        classes: classes that the encoder is given as `[N, classes]`; 0 for none.
    """

    def __init__(
        self, *, shape: tuple[int, ...], widths: list[int], depth: int, features: int, classes: int = 0
    ) -> None:
        super().__init__()
        channels, height, width = shape
        self.pad = (0, width % 2, 0, height % 2)
        rows, columns = halvings(height, width, len(widths))[-1]
        self.stem = nn.Conv2d(4 * channels, widths[0], 3, padding=1)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.stages = nn.ModuleList(Stage(channels=channels, depth=depth) for channels in widths)
        self.head = nn.Linear(widths[-1] * rows * columns, features)
        self.shift = nn.Linear(classes, features) if classes else None
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, one_hot: Tensor | None = None) -> Tensor:
        """Return the codes of images in working units, given their classes, if any."""
        blocks = functional.pixel_unshuffle(functional.pad(x, self.pad), 2)
        h = self.stages[0](self.stem(blocks.contiguous(memory_format=torch.channels_last)))
        for shrink, stage in zip(self.shrink, list(self.stages)[1:], strict=True):
            h = stage(shrink(h))
        code: Tensor = self.head(functional.silu(h).flatten(1))
        return code if self.shift is None else code + self.shift(one_hot)


class Decoder(nn.Module):
    """Map codes `[N, features]` to one vector per block of 2x2 pixels, `[N, outputs, rows, columns]`.

    Args:
        features: numbers in the code.
        shape: (C, H, W) of an image, of any size.
        outputs: numbers per block.
        widths: channels at a half, a quarter, … of the resolution.
        depth: residual blocks at each resolution.
    """

    def __init__(self, *, features: int, shape: tuple[int, ...], outputs: int, widths: list[int], depth: int) -> None:
        super().__init__()
        self.sizes = halvings(shape[1], shape[2], len(widths))
        rows, columns = self.sizes[-1]
        self.stem = nn.Linear(features, widths[-1] * rows * columns)
        self.stages = nn.ModuleList(Stage(channels=channels, depth=depth) for channels in widths)
        self.grow = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairwise(widths))
        self.head = nn.Sequential(nn.GroupNorm(8, widths[0]), nn.SiLU(), nn.Conv2d(widths[0], outputs, 3, padding=1))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, code: Tensor) -> Tensor:
        """Return one vector per block."""
        h = self.stem(code).unflatten(1, (-1, *self.sizes[-1])).contiguous(memory_format=torch.channels_last)
        h = self.stages[-1](h)
        for i in reversed(range(len(self.grow))):
            rows, columns = self.sizes[i]
            h = functional.pixel_shuffle(self.grow[i](h), 2)[:, :, :rows, :columns]
            h = self.stages[i](h.contiguous(memory_format=torch.channels_last))
        out: Tensor = self.head(h)
        return out


def as_pixels(blocks: Tensor, height: int, width: int) -> Tensor:
    """Return blocks `[N, 4 * channels, rows, columns]` as images `[N, channels, height, width]`."""
    return functional.pixel_shuffle(blocks, 2)[:, :, :height, :width]
