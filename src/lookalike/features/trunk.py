"""The convolutional network that the project's own extractors share."""

from typing import Annotated

import torch
from annotated_types import Len
from torch import Tensor, nn
from torch.nn import functional

from lookalike.domain.domain import Domain
from lookalike.domain.units import WorkingUnits
from lookalike.networks.blocks import halvings, kernels_between_equals
from lookalike.workspace.ranges import PositiveInt

Pair = Annotated[list[PositiveInt], Len(2, 2)]


class Trunk(nn.Module):
    """Three 3x3 convolutions after a 2x2 space-to-depth, then a linear layer.

    Args:
        domain: a domain of images.
        widths: channels at a half and at a quarter of the resolution.
        features: number of features per image.
        last: module after the linear layer.
    """

    def __init__(self, *, domain: Domain, widths: Pair, features: int, last: nn.Module) -> None:
        super().__init__()
        channels, height, width = domain.shape
        self.units = WorkingUnits(domain)
        self.pad = (height % 2, width % 2)
        quarter = halvings(height, width, 2)[-1]
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

    def muon_weights(self) -> list[nn.Parameter]:
        """Return the weights that take orthogonal steps."""
        return kernels_between_equals(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return features `[N, features]` of grid points `[N, C, H, W]`, or of places between them."""
        y = functional.pad(self.units(x), (0, self.pad[1], 0, self.pad[0]), mode="replicate")
        y = functional.pixel_unshuffle(y, 2).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.body(y)
        return features
