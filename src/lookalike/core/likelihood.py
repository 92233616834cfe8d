"""The integer grid that every likelihood is stated on: units, dequantization, discretized densities, bits.

All conversions between a density on the reals and a probability on the grid happen here. A grid point k owns the
interval [k - 1/2, k + 1/2]; a density p on the reals gives it the probability P(k) = ∫ p(k + u - 1/2) du over u in
[0, 1]. By Jensen's inequality E_u[log p(k + u - 1/2)] is a lower bound on log P(k); averaging p over several u before
the logarithm tightens it (Theis et al., A note on the evaluation of generative models, 2016, arXiv:1511.01844; Burda
et al., Importance weighted autoencoders, 2016, arXiv:1509.00519).
"""

import hashlib
import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lookalike.core.domain import Domain

Kind = Literal["exact", "lower bound", "estimate"]


def bits_per_dimension(nats: Tensor, domain: Domain) -> Tensor:
    """Log-likelihoods in nats an observation `[N]` to bits a dimension (the fewer, the better)."""
    return -nats / (math.log(2) * domain.dimensions)


class WorkingUnits(nn.Module):
    """The affine map between grid points and the units that networks work in, `y = (k - location) / scale`."""

    location: Tensor
    scale: Tensor

    def __init__(self, domain: Domain) -> None:
        super().__init__()
        self.levels = domain.levels
        self.register_buffer("location", torch.tensor(domain.location), persistent=False)
        self.register_buffer("scale", torch.tensor(domain.scale), persistent=False)
        per_dimension = domain.dimensions // len(domain.scale)
        self.log_jacobian = -per_dimension * sum(math.log(scale) for scale in domain.scale)
        """log |dy/dk| summed over dimensions: a log-density in y plus this is a log-density in grid points."""

    def forward(self, x: Tensor) -> Tensor:
        """Grid points (any integer type) to working units, at the centre of their intervals."""
        return (x.float() - self.location) / self.scale

    def interval(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The ends of the intervals that grid points own, in working units."""
        y, half = self(x), 0.5 / self.scale
        return y - half, y + half

    def dequantize(self, x: Tensor, u: Tensor) -> Tensor:
        """Grid points and `u` in [0, 1] to a place in their intervals, in working units."""
        return (x.float() + u - 0.5 - self.location) / self.scale

    def along(self, value: Tensor, ndim: int) -> Tensor:
        """A number for all dimensions, or one each, so that it goes with `[N, components, *shape]` of `ndim` axes."""
        return value.view(1, 1, -1, *[1] * (ndim - 3))

    def to_grid(self, y: Tensor) -> Tensor:
        """Working units to the nearest grid point, int64."""
        return (y * self.scale + self.location).round().clamp(0, self.levels - 1).long()


class Tones(WorkingUnits):
    """Working units of pixels in which the interval of a grid point is the wider the commoner the point is.

    How often a level of grey occurs is not smooth: scanning and scaling leave spikes and gaps that no one pixel is the
    cause of. In these units a density that is smooth has them all, and on an even grid a mixture would need a component
    a spike. The probability of a grid point is what a distribution function gains over its interval, wherever the ends
    are, so the probabilities of all grid points still add up to one.

    The two ends of the grid own what lies beyond, and keep a step. Even until `fit`; then left alone. Densities take
    another Jacobian at every point, so there is no `log_jacobian`.
    """

    edges: Tensor

    RARE = 0.1
    """Weight of the uniform distribution among what intervals are as wide as: a tenth of a step is the least."""

    def __init__(self, domain: Domain) -> None:
        super().__init__(domain)
        del self.log_jacobian
        self.register_buffer("edges", (torch.arange(domain.levels + 1) - 0.5 - self.location) / self.scale)

    def fit(self, x: Tensor) -> None:
        """Learn the widths from the training set `[N, *shape]`, all of its pixels alike."""
        counts = torch.bincount(x.flatten().long(), minlength=self.levels)[1:-1].double()
        if counts.sum() == 0:
            return
        widths = (1 - self.RARE) * counts * len(counts) / counts.sum() + self.RARE
        ends = 0.5 + widths.cumsum(0)[:-1]
        self.edges[2:-2] = ((ends.to(self.edges) - self.location) / self.scale).to(self.edges)

    def forward(self, x: Tensor) -> Tensor:
        """Grid points (any integer type) to working units, at the centre of their intervals."""
        low, high = self.interval(x)
        return (low + high) / 2

    def interval(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The ends of the intervals that grid points own, in working units."""
        return self.edges[x.long()], self.edges[x.long() + 1]

    def dequantize(self, x: Tensor, u: Tensor) -> Tensor:
        """Grid points and `u` in [0, 1] to a place in their intervals, in working units."""
        low, high = self.interval(x)
        return low + (high - low) * u

    def to_grid(self, y: Tensor) -> Tensor:
        """Working units to the grid point whose interval they lie in, int64."""
        return torch.searchsorted(self.edges[1:-1].contiguous(), y.contiguous(), right=True)


class OwnTones:
    """Tones of some observations, or of parts of them, each with intervals of its own.

    Args:
        edges: between the intervals, in working units, `[N, levels + 1]`, ascending.
    """

    def __init__(self, edges: Tensor) -> None:
        self.edges, self.levels = edges, edges.shape[1] - 1

    def interval(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The ends of the intervals that grid points `[N, D]` own, in working units."""
        x = x.long()
        return self.edges.gather(1, x), self.edges.gather(1, x + 1)

    def to_grid(self, y: Tensor) -> Tensor:
        """Working units `[N, D]` to the grid points whose intervals they lie in, int64."""
        return torch.searchsorted(self.edges[:, 1:-1].contiguous(), y.contiguous(), right=True)


class LogisticMixture:
    """A mixture of logistics a dimension, discretized to the grid; what lies beyond an end belongs to the end.

    Salimans et al., PixelCNN++, 2017, arXiv:1701.05517, section 2.1. The mass between a < b is computed as
    σ(b) σ(-a) (1 - exp(a - b)), which loses no digits in either tail.

    Args:
        parameters: `[N, 3 * components, *shape]`: logits, means and log scales, in working units.
        units: of the domain, or each observation's own.
    """

    MIN_LOG_SCALE = -7.0
    MAX_LOG_SCALE = 60.0
    """Flat on any grid, and far from where the inverse of a scale underflows and its gradient becomes NaN."""

    def __init__(self, parameters: Tensor, units: WorkingUnits | OwnTones) -> None:
        self.units = units
        logits, self.means, log_scales = parameters.chunk(3, dim=1)
        self.log_weights = logits.log_softmax(dim=1)
        self.log_scales = log_scales.clamp(min=self.MIN_LOG_SCALE, max=self.MAX_LOG_SCALE)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability in nats of grid points `[N, *shape]`, a dimension each: `[N, *shape]`."""
        low, high = (end[:, None] for end in self.units.interval(x))
        inverse = torch.exp(-self.log_scales)
        upper = (high - self.means) * inverse
        lower = (low - self.means) * inverse
        x = x[:, None]
        below = functional.logsigmoid(upper).masked_fill(x == self.units.levels - 1, 0.0)
        above = functional.logsigmoid(-lower).masked_fill(x == 0, 0.0)
        inside = torch.log(-torch.expm1((low - high) * inverse))
        inside = inside.masked_fill((x == 0) | (x == self.units.levels - 1), 0.0)
        return torch.logsumexp(self.log_weights + below + above + inside, dim=1)

    def sample(self) -> Tensor:
        """Grid points `[N, *shape]`, int64."""
        gumbel = -torch.log(-torch.log(torch.rand_like(self.log_weights).clamp(1e-20, 1 - 1e-7)))
        chosen = (self.log_weights + gumbel).argmax(dim=1, keepdim=True)
        mean = self.means.gather(1, chosen).squeeze(1)
        scale = self.log_scales.gather(1, chosen).squeeze(1).exp()
        u = torch.rand_like(mean).clamp(1e-7, 1 - 1e-7)
        return self.units.to_grid(mean + scale * (torch.log(u) - torch.log1p(-u)))


def row_noise(
    x: Tensor, shape: tuple[int, ...], *, distribution: Literal["normal", "uniform", "sign"], seed: int
) -> Tensor:
    """Noise `[N, *shape]` that depends on each observation's own values and the seed alone.

    A likelihood estimated with it is a function of the observation: not of the batch that it came in, nor of its
    place there. The generator is NumPy's Philox, keyed by a hash of the row.
    """
    rows = x.detach().cpu().contiguous().to(torch.int16 if x.dtype != torch.uint8 else torch.uint8).numpy()
    noise = np.empty((len(rows), *shape), dtype=np.float32)
    for row, out in zip(rows, noise, strict=True):
        key = hashlib.blake2b(row.tobytes(), digest_size=8, salt=seed.to_bytes(8, "little")).digest()
        generator = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
        if distribution == "normal":
            generator.standard_normal(out=out, dtype=np.float32)
        elif distribution == "uniform":
            generator.random(out=out, dtype=np.float32)
        else:
            out[...] = generator.integers(0, 2, size=shape) * 2.0 - 1.0
    return torch.from_numpy(noise).to(x.device)


def log_mean_exp(log_weights: Tensor, dim: int) -> Tensor:
    """log of the mean of exp along a dimension: an importance-weighted bound from its log-weights."""
    return torch.logsumexp(log_weights, dim=dim) - math.log(log_weights.shape[dim])
