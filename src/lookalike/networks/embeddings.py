"""Embeddings of a scalar: how a network is given the time on a probability path."""

import math

import torch
from torch import Tensor, nn


class FourierTime(nn.Module):
    """Sinusoidal features of a time in [0, 1], then a two-layer network.

    Frequencies are geometric between 1 and `highest` periods over the unit interval
    (Vaswani et al., Attention Is All You Need, 2017, section 3.5, on a continuous axis).
    """

    frequencies: Tensor

    def __init__(self, *, width: int, features: int = 32, highest: float = 100.0) -> None:
        super().__init__()
        periods = torch.exp(torch.linspace(0.0, math.log(highest), features))
        self.register_buffer("frequencies", 2 * math.pi * periods, persistent=False)
        self.layers = nn.Sequential(nn.Linear(2 * features, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """Map times `[N]` to embeddings `[N, width]`."""
        angles = t[:, None] * self.frequencies
        embedding: Tensor = self.layers(torch.cat([angles.sin(), angles.cos()], dim=1))
        return embedding
