"""A coupling flow of images over several scales, whose pixels are uniform on [0, 1] each."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from lookalike.distributions.marginals import Marginals
from lookalike.domain.domain import Domain
from lookalike.networks.blocks import Stage, halvings
from lookalike.workspace.errors import UserError


class Coupling(nn.Module):
    """Splines of some lattices of pixels, whose shapes a network reads off other lattices, at one scale.

    Args:
        seen, changed: channels of the lattices that are read and of those that are transformed.
        bins: bins of a spline on [0, 1].
        channels, depth: width and residual blocks of the network.
        height, width: size of the lattices.
    """

    def __init__(
        self, *, seen: int, changed: int, bins: int, channels: int, depth: int, height: int, width: int
    ) -> None:
        super().__init__()
        self.bins, self.changed = bins, changed
        self.stem = nn.Conv2d(3 * seen, channels, 3, padding=1)
        self.position = nn.Parameter(torch.zeros(channels, height, width))
        self.blocks = Stage(channels=channels, depth=depth)
        self.head = nn.Conv2d(channels, changed * (3 * bins - 1), 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def splines(self, seen: Tensor) -> "Spline":
        """Return the splines of `[N, changed, H, W]`, from the values in [-1, 1] of the lattices `[N, seen, H, W]`."""
        # The network sees a pixel's value and how close it is to either end of the grid.
        described = torch.cat([seen, torch.exp(-8 * (1 + seen)), torch.exp(-8 * (1 - seen))], dim=1)
        h = self.blocks(self.stem(described.contiguous(memory_format=torch.channels_last)) + self.position)
        shape = self.head(functional.silu(h)).unflatten(1, (self.changed, -1)).movedim(2, -1)
        return Spline(shape, self.bins)


class Spline:
    """Monotone rational-quadratic splines of [0, 1], one per place."""

    def __init__(self, shape: Tensor, bins: int) -> None:
        from zuko.transforms import MonotonicRQSTransform

        widths, heights, slopes = shape.split([bins, bins, bins - 1], dim=-1)
        self.transform = MonotonicRQSTransform(widths, heights, slopes, bound=0.5)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images of places in [0, 1], and the logarithm of the derivative there."""
        v, log_derivative = self.transform.call_and_ladj(u - 0.5)
        return v + 0.5, log_derivative

    def inverse(self, v: Tensor) -> Tensor:
        """Return the places in [0, 1] whose images are given."""
        u: Tensor = self.transform.inv(v - 0.5) + 0.5
        return u.clamp(0.0, 1.0)


