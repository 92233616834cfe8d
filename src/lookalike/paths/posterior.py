"""The distribution of a data point given a noisy one: Bayes' rule at every place."""

import torch
from torch import Tensor

from lookalike.domain.units import WorkingUnits
from lookalike.paths.path import shaped


class Posterior:
    """The distribution of x given y_t, if every place of x has a mixture of normal distributions as its prior.

    A network predicts the mixture from all places of y_t; Bayes' rule adds what a place's own y_t says about it: at the
    start of the path nothing, at its end everything. This part is exact and need not be learned.

    Args:
        logits, means, variances: of the components, each `[N, components, *shape]`, in working units.
        y: noisy points `[N, *shape]`.
        t: times `[N]`.
        units: working units of the domain.
    """

    WINDOW = 4
    """Grid steps to either side of a noisy point at the path's end, where the noise is half a step."""

    def __init__(
        self, *, logits: Tensor, means: Tensor, variances: Tensor, y: Tensor, t: Tensor, units: WorkingUnits
    ) -> None:
        self.units, self.y, self.t = units, y, t
        self.log_prior, self.means, self.variances = torch.log_softmax(logits, dim=1), means, variances

    def mean(self) -> Tensor:
        """Return E[x | y_t] `[N, *shape]`: the denoised point."""
        y, t = self.y[:, None], shaped(self.t, self.means)
        seen = t**2 * self.variances + (1 - t) ** 2
        surprise = y - t * self.means
        weights = torch.softmax(self.log_prior - 0.5 * (torch.log(seen) + surprise**2 / seen), dim=1)
        return (weights * (self.means + self.variances * t / seen * surprise)).sum(dim=1)

    def window(self) -> tuple[Tensor, Tensor]:
        """Return, at the path's end, the grid points k near y_t / t and log P(k | y_t): both `[N, window, *shape]`."""
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
        """Return log P(x | y_t) in nats of every grid point of `[N, *shape]`, at the path's end."""
        points, log_probs = self.window()
        place = x.long() - points[:, 0]
        outside = (place < 0) | (place > 2 * self.WINDOW)
        found = log_probs.gather(1, place.clamp(0, 2 * self.WINDOW)[:, None]).squeeze(1)
        return found.masked_fill(outside, -torch.inf)

    def grid_sample(self) -> Tensor:
        """Draw grid points `[N, *shape]`, int64, from P(k | y_t), at the path's end."""
        points, log_probs = self.window()
        gumbel = -torch.log(-torch.log(torch.rand_like(log_probs).clamp(1e-20, 1 - 1e-7)))
        index = (log_probs + gumbel).argmax(dim=1, keepdim=True)
        return points.gather(1, index).squeeze(1)
