"""Diffusion: noise is added to data in small steps, and a network learns to take it away again.

    q(z_λ | x) = N(α x, σ² I),   α² / σ² = e^λ;   loss = ½ (λ_max - λ_min) E_λ |ε - ε̂(z_λ, λ)|²

With λ uniform between its ends the loss is the diffusion term of the variational bound in its limit of infinitely many
steps (Ho et al., Denoising diffusion probabilistic models, 2020, arXiv:2006.11239; Kingma et al., Variational diffusion
models, 2021, arXiv:2107.00630, equation 15). The whole bound on the log-probability of a grid point is

    log P(x) ≥ E[log P(x | z_max)] - KL(q(z_min | x) || N(0, I)) - loss,

where z_max is the data with noise of a part of a grid step, and P(x | z_max) is Bayes' rule on the grid. The schedule
is the path that flow matching takes (`lookalike.networks.paths`); from a prediction of x follows one of the noise,
ε = (y_t - t x̂) / (1 - t).

Samples are drawn in few steps: `ancestral` draws from q(z_s | z_t, x̂), `deterministic` keeps the noise that it sees
(Song et al., Denoising diffusion implicit models, 2021, arXiv:2010.02502).
"""

import math
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from lookalike.core.domain import Domain
from lookalike.core.likelihood import Kind, row_noise
from lookalike.core.ranges import PositiveInt, Share
from lookalike.networks.classes import Classes, chosen, told
from lookalike.networks.denoiser import LEAST_LOG_SNR, Denoiser, ImageSize, PerKind, VectorSize
from lookalike.networks.paths import Posterior, log_snr, shaped, time_of


