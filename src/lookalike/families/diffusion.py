"""Diffusion: noise is added to data in small steps, and a network learns to take it away again.

    q(z_λ | x) = N(α x, σ² I),   α² / σ² = e^λ;   loss = ½ (λ_max - λ_min) E_λ ‖ε - ε̂(z_λ, λ)‖²

With λ uniform between its ends the loss is the diffusion term of the variational bound in its limit of infinitely many
steps (Ho et al., Denoising diffusion probabilistic models, 2020, arXiv:2006.11239; Kingma et al., Variational diffusion
models, 2021, arXiv:2107.00630, equation 15). The whole bound on the log-probability of a grid point is

    log P(x) ≥ E[log P(x | z_max)] - KL(q(z_min | x) ‖ N(0, I)) - loss,

where z_max is the data with noise of a part of a grid step, and P(x | z_max) is Bayes' rule on the grid. The schedule
is the path that flow matching takes (`lookalike.paths.path`); a prediction of x implies one of the noise,
ε = (y_t - t x̂) / (1 - t).

Samples are drawn in few steps: `ancestral` draws from q(z_s | z_t, x̂), `deterministic` keeps the noise that it sees
(Song et al., Denoising diffusion implicit models, 2021, arXiv:2010.02502).
"""

import math
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from lookalike.distributions.classes import labels_or_sample, one_hot
from lookalike.domain.domain import Domain
from lookalike.domain.grid import LikelihoodKind, row_noise
from lookalike.families.contract import Family
from lookalike.networks import roles
from lookalike.networks.denoiser import MIN_LOG_SNR, Denoiser
from lookalike.paths.path import log_snr, shaped, time_of
from lookalike.paths.posterior import Posterior
from lookalike.workspace.ranges import PositiveInt, Share


