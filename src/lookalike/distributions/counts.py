"""Count how often each grid point occurs at each place of a training set."""

import torch
from torch import Tensor

CHUNK = 4096
"""Observations that are counted at a time."""


def place_counts(x: Tensor, *, levels: int) -> Tensor:
    """Return counts `[places, levels]`, int64, of grid points `[N, *shape]`, which may be mapped from a file."""
    places = x[0].numel()
    offsets = torch.arange(places, device=x.device) * levels
    counts = torch.zeros(places * levels, dtype=torch.int64, device=x.device)
    for chunk in x.split(CHUNK):
        counts += torch.bincount((chunk.flatten(1).long() + offsets).flatten(), minlength=len(counts))
    return counts.view(places, levels)
