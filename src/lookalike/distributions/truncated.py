"""Normal distributions cut to intervals: masses, draws and means that stay accurate far out in the tails."""

import math

import torch
from torch import Tensor


def facing_left(low: Tensor, high: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return intervals in standard units, float64, mirrored where they lie right of the centre, and where that is.

    Left of the centre the distribution function keeps all of its digits.
    """
    a, b = ((end.double() - mean) / std for end in (low, high))
    mirrored = a > 0
    return torch.where(mirrored, -b, a), torch.where(mirrored, -a, b), mirrored


def log_mass(low: Tensor, high: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return the log of the mass `[N, D]`, float64, that normal distributions have in intervals."""
    a, b, _ = facing_left(low, high, mean, std)
    upper: Tensor = torch.special.log_ndtr(b)
    return upper + torch.log1p(-torch.exp(torch.special.log_ndtr(a) - upper))


def between(low: Tensor, high: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Draw from normal distributions cut to intervals `[N, D]`."""
    a, b, mirrored = facing_left(low, high, mean, std)
    u = torch.rand_like(a)
    below, above = (torch.exp(torch.special.log_ndtr(end)) for end in (a, b))
    place = torch.special.ndtri(below + u * (above - below))
    # Where the mass underflows, draw from an exponential tail instead.
    beyond = torch.exp(0.5 * (b**2 - a**2))
    tail = -torch.sqrt(b**2 - 2 * torch.log(beyond + (1 - u) * (1 - beyond)))
    place = torch.where(b < -30, tail, place)
    place = torch.minimum(torch.maximum(place, a.clamp(min=-1e4)), b.clamp(max=1e4))
    return (mean + std * torch.where(mirrored, -place, place)).float()


def middle(low: Tensor, high: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return the means `[N, D]` of normal distributions cut to intervals."""
    a, b, mirrored = facing_left(low, high, mean, std)
    upper = torch.special.log_ndtr(b)
    log_inside = upper + torch.log1p(-torch.exp(torch.special.log_ndtr(a) - upper))
    constant = 0.5 * math.log(2 * math.pi)
    place = torch.exp(-0.5 * a**2 - constant - log_inside) - torch.exp(-0.5 * b**2 - constant - log_inside)
    place = torch.minimum(torch.maximum(place, a.clamp(min=-1e4)), b.clamp(max=1e4))
    return (mean + std * torch.where(mirrored, -place, place)).float()
