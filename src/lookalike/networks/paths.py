"""The path from noise to data that diffusion and flow matching share, and what is known of it in closed form.

    y_t = t x + (1 - t) ε,   ε ~ N(0, I),   0 ≤ t ≤ end

The signal-to-noise ratio is e^λ with λ = 2 log(t / (1 - t)). Every Gaussian path is this one, scaled: z_t = α x + σ ε
with α² + σ² = 1 is y_t / √(t² + (1 - t)²), so whatever is said in λ is said of all of them (Kingma et al., Variational
diffusion models, 2021, arXiv:2107.00630, section 5.1).

Data lie on a grid, and the path ends a little before t = 1, where noise is a part of a grid step: from there the grid
point follows by Bayes' rule, and no density has to be followed into needles.

A prediction of the data is one of the noise and of the velocity: x = y + (1 - t) v, ε = y - t v.
"""

import math

import torch
from torch import Tensor
from typing_extensions import TypedDict

from lookalike.core.likelihood import WorkingUnits
from lookalike.core.ranges import PositiveFloat, Share, settings

NOISE_AT_THE_END = 0.5
"""In grid steps."""


def shaped(t: Tensor, y: Tensor) -> Tensor:
    """Times `[N]` so that they go with `[N, *shape]`."""
    return t.view(-1, *[1] * (y.ndim - 1))


def log_snr(t: Tensor) -> Tensor:
    """λ of a time."""
    return 2 * (torch.log(t) - torch.log1p(-t))


def time_of(log_snr: Tensor) -> Tensor:
    """The time that has a λ."""
    return torch.sigmoid(log_snr / 2)


@settings
class Times(TypedDict):
    """Training times: `mean` and `spread` of a logistic-normal distribution; a share `uniform` of a batch is spread
    over all noise levels instead, so that no part of the path goes unlearned."""

    mean: float
    spread: PositiveFloat
    uniform: Share


class Path:
    """Times of a path that ends at a part of a grid step.

    Solvers and samplers take equal steps of another time s, from 0 to 1, with 1 - t = exp(-rate s^BEND): noise shrinks
    by about the same factor in each step, but for the first ones, which are smaller, since that is where it is decided
    what a sample becomes. Carrying a point along means dy/ds = speed(s) (x̂(y) - y).

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
        """t of s in [0, 1]."""
        return (-torch.expm1(-self.rate * s**self.BEND)).clamp(0.0, self.end)

    def speed(self, s: Tensor) -> Tensor:
        """dt/ds / (1 - t)."""
        return self.rate * self.BEND * s ** (self.BEND - 1)

    def draw(self, count: int, times: Times, device: torch.device) -> Tensor:
        """Training times `[count]`, stratified over the batch: the same expectation, less noise."""
        u = (torch.arange(count, device=device) + torch.rand(count, device=device)) / count
        share = times["uniform"]
        normal = torch.special.ndtri(((u - share) / (1 - share)).clamp(1e-4, 1 - 1e-4))
        return torch.where(
            u < share,
            self.time(u / max(share, 1e-6)),
            torch.sigmoid(times["mean"] + times["spread"] * normal),
        ).clamp(max=self.end)

    def noisy(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """y_t `[N, *shape]` of data and noise in working units at times `[N]`."""
        t = shaped(t, x)
        return t * x + (1 - t) * noise


class Posterior:
    """What is known of x when y_t is seen, if every dimension of x had a mixture of normal distributions before.

    A network says the mixture, from all dimensions of y_t; Bayes' rule adds what a dimension's own y_t tells of it: at
    the start of the path nothing, at its end all. That much need not be learned, and is exact.

    Args:
        logits, means, variances: of the components, each `[N, components, *shape]`, in working units.
        y: `[N, *shape]`.
        t: times `[N]`.
        units: of the domain.
    """

    WINDOW = 4
    """Grid steps to either side of a noisy point; there the noise is half a step."""

    def __init__(
        self, *, logits: Tensor, means: Tensor, variances: Tensor, y: Tensor, t: Tensor, units: WorkingUnits
    ) -> None:
        self.units, self.y, self.t = units, y, t
        self.log_prior, self.means, self.variances = torch.log_softmax(logits, dim=1), means, variances

    def mean(self) -> Tensor:
        """E[x | y_t] `[N, *shape]`: the denoised point."""
        y, t = self.y[:, None], shaped(self.t, self.means)
        seen = t**2 * self.variances + (1 - t) ** 2
        surprise = y - t * self.means
        weights = torch.softmax(self.log_prior - 0.5 * (torch.log(seen) + surprise**2 / seen), dim=1)
        return (weights * (self.means + self.variances * t / seen * surprise)).sum(dim=1)

    def window(self) -> tuple[Tensor, Tensor]:
        """At the path's end: grid points near y_t / t, `[N, window, *shape]`, and log P(k | y_t) over them."""
        t = shaped(self.t, self.y)
        centre = self.units.to_grid(self.y / t)
        offsets = torch.arange(-self.WINDOW, self.WINDOW + 1, device=self.y.device)
        points = centre[:, None] + offsets.view(1, -1, *[1] * (self.y.ndim - 1))
        outside = (points < 0) | (points >= self.units.levels)
        x = self.units.forward(points)
        log_probs = -0.5 * ((self.y[:, None] - t[:, None] * x) / (1 - t[:, None])) ** 2
        variances = self.variances[:, None]
        log_normal = -0.5 * ((x[:, :, None] - self.means[:, None]) ** 2 / variances + torch.log(variances))
        log_probs = log_probs + torch.logsumexp(self.log_prior[:, None] + log_normal, dim=2)
        return points, torch.log_softmax(log_probs.masked_fill(outside, -torch.inf), dim=1)

    def grid_log_prob(self, x: Tensor) -> Tensor:
        """log P(x | y_t) in nats of grid points `[N, *shape]`, a dimension each, at the path's end."""
        points, log_probs = self.window()
        place = x.long() - points[:, 0]
        outside = (place < 0) | (place > 2 * self.WINDOW)
        found = log_probs.gather(1, place.clamp(0, 2 * self.WINDOW)[:, None]).squeeze(1)
        return found.masked_fill(outside, -torch.inf)

    def grid_sample(self) -> Tensor:
        """Grid points `[N, *shape]`, int64, drawn from P(k | y_t), at the path's end."""
        points, log_probs = self.window()
        gumbel = -torch.log(-torch.log(torch.rand_like(log_probs).clamp(1e-20, 1 - 1e-7)))
        chosen = (log_probs + gumbel).argmax(dim=1, keepdim=True)
        return points.gather(1, chosen).squeeze(1)
