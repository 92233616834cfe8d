"""The convolutions that the project's own extractors share."""

from typing import Annotated

import torch
from annotated_types import Len
from torch import Tensor, nn
from torch.nn import functional

from lookalike.core.domain import Domain
from lookalike.core.likelihood import WorkingUnits
from lookalike.core.ranges import PositiveInt
from lookalike.networks.blocks import reduced

Pair = Annotated[list[PositiveInt], Len(2, 2)]


class Trunk(nn.Module):
    """Three 3x3 convolutions after a 2x2 space-to-depth, then `features` numbers.

    Args:
        domain: images.
        widths: channels at a half and at a quarter of the resolution.
        features: numbers an image is scored by.
        last: what follows the linear layer that makes them.
    """

    def __init__(self, *, domain: Domain, widths: Pair, features: int, last: nn.Module) -> None:
        super().__init__()
        channels, height, width = domain.shape
        self.units = WorkingUnits(domain)
        self.pad = (height % 2, width % 2)
        _, quarter = reduced(height, width)
        fine, coarse = widths
        self.body = nn.Sequential(
            nn.Conv2d(4 * channels, fine, 3, padding=1, bias=False),
            nn.BatchNorm2d(fine),
            nn.ReLU(),
            nn.Conv2d(fine, coarse, 3, padding=1, bias=False),
            nn.BatchNorm2d(coarse),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(coarse, coarse, 3, padding=1, bias=False),
            nn.BatchNorm2d(coarse),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(coarse * quarter[0] * quarter[1], features),
            last,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features `[N, features]` of grid points `[N, C, H, W]`, or of places between them."""
        y = functional.pad(self.units(x), (0, self.pad[1], 0, self.pad[0]), value=-1.0)
        y = functional.pixel_unshuffle(y, 2).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.body(y)
        return features
