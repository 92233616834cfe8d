"""A smoothed histogram per place: the distribution of every place on its own."""

import math

import torch
from torch import Tensor
from torch.nn import functional

DENSE = 4096
"""Largest number of levels for which the kernel is a matrix, of 128 MB."""


def kernel(levels: int, bandwidth: float) -> Tensor:
    """Return the smoothing matrix `[levels, levels]`, float64; column c spreads the mass of grid point c."""
    k = torch.arange(levels, dtype=torch.float64)
    if bandwidth == 0:
        return torch.eye(levels, dtype=torch.float64)
    density = torch.exp(-0.5 * ((k[:, None] - k[None, :]) / bandwidth) ** 2)
    return density / density.sum(dim=0)


def convolved(histogram: Tensor, bandwidth: float) -> tuple[Tensor, Tensor]:
    """Return a histogram `[D, levels]` spread by the kernel, and the share `[levels]` that a grid point keeps.

    The kernel is a matrix where that is small, and cut off at nine bandwidths otherwise.
    """
    levels = histogram.shape[1]
    if levels <= DENSE:
        matrix = kernel(levels, bandwidth).to(histogram.device)
        return histogram @ matrix.T, matrix.diagonal()
    reach = math.ceil(9 * bandwidth)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64, device=histogram.device)
    window = torch.exp(-0.5 * (offsets / max(bandwidth, 1e-9)) ** 2)[None, None]
    inside = functional.conv1d(histogram.new_ones(1, 1, levels), window, padding=reach)
    smooth = functional.conv1d((histogram / inside[0])[:, None], window, padding=reach)
    return smooth[:, 0], 1 / inside[0, 0]


def smoothed(counts: Tensor, *, bandwidths: list[float], uniform: float) -> Tensor:
    """Return probabilities `[D, levels]`, float64: histograms convolved with a normal kernel.

    Every place takes the kernel width with the best leave-one-out likelihood. That is a sum over the histogram's bins,
    so it needs neither a search nor held-out data.

    Args:
        counts: how often each grid point occurs at each place, `[D, levels]`.
        bandwidths: kernel widths to choose from, in grid points; 0 keeps the histogram as it is.
        uniform: weight of the uniform distribution in the result, so that no grid point has probability zero.
    """
    places, levels = counts.shape
    histogram = counts.double()
    n = int(counts[0].sum())
    best = torch.full((places,), -torch.inf, dtype=torch.float64, device=counts.device)
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
