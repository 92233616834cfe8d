"""A smoothed histogram a dimension: the distribution of every dimension on its own."""

import math

import torch
from torch import Tensor
from torch.nn import functional

DENSE = 4096
"""Levels up to which the kernel is a matrix: 128 MB."""


def kernel(levels: int, bandwidth: float) -> Tensor:
    """`[levels, levels]`, float64: column c spreads the mass of grid point c, inside the grid."""
    k = torch.arange(levels, dtype=torch.float64)
    if bandwidth == 0:
        return torch.eye(levels, dtype=torch.float64)
    density = torch.exp(-0.5 * ((k[:, None] - k[None, :]) / bandwidth) ** 2)
    return density / density.sum(dim=0)


def convolved(histogram: Tensor, bandwidth: float) -> tuple[Tensor, Tensor]:
    """A histogram `[D, levels]` spread by the kernel, and the share `[levels]` that a grid point keeps of its own.

    The kernel is a matrix where that is small, and cut at nine bandwidths where it is not.
    """
    levels = histogram.shape[1]
    if levels <= DENSE:
        spread = kernel(levels, bandwidth)
        return histogram @ spread.T, spread.diagonal()
    reach = math.ceil(9 * bandwidth)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    window = torch.exp(-0.5 * (offsets / max(bandwidth, 1e-9)) ** 2)[None, None]
    inside = functional.conv1d(torch.ones(1, 1, levels, dtype=torch.float64), window, padding=reach)
    smooth = functional.conv1d((histogram / inside[0])[:, None], window, padding=reach)
    return smooth[:, 0], 1 / inside[0, 0]


def smoothed(x: Tensor, *, levels: int, bandwidths: list[float], uniform: float) -> Tensor:
    """Probabilities `[D, levels]`, float64: the histogram of grid points `[N, *shape]` convolved with a normal kernel.

    Each dimension takes the kernel width with the best leave-one-out likelihood, which is a sum over the histogram's
    bins: no search, no held-out data.

    Args:
        x: what is counted.
        levels: of the grid.
        bandwidths: kernel widths to choose from, in grid points; 0 keeps the histogram as it is.
        uniform: weight of the uniform distribution in the mixture, so that no value has probability zero.
    """
    flat = x.flatten(1).long()
    n, dimensions = flat.shape
    offsets = torch.arange(dimensions) * levels
    counts = torch.bincount((flat + offsets).flatten(), minlength=dimensions * levels)
    histogram = counts.view(-1, levels).double()
    best = torch.full((dimensions,), -torch.inf, dtype=torch.float64)
    probs = torch.empty_like(histogram)
    for bandwidth in bandwidths:
        smooth, own = convolved(histogram, bandwidth)
        others = (smooth - own) / max(n - 1, 1)
        left_out = torch.log(uniform / levels + (1 - uniform) * others.clamp(min=0))
        score = (histogram * left_out).sum(dim=1)
        better = score > best
        best = torch.where(better, score, best)
        probs[better] = smooth[better] / n
    return uniform / levels + (1 - uniform) * probs