class Diffusion(nn.Module):
    """
    Args:
        domain: what one observation is.
        components: normal distributions in what the network says of a dimension.
        coarse: share of a training batch whose noise levels are those where images are decided; the rest are spread
            evenly, which alone is the variational bound.
        conditional: whether the network is told an observation's class.
        image: `widths`, `depth` and `hidden` of the U-Net.
        vector: `hidden` (layer widths of the network).
    """

    likelihood_kind: ClassVar[Kind | None] = "lower bound"

    COARSE = (-5.0, 3.0)
    """Ends of the log signal-to-noise ratios where images are decided."""

    FEW = 16
    """Dimensions up to which noise can be spread evenly over all of them."""

    def __init__(
        self,
        *,
        domain: Domain,
        components: PositiveInt,
        coarse: Share,
        conditional: bool,
        image: ImageSize,
        vector: VectorSize,
    ) -> None:
        super().__init__()
        self.domain, self.coarse = domain, coarse
        self.classes = Classes(domain) if conditional else None
        classes = self.classes.count if self.classes is not None else 0
        self.denoise = Denoiser(domain=domain, components=components, image=image, vector=vector, classes=classes)
        self.units, self.path = self.denoise.units, self.denoise.path
        self.span = self.path.log_snr - LEAST_LOG_SNR

    def noise_error(self, x: Tensor, noise: Tensor, t: Tensor, one_hot: Tensor | None = None) -> Tensor:
        """|ε - ε̂|² `[N]` summed over dimensions, for data and noise `[N, *shape]`, times `[N]` and classes, if any."""
        y = self.path.noisy(x, noise, t)
        ratio = shaped(torch.exp(log_snr(t) / 2), x)
        posterior: Posterior = self.denoise(y, t, one_hot)
        return ((ratio * (x - posterior.mean())) ** 2).flatten(1).sum(1)

    def reconstruction(self, x: Tensor, noise: Tensor, one_hot: Tensor | None = None) -> Tensor:
        """log P(x | z_max) `[N]` of grid points, in nats."""
        end = torch.full((len(x),), self.path.end, device=x.device)
        y = self.path.noisy(self.units(x), noise, end)
        posterior: Posterior = self.denoise(y, end, one_hot)
        return posterior.grid_log_prob(x).flatten(1).sum(1)

    def start(self, x: Tensor, labels: Tensor | None = None) -> None:
        """Let the network start from the training set's marginal distributions."""
        if self.classes is not None:
            assert labels is not None
            self.classes.start(labels)
        self.denoise.start(x)

    def losses(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """The variational bound's two terms in nats a dimension, the reconstruction from a part of the batch.

        With a share of `coarse` levels the diffusion term is weighted towards them, and no bound.
        """
        one_hot = told(self.classes, labels)
        few = max(1, len(x) // 8)
        last = torch.randn(x[:few].shape, device=x.device)
        reconstruction = -self.reconstruction(x[:few], last, None if one_hot is None else one_hot[:few]).mean()
        u = (torch.arange(len(x), device=x.device) + torch.rand(len(x), device=x.device)) / len(x)
        low, high = self.COARSE
        even = LEAST_LOG_SNR + self.span * (u - self.coarse) / (1 - self.coarse)
        levels = torch.where(u < self.coarse, low + (high - low) * u / max(self.coarse, 1e-6), even)
        y = self.units(x)
        error = self.noise_error(y, torch.randn_like(y), time_of(levels), one_hot)
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
        steps: PerKind,
    ) -> Tensor:
        """Grid points `[n, *shape]`, int64, in steps between which noise shrinks by the same factor."""
        one_hot = told(self.classes, chosen(self.classes, labels, n))
        device = self.units.scale.device
        y = torch.randn(n, *self.domain.shape, device=device)
        times = self.path.time(torch.linspace(0.0, 1.0, steps[self.domain.kind] + 1, device=device))
        for now, then in pairwise(times):
            x = self.denoise(y, now.expand(n), one_hot).mean()
            if sampler == "deterministic":
                y = then * x + (1 - then) * (y - now * x) / (1 - now)
            else:
                # q(y_then | y_now, x) for a path with signal t and noise 1 - t.
                kept = (now / then) * ((1 - then) / (1 - now)) ** 2
                spread = 1 - (now * (1 - then) / (then * (1 - now))) ** 2
                y = kept * y + then * spread * x + (1 - then) * spread.sqrt() * torch.randn_like(y)
        posterior: Posterior = self.denoise(y, torch.full((n,), self.path.end, device=device), one_hot)
        return posterior.grid_sample()

    def log_likelihood(self, x: Tensor, *, levels: PerKind) -> Tensor:
        """The variational lower bound in nats `[N]`, its expectations estimated without bias.

        Args:
            x: grid points `[N, *shape]`.
            levels: of noise that the diffusion term is averaged over, one in each of as many equal parts of λ; the
                reconstruction is averaged over an eighth as many draws. A conditional model takes half of them for
                either of two estimates (see `Classes.lower_bound`).
        """
        count = levels[self.domain.kind]
        if self.classes is None:
            return self.bound(x, count=count, seed=0)
        half = max(1, count // 2)

        def given(labels: Tensor) -> tuple[Tensor, Tensor]:
            one, other = (self.bound(x, told(self.classes, labels), count=half, seed=seed) for seed in (0, 3))
            return one, other

        return self.classes.lower_bound(given, len(x))

    def bound(self, x: Tensor, one_hot: Tensor | None = None, *, count: int, seed: int) -> Tensor:
        """The variational bound in nats `[N]`, from noise of three seeds that begin with `seed`."""
        y = self.units(x)
        noise = self.spread_noise(x, count, seed=seed)
        places = row_noise(x, (count,), distribution="uniform", seed=seed + 1)
        draws = -(-count // 8)
        last = row_noise(x, (draws, *self.domain.shape), distribution="normal", seed=seed + 2)
        ends = [self.reconstruction(x, eps, one_hot) for eps in last.unbind(dim=1)]
        reconstruction = torch.stack(ends).double().mean(0)
        # z_min = α x + σ ε with α² = sigmoid(λ_min).
        alpha, sigma = (1 / (1 + math.exp(-sign * LEAST_LOG_SNR)) for sign in (1, -1))
        flat = y.flatten(1).double()
        prior = 0.5 * (alpha * (flat**2).sum(1) + flat.shape[1] * (sigma - 1 - math.log(sigma)))
        diffusion = torch.zeros_like(reconstruction)
        for i, (eps, place) in enumerate(zip(noise.unbind(dim=1), places.unbind(dim=1), strict=True)):
            t = time_of(LEAST_LOG_SNR + self.span * (i + place) / count)
            diffusion += 0.5 * self.span * self.noise_error(y, eps, t, one_hot) / count
        bound: Tensor = reconstruction - prior - diffusion
        return bound

    def spread_noise(self, x: Tensor, count: int, *, seed: int) -> Tensor:
        """Standard normal noise `[N, count, *shape]` by `row_noise`; in few dimensions spread evenly over each.

        Equal observations share their noise, so that errors do not average out over data that repeat: few dimensions
        take a sequence of low discrepancy from a random start, steps of powers of a generalized golden ratio.
        """
        dimensions = self.domain.dimensions
        if dimensions > self.FEW:
            return row_noise(x, (count, *self.domain.shape), distribution="normal", seed=seed)
        ratio = 2.0
        for _ in range(50):
            ratio = (1 + ratio) ** (1 / (dimensions + 1))
        step = ratio ** -torch.arange(1, dimensions + 1, dtype=torch.float64)
        start = row_noise(x, (1, dimensions), distribution="uniform", seed=seed).double()
        places = (start + torch.arange(count)[:, None] * step) % 1
        noise: Tensor = torch.special.ndtri(places.clamp(1e-6, 1 - 1e-6)).float()
        return noise.view(len(x), count, *self.domain.shape)
