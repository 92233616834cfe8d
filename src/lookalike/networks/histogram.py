"""A smoothed histogram a dimension: the distribution of every dimension on its own."""

import torch
from torch import Tensor


def kernel(levels: int, bandwidth: float) -> Tensor:
    """`[levels, levels]`, float64: column c spreads the mass of grid point c, inside the grid."""
    k = torch.arange(levels, dtype=torch.float64)
    if bandwidth == 0:
        return torch.eye(levels, dtype=torch.float64)
    density = torch.exp(-0.5 * ((k[:, None] - k[None, :]) / bandwidth) ** 2)
    return density / density.sum(dim=0)


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
        spread = kernel(levels, bandwidth)
        smooth = histogram @ spread.T
        others = (smooth - spread.diagonal()) / max(n - 1, 1)
        left_out = torch.log(uniform / levels + (1 - uniform) * others.clamp(min=0))
        score = (histogram * left_out).sum(dim=1)
        better = score > best
        best = torch.where(better, score, best)
        probs[better] = smooth[better] / n
    return uniform / levels + (1 - uniform) * probs
