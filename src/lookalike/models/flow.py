"""Normalizing flow: an invertible map from data to noise, whose Jacobian says how likely data are.

    log p(y) = log p_noise(f(y)) + log |det ∂f/∂y|

Vectors: a neural spline flow (Durkan et al., 2019, arXiv:1906.04032), by zuko, in working units.

Images: a coupling flow over several scales (Dinh et al., Density estimation using Real NVP, 2017, arXiv:1605.08803).
Every pixel is first made uniform by its own distribution function. Then, from the coarsest lattice of pixels to the
finest, each new lattice is transformed by splines whose shapes a convolutional network reads off the lattices before
it: of every 2x2 block the upper left pixel comes from the coarser scale, then the lower right one, then the other two,
which by then have known neighbours on all sides (the order of Reed et al., Parallel multiscale autoregressive density
estimation, 2017, arXiv:1703.03664). A coupling leaves what it reads as it is, so the Jacobian is triangular, and a
sample takes three passes a scale.

Data on a grid are made continuous by uniform noise in their intervals. The average density over it is the probability
of the grid point; the logarithm of an average over some places is a lower bound on its logarithm that tightens with
their number (Theis et al., 2016, arXiv:1511.01844).
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import TypedDict

from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.core.likelihood import Kind, WorkingUnits, log_mean_exp, row_noise
from lookalike.core.ranges import AtLeastTwo, Channels, PositiveInt, Widths, settings
from lookalike.networks.blocks import Residual
from lookalike.networks.marginals import Marginals


@settings
class ImageSize(TypedDict):
    bins: AtLeastTwo
    channels: Channels
    depth: PositiveInt


@settings
class VectorSize(TypedDict):
    bins: AtLeastTwo
    transforms: PositiveInt
    hidden: Widths


class Flow(nn.Module):
    """
    Args:
        domain: what one observation is.
        image: `bins` of the splines, `channels` and `depth` (residual blocks) of each coupling's network.
        vector: `bins` of the splines, `transforms` in a row, `hidden` (layer widths of each one's network).
    """

    likelihood_kind: ClassVar[Kind | None] = "lower bound"

    def __init__(self, *, domain: Domain, image: ImageSize, vector: VectorSize) -> None:
        super().__init__()
        self.domain = domain
        self.density: VectorFlow | ImageFlow
        if domain.kind == "image":
            self.density = ImageFlow(domain, bins=image["bins"], channels=image["channels"], depth=image["depth"])
        else:
            self.density = VectorFlow(
                domain, bins=vector["bins"], transforms=vector["transforms"], hidden=vector["hidden"]
            )

    def start(self, x: Tensor) -> None:
        """Learn every dimension's own distribution from the training set, before training."""
        self.density.start(x)

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        """The negative log-density at a random place of the interval, in nats a dimension of the grid."""
        log_prob = self.density.log_prob(x, torch.rand(x.shape, device=x.device))
        return {"loss": -log_prob.mean() / self.domain.dimensions}

    def sample(self, n: int) -> Tensor:
        """Grid points `[n, *shape]`, int64: noise through the inverse map."""
        return self.density.sample(n)

    def log_likelihood(self, x: Tensor, *, dequantizations: PositiveInt) -> Tensor:
        """The importance-weighted lower bound in nats `[N]`, with as many places in the grid interval."""
        places = row_noise(x, (dequantizations, *self.domain.shape), distribution="uniform", seed=0)
        log_probs = [self.density.log_prob(x, u).double() for u in places.unbind(dim=1)]
        return log_mean_exp(torch.stack(log_probs, dim=1), dim=1)


class VectorFlow(nn.Module):
    """A neural spline flow on vectors."""

    def __init__(self, domain: Domain, *, bins: int, transforms: int, hidden: list[int]) -> None:
        super().__init__()
        from zuko.flows import NSF

        self.units = WorkingUnits(domain)
        self.flow = NSF(features=domain.dimensions, bins=bins, transforms=transforms, hidden_features=hidden)

    def start(self, x: Tensor) -> None:
        """Working units are all that is needed."""

    def log_prob(self, x: Tensor, u: Tensor) -> Tensor:
        """log-density `[N]` a grid step at places `u` in the intervals of grid points `[N, D]`."""
        log_density: Tensor = self.flow().log_prob(self.units.dequantize(x, u))
        return log_density + self.units.log_jacobian

    def sample(self, n: int) -> Tensor:
        drawn: Tensor = self.flow().sample((n,))
        return self.units.to_grid(drawn)


class Coupling(nn.Module):
    """Splines of some lattices of pixels, with shapes read off others, at one scale.

    Args:
        seen, changed: channels of the lattices that it reads and of those that it transforms.
        bins: of a spline, on [0, 1].
        channels, depth: of the network.
        height, width: of the lattices.
    """

    def __init__(
        self, *, seen: int, changed: int, bins: int, channels: int, depth: int, height: int, width: int
    ) -> None:
        super().__init__()
        self.bins, self.changed = bins, changed
        self.stem = nn.Conv2d(3 * seen, channels, 3, padding=1)
        self.position = nn.Parameter(torch.zeros(channels, height, width))
        self.blocks = nn.ModuleList(Residual(channels=channels, condition=None) for _ in range(depth))
        self.head = nn.Conv2d(channels, changed * (3 * bins - 1), 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def splines(self, seen: Tensor) -> "Spline":
        """The splines of `[N, changed, H, W]`, from the values in [-1, 1] of the lattices `[N, seen, H, W]`."""
        # A pixel's value, and how close it is to the two ends, where most pixels are.
        told = torch.cat([seen, torch.exp(-8 * (1 + seen)), torch.exp(-8 * (1 - seen))], dim=1)
        h = self.stem(told.contiguous(memory_format=torch.channels_last)) + self.position
        for block in self.blocks:
            h = block(h, None)
        shape = self.head(functional.silu(h)).unflatten(1, (self.changed, -1)).movedim(2, -1)
        return Spline(shape, self.bins)


class Spline:
    """Monotone rational-quadratic splines of [0, 1], a dimension each."""

    def __init__(self, shape: Tensor, bins: int) -> None:
        from zuko.transforms import MonotonicRQSTransform

        widths, heights, slopes = shape.split([bins, bins, bins - 1], dim=-1)
        self.transform = MonotonicRQSTransform(widths, heights, slopes, bound=0.5)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Images of places in [0, 1], and the logarithm of the derivative there."""
        v, log_derivative = self.transform.call_and_ladj(u - 0.5)
        return v + 0.5, log_derivative

    def inverse(self, v: Tensor) -> Tensor:
        u: Tensor = self.transform.inv(v - 0.5) + 0.5
        return u.clamp(0.0, 1.0)


class ImageFlow(nn.Module):
    """Couplings from coarse to fine, on images whose pixels are uniform on [0, 1] each.

    Raises:
        UserError: the images have one pixel.
    """

    PARTS: ClassVar = (3, 1, 2)
    """Lattices of a 2x2 block (in reading order) in the order that they are transformed in, after lattice 0."""

    def __init__(self, domain: Domain, *, bins: int, channels: int, depth: int) -> None:
        super().__init__()
        self.domain = domain
        self.marginals = Marginals(domain)
        colours, height, width = domain.shape
        self.sizes = [(height, width)]
        while max(self.sizes[-1]) > 1:
            self.sizes.append(((self.sizes[-1][0] + 1) // 2, (self.sizes[-1][1] + 1) // 2))
        if len(self.sizes) == 1:
            raise UserError(f"model=flow: {domain.name} has images of one pixel, and couplings need a second one")
        self.scales: Any = nn.ModuleList(
            nn.ModuleList(
                Coupling(
                    seen=(i + 1) * colours,
                    changed=colours,
                    bins=bins,
                    channels=channels,
                    depth=depth,
                    height=rows,
                    width=columns,
                )
                for i in range(len(self.PARTS))
            )
            for rows, columns in self.sizes[1:]
        )

    def start(self, x: Tensor) -> None:
        """Fit the pixels' own distributions."""
        self.marginals.fit(x)

    def lattices(self, image: Tensor, scale: int, *, beyond: int = 0) -> list[Tensor]:
        """The four lattices `[N, C, rows, columns]` of the image at a scale, with a value beyond its border."""
        height, width = self.sizes[scale]
        padded = functional.pad(image, (0, width % 2, 0, height % 2), value=beyond)
        return list(functional.pixel_unshuffle(padded, 2).unflatten(1, (-1, 4)).unbind(dim=2))

    def log_prob(self, x: Tensor, u: Tensor) -> Tensor:
        """log-density `[N]` a grid step at places `u` in the intervals of grid points `[N, *shape]`."""
        low, high = (end.view(x.shape) for end in self.marginals.interval(x))
        total = torch.log(high - low).flatten(1).sum(1)
        uniform = (low + (high - low) * u).float()
        values = self.values(x.float() + u - 0.5)
        inside = torch.ones_like(values[:1])
        for scale, couplings in enumerate(self.scales):
            known = self.lattices(values, scale)
            changed = self.lattices(uniform, scale)
            counted = self.lattices(inside, scale)
            for coupling, part, seen in zip(couplings, self.PARTS, self.seen(known), strict=True):
                _, log_derivative = coupling.splines(seen).forward(changed[part])
                total = total + (log_derivative * counted[part]).flatten(1).sum(1)
            values, uniform, inside = known[0], changed[0], counted[0]
        return total

    def seen(self, known: list[Tensor]) -> list[Tensor]:
        """What each coupling of a scale reads: lattice 0 and those transformed before."""
        read = [known[0]]
        inputs = []
        for part in self.PARTS:
            inputs.append(torch.cat(read, dim=1))
            read.append(known[part])
        return inputs

    def values(self, k: Tensor) -> Tensor:
        """Places on the grid `[N, *shape]` in [-1, 1]."""
        return 2 * k / max(self.domain.levels - 1, 1) - 1

    def sample(self, n: int) -> Tensor:
        """Grid points `[n, *shape]`, int64, from the coarsest scale to the finest."""
        device = self.marginals.edges.device
        shape = self.domain.shape
        index = torch.arange(self.domain.dimensions, device=device).view(1, *shape)
        indices = [index]
        for scale in range(len(self.scales)):
            indices.append(self.lattices(indices[-1], scale, beyond=-1)[0])
        grid = torch.zeros(n, self.domain.dimensions, dtype=torch.int64, device=device)
        noise = torch.rand(n, self.domain.dimensions, device=device)

        def place(u: Tensor, index: Tensor) -> Tensor:
            """Write the grid points of places `[n, C, H, W]` of the pixels `index`; return their values, 0 beyond."""
            inside = index.flatten() >= 0
            pixels = index.flatten()[inside]
            points, rest = self.marginals.locate(u.flatten(1)[:, inside], pixels)
            grid[:, pixels] = points
            values = torch.zeros(n, index.numel(), device=device)
            values[:, inside] = self.values(points + rest - 0.5).float()
            return values.view(u.shape)

        values = place(noise[:, indices[-1].flatten()].view(n, shape[0], 1, 1), indices[-1])
        for scale in reversed(range(len(self.scales))):
            parts = self.lattices(indices[scale], scale, beyond=-1)
            known: dict[int, Tensor] = {0: values}
            for coupling, part in zip(self.scales[scale], self.PARTS, strict=True):
                splines = coupling.splines(torch.cat(list(known.values()), dim=1))
                latent = noise[:, parts[part].flatten().clamp(min=0)].view(n, *parts[part].shape[1:])
                known[part] = place(splines.inverse(latent), parts[part])
            whole = torch.stack([known[i] for i in range(4)], dim=2).flatten(1, 2)
            height, width = self.sizes[scale]
            values = functional.pixel_shuffle(whole, 2)[:, :, :height, :width]
        return grid.view(n, *shape)
