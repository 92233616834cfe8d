"""Convolutional blocks on a 2x2 space-to-depth grid, at any number of resolutions."""

from torch import Tensor, nn
from torch.nn import functional


def halvings(height: int, width: int, count: int) -> list[tuple[int, int]]:
    """Return heights and widths after one to `count` halvings, rounded up."""
    sizes = []
    for _ in range(count):
        height, width = (height + 1) // 2, (width + 1) // 2
        sizes.append((height, width))
    return sizes


def kernels_between_equals(module: nn.Module) -> list[nn.Parameter]:
    """Return the convolution kernels that lead from a layer to one of as many channels: neither a first nor a last."""
    return [
        weight
        for weight in module.parameters()
        if weight.ndim == 4 and weight.shape[0] == weight.shape[1] and weight.shape[2:].numel() > 1
    ]


class Residual(nn.Module):
    """Two 3x3 convolutions around a skip; a condition scales and shifts the input of the second one.

    Args:
        channels: of input and output, a multiple of `groups`.
        condition: width of the condition; None for none.
        groups: of the group normalization.
    """

    def __init__(self, *, channels: int, condition: int | None, groups: int = 8) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.GroupNorm(groups, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.norm = nn.GroupNorm(groups, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = None if condition is None else nn.Linear(condition, 2 * channels)

    def forward(self, h: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map `[N, channels, H, W]` to the same shape, given a condition `[N, condition]`, if any."""
        y = self.norm(self.first(h))
        if self.film is not None:
            assert condition is not None
            scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
            y = y * (1 + scale) + shift
        out: Tensor = h + self.second(functional.silu(y))
        return out


class Stage(nn.ModuleList):
    """Residual blocks in a row at one resolution."""

    def __init__(self, *, channels: int, depth: int, condition: int | None = None) -> None:
        super().__init__(Residual(channels=channels, condition=condition) for _ in range(depth))

    def forward(self, h: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map `[N, channels, H, W]` to the same shape."""
        for block in self:
            h = block(h, condition)
        return h