class PixelFlow(nn.Module):
    """Couplings from the coarsest lattice of pixels to the finest.

    Every pixel is first made uniform by its own distribution function. Of every 2x2 block the upper left pixel comes
    from the coarser scale, then the lower right one, then the other two, which by then have known neighbours on all
    sides.

    Args:
        domain: a domain of images.
        bins: bins of the splines.
        channels, depth: width and residual blocks of each coupling's network.

    Raises:
        UserError: the images have one pixel.
    """

    pixels_coarsest: Tensor

    PARTS: ClassVar = (3, 1, 2)
    """Lattices of a 2x2 block (in reading order) in the order in which they are transformed, after lattice 0."""

    def __init__(self, *, domain: Domain, bins: int, channels: int, depth: int) -> None:
        super().__init__()
        self.domain = domain
        self.marginals = Marginals(domain)
        colours, height, width = domain.shape
        if height * width == 1:
            raise UserError(f"model=flow: {domain.name} has images of one pixel, and couplings need a second one")
        count = (max(height, width) - 1).bit_length()
        self.sizes = [(height, width), *halvings(height, width, count)]
        # Where one pixel is left in a direction, the lattices to that side have no place in the image.
        self.parts = [
            [part for part in self.PARTS if (rows > 1 or part < 2) and (columns > 1 or part % 2 == 0)]
            for rows, columns in self.sizes[:-1]
        ]
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
                for i in range(len(parts))
            )
            for parts, (rows, columns) in zip(self.parts, self.sizes[1:], strict=True)
        )
        self.register_places()

    def register_places(self) -> None:
        """Register, for every lattice, which of its places lie in the image and which pixels they are."""
        index = torch.arange(self.domain.dimensions).view(1, *self.domain.shape)
        for scale in range(len(self.scales)):
            lattices = self.lattices(index, scale, beyond=-1)
            for part in self.parts[scale]:
                self.register(f"{scale}_{part}", lattices[part])
            index = lattices[0]
        self.register("coarsest", index)

    def register(self, name: str, index: Tensor) -> None:
        """Register the places of one lattice, given the pixel at each place, -1 beyond the border."""
        places = (index.flatten() >= 0).nonzero()[:, 0]
        self.register_buffer(f"places_{name}", places, persistent=False)
        self.register_buffer(f"pixels_{name}", index.flatten()[places], persistent=False)

    def start(self, x: Tensor) -> None:
        """Fit the pixels' own distributions to the training set `[N, *shape]`."""
        self.marginals.fit(x)

    def lattices(self, image: Tensor, scale: int, *, beyond: int = 0) -> list[Tensor]:
        """Return the four lattices `[N, C, rows, columns]` of the image at a scale, `beyond` outside its border."""
        height, width = self.sizes[scale]
        padded = functional.pad(image, (0, width % 2, 0, height % 2), value=beyond)
        return list(functional.pixel_unshuffle(padded, 2).unflatten(1, (-1, 4)).unbind(dim=2))

    def log_prob(self, x: Tensor, u: Tensor) -> Tensor:
        """Return the log-density `[N]` per grid step at places `u` of the intervals of grid points `[N, *shape]`."""
        low, high = (end.view(x.shape) for end in self.marginals.interval(x))
        total = torch.log(high - low).flatten(1).sum(1)
        uniform = (low + (high - low) * u).float()
        values = self.values(x.float() + u - 0.5)
        inside = torch.ones_like(values[:1])
        for scale, couplings in enumerate(self.scales):
            known = self.lattices(values, scale)
            changed = self.lattices(uniform, scale)
            counted = self.lattices(inside, scale)
            read = [known[0]]
            for coupling, part in zip(couplings, self.parts[scale], strict=True):
                _, log_derivative = coupling.splines(torch.cat(read, dim=1)).forward(changed[part])
                total = total + (log_derivative * counted[part]).flatten(1).sum(1)
                read.append(known[part])
            values, uniform, inside = known[0], changed[0], counted[0]
        return total

    def values(self, k: Tensor) -> Tensor:
        """Return places on the grid as values in [-1, 1]."""
        return 2 * k / max(self.domain.levels - 1, 1) - 1

    def sample(self, n: int) -> Tensor:
        """Draw grid points `[n, *shape]`, int64, from the coarsest scale to the finest."""
        device, colours = self.marginals.edges.device, self.domain.shape[0]
        grid = torch.zeros(n, self.domain.dimensions, dtype=torch.int64, device=device)
        noise = torch.rand(n, self.domain.dimensions, device=device)

        def put(u: Tensor, name: str) -> Tensor:
            """Store the grid points of `u` `[n, C, rows, columns]` in a lattice; return their values, 0 beyond."""
            places, pixels = getattr(self, f"places_{name}"), getattr(self, f"pixels_{name}")
            points, rest = self.marginals.locate(u.flatten(1)[:, places], pixels)
            grid[:, pixels] = points
            values = torch.zeros(n, u[0].numel(), device=device)
            values[:, places] = self.values(points + rest - 0.5).float()
            return values.view(u.shape)

        values = put(noise[:, self.pixels_coarsest].view(n, colours, 1, 1), "coarsest")
        for scale in reversed(range(len(self.scales))):
            known: dict[int, Tensor] = {0: values}
            for coupling, part in zip(self.scales[scale], self.parts[scale], strict=True):
                splines = coupling.splines(torch.cat(list(known.values()), dim=1))
                latent = torch.zeros(n, values[0].numel(), device=device)
                latent[:, getattr(self, f"places_{scale}_{part}")] = noise[:, getattr(self, f"pixels_{scale}_{part}")]
                known[part] = put(splines.inverse(latent.view(values.shape)), f"{scale}_{part}")
            beyond = torch.zeros_like(values)
            whole = torch.stack([known.get(i, beyond) for i in range(4)], dim=2).flatten(1, 2)
            height, width = self.sizes[scale]
            values = functional.pixel_shuffle(whole, 2)[:, :, :height, :width]
        return grid.view(n, *self.domain.shape)