class Diffusion(Family):
    """
    Args:
        domain: what one observation is.
        components: normal distributions in the prediction for a place.
        coarse: share of a training batch whose noise levels are those that decide what an image becomes; the rest
            cover all levels evenly, which alone is the variational bound.
        conditional: whether the network is given an observation's class.
        sizes: sizes of the network.
    """

    needs: ClassVar[tuple[roles.Role, ...]] = (roles.denoiser,)
    likelihood_kind: ClassVar[LikelihoodKind | None] = "lower bound"

    COARSE = (-5.0, 3.0)
    """Ends of the log signal-to-noise ratios that decide what an image becomes."""

    FEW = 16
    """Largest number of places over which noise can be spread evenly."""

    def __init__(
        self, *, domain: Domain, components: PositiveInt, coarse: Share, conditional: bool, sizes: dict[str, Any]
    ) -> None:
        super().__init__(domain=domain, conditional=conditional)
        self.coarse = coarse
        self.denoise = Denoiser(domain=domain, components=components, size=sizes, classes=self.class_count)
        self.units, self.path = self.denoise.units, self.denoise.path
        self.span = self.path.log_snr - MIN_LOG_SNR

    def start(self, x: Tensor, labels: Tensor | None = None) -> None:
        """Let the network start from the training set's marginal distributions."""
        super().start(x, labels)
        self.denoise.start(x)

    def noise_error(self, x: Tensor, noise: Tensor, t: Tensor, classes: Tensor | None = None) -> Tensor:
        """Return ‖ε - ε̂‖² `[N]` of data and noise `[N, *shape]` at times `[N]`, given classes, if any."""
        y = self.path.noisy(x, noise, t)
        ratio = shaped(torch.exp(log_snr(t) / 2), x)
        posterior: Posterior = self.denoise(y, t, classes)
        return ((ratio * (x - posterior.mean())) ** 2).flatten(1).sum(1)

    def reconstruction(self, x: Tensor, noise: Tensor, classes: Tensor | None = None) -> Tensor:
        """Return log P(x | z_max) `[N]` of grid points, in nats."""
        end = torch.full((len(x),), self.path.end, device=x.device)
        y = self.path.noisy(self.units(x), noise, end)
        posterior: Posterior = self.denoise(y, end, classes)
        return posterior.grid_log_prob(x).flatten(1).sum(1)

    def losses(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return the variational bound's two terms in nats per dimension, the reconstruction on a part of the batch.

        With a share of `coarse` levels the diffusion term is weighted towards them and is no bound.
        """
        classes = one_hot(self.classes, labels)
        few = max(1, len(x) // 8)
        last = torch.randn(x[:few].shape, device=x.device)
        reconstruction = -self.reconstruction(x[:few], last, None if classes is None else classes[:few]).mean()
        u = (torch.arange(len(x), device=x.device) + torch.rand(len(x), device=x.device)) / len(x)
        low, high = self.COARSE
        even = MIN_LOG_SNR + self.span * (u - self.coarse) / (1 - self.coarse)
        levels = torch.where(u < self.coarse, low + (high - low) * u / max(self.coarse, 1e-6), even)
        y = self.units(x)
        error = self.noise_error(y, torch.randn_like(y), time_of(levels), classes)
        diffusion = 0.5 * self.span * error.mean()
        dimensions = self.domain.dimensions
        loss = (diffusion + reconstruction) / dimensions
        return {"loss": loss, "diffusion": diffusion / dimensions, "reconstruction": reconstruction / dimensions}

    def sample(
        self,
        n: int,
        labels: Tensor | None = None,
        *,
        sampler: Literal["ancestral", "deterministic"],
        steps: PositiveInt,
    ) -> Tensor:
        """Draw grid points `[n, *shape]`, int64, in steps between which noise shrinks by the same factor."""
        classes = one_hot(self.classes, labels_or_sample(self.classes, labels, n))
        device = self.units.scale.device
        y = torch.randn(n, *self.domain.shape, device=device)
        times = self.path.time(torch.linspace(0.0, 1.0, steps + 1, device=device))
        for now, then in pairwise(times):
            x = self.denoise(y, now.expand(n), classes).mean()
            if sampler == "deterministic":
                y = then * x + (1 - then) * (y - now * x) / (1 - now)
            else:
                # q(y_then | y_now, x) for a path with signal t and noise 1 - t.
                kept = (now / then) * ((1 - then) / (1 - now)) ** 2
                added = 1 - (now * (1 - then) / (then * (1 - now))) ** 2
                y = kept * y + then * added * x + (1 - then) * added.sqrt() * torch.randn_like(y)
        posterior: Posterior = self.denoise(y, torch.full((n,), self.path.end, device=device), classes)
        return posterior.grid_sample()

    def log_likelihood(self, x: Tensor, *, levels: PositiveInt) -> Tensor:
        """Return the variational lower bound in nats `[N]`, its expectations estimated without bias.

        Args:
            x: grid points `[N, *shape]`.
            levels: noise levels that the diffusion term is averaged over, one in each of as many equal parts of λ; the
                reconstruction is averaged over an eighth as many draws. A conditional model uses half of them for
                each of two estimates (see `Classes.lower_bound`).
        """
        if self.classes is None:
            return self.bound(x, levels=levels, seed=0)
        half = max(1, levels // 2)

        def given(labels: Tensor) -> tuple[Tensor, Tensor]:
            one, other = (self.bound(x, one_hot(self.classes, labels), levels=half, seed=seed) for seed in (0, 3))
            return one, other

        return self.classes.lower_bound(given, len(x))

    def bound(self, x: Tensor, classes: Tensor | None = None, *, levels: int, seed: int) -> Tensor:
        """Return the variational bound in nats `[N]`, from noise of three seeds that begin with `seed`."""
        y = self.units(x)
        noise = self.even_noise(x, levels, seed=seed)
        places = row_noise(x, (levels,), distribution="uniform", seed=seed + 1)
        draws = -(-levels // 8)
        last = row_noise(x, (draws, *self.domain.shape), distribution="normal", seed=seed + 2)
        ends = [self.reconstruction(x, eps, classes) for eps in last.unbind(dim=1)]
        reconstruction = torch.stack(ends).double().mean(0)
        # z_min = α x + σ ε with α² = sigmoid(λ_min).
        alpha, sigma = (1 / (1 + math.exp(-sign * MIN_LOG_SNR)) for sign in (1, -1))
        flat = y.flatten(1).double()
        prior = 0.5 * (alpha * (flat**2).sum(1) + flat.shape[1] * (sigma - 1 - math.log(sigma)))
        diffusion = torch.zeros_like(reconstruction)
        for i, (eps, place) in enumerate(zip(noise.unbind(dim=1), places.unbind(dim=1), strict=True)):
            t = time_of(MIN_LOG_SNR + self.span * (i + place) / levels)
            diffusion += 0.5 * self.span * self.noise_error(y, eps, t, classes) / levels
        bound: Tensor = reconstruction - prior - diffusion
        return bound

    def even_noise(self, x: Tensor, count: int, *, seed: int) -> Tensor:
        """Return standard normal noise `[N, count, *shape]` per observation; with few places it covers each evenly.

        Equal observations share their noise, so errors do not average out over data that repeat. With few places the
        noise is therefore a sequence of low discrepancy from a random start, in steps of powers of a generalized
        golden ratio.
        """
        dimensions = self.domain.dimensions
        if dimensions > self.FEW:
            return row_noise(x, (count, *self.domain.shape), distribution="normal", seed=seed)
        ratio = 2.0
        for _ in range(50):
            ratio = (1 + ratio) ** (1 / (dimensions + 1))
        step = ratio ** -torch.arange(1, dimensions + 1, dtype=torch.float64, device=x.device)
        start = row_noise(x, (1, dimensions), distribution="uniform", seed=seed).double()
        places = (start + torch.arange(count, device=x.device)[:, None] * step) % 1
        noise: Tensor = torch.special.ndtri(places.clamp(1e-6, 1 - 1e-6)).float()
        return noise.view(len(x), count, *self.domain.shape)
