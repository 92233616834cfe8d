"""The path from noise to data that diffusion and flow matching share, and what is known about it in closed form.

    y_t = t x + (1 - t) ε,   ε ~ N(0, I),   0 ≤ t ≤ end

The signal-to-noise ratio is e^λ with λ = 2 log(t / (1 - t)). Every Gaussian path is this one, scaled: z_t = α x + σ ε
with α² + σ² = 1 is y_t / √(t² + (1 - t)²), so a statement in λ holds for all of them (Kingma et al., Variational
diffusion models, 2021, arXiv:2107.00630, section 5.1).

Data lie on a grid, and the path ends a little before t = 1, where the noise is a part of a grid step: from there the
grid point follows by Bayes' rule, and no density has to be followed into needles.

A prediction of the data is one of the noise and of the velocity: x = y + (1 - t) v, ε = y - t v.
"""

import math

import torch
from torch import Tensor
from typing_extensions import TypedDict

from lookalike.domain.units import WorkingUnits
from lookalike.workspace.ranges import PositiveFloat, Share, settings

NOISE_AT_THE_END = 0.5
"""In grid steps."""


def shaped(t: Tensor, y: Tensor) -> Tensor:
    """Return times `[N]` in a shape that broadcasts with `[N, *shape]`."""
    return t.view(-1, *[1] * (y.ndim - 1))


def log_snr(t: Tensor) -> Tensor:
    """Return λ of a time."""
    return 2 * (torch.log(t) - torch.log1p(-t))


def time_of(log_snr: Tensor) -> Tensor:
    """Return the time whose λ is given."""
    return torch.sigmoid(log_snr / 2)


@settings
class Times(TypedDict):
    """Training times: `mean` and `std` of a logistic-normal distribution.

    A share `uniform` of a batch covers all noise levels instead, so that no part of the path remains unlearned.
    """

    mean: float
    std: PositiveFloat
    uniform: Share


class Path:
    """Times of a path that ends at a part of a grid step.

    Solvers and samplers take equal steps of another time s, from 0 to 1, with 1 - t = exp(-rate s^BEND): noise shrinks
    by about the same factor in each step. The first steps are smaller, because they decide what a sample becomes.
    Carrying a point along means dy/ds = speed(s) (x̂(y) - y).

    Attributes:
        end: the last time.
        rate: -log(1 - end).
        log_snr: λ at the end.
    """

    BEND = 2.0

    def __init__(self, units: WorkingUnits) -> None:
        noise = NOISE_AT_THE_END / float(units.scale.max())
        self.end = 1 / (1 + noise)
        self.rate = math.log1p(1 / noise)
        self.log_snr = -2 * math.log(noise)

    def time(self, s: Tensor) -> Tensor:
        """Return t of s in [0, 1]."""
        return (-torch.expm1(-self.rate * s**self.BEND)).clamp(0.0, self.end)

    def speed(self, s: Tensor) -> Tensor:
        """Return dt/ds / (1 - t)."""
        return self.rate * self.BEND * s ** (self.BEND - 1)

    def draw(self, count: int, times: Times, device: torch.device) -> Tensor:
        """Draw training times `[count]`, stratified over the batch: the same expectation with less noise."""
        u = (torch.arange(count, device=device) + torch.rand(count, device=device)) / count
        share = times["uniform"]
        normal = torch.special.ndtri(((u - share) / (1 - share)).clamp(1e-4, 1 - 1e-4))
        return torch.where(
            u < share,
            self.time(u / max(share, 1e-6)),
            torch.sigmoid(times["mean"] + times["std"] * normal),
        ).clamp(max=self.end)

    def noisy(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return y_t `[N, *shape]` of data and noise in working units at times `[N]`."""
        t = shaped(t, x)
        return t * x + (1 - t) * noise
