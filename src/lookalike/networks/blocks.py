"""Convolutional blocks for small images on a 2x2 space-to-depth grid."""

from torch import Tensor, nn
from torch.nn import functional


def reduced(height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Sizes after a 2x2 space-to-depth and after one more halving, both rounded up."""
    half = ((height + 1) // 2, (width + 1) // 2)
    return half, ((half[0] + 1) // 2, (half[1] + 1) // 2)


class Residual(nn.Module):
    """Two 3x3 convolutions around a skip; a condition scales and shifts what the second one sees."""

    def __init__(self, *, channels: int, condition: int | None, groups: int = 8) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.GroupNorm(groups, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.norm = nn.GroupNorm(groups, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = None if condition is None else nn.Linear(condition, 2 * channels)

    def forward(self, h: Tensor, condition: Tensor | None) -> Tensor:
        y = self.norm(self.first(h))
        if self.film is not None:
            assert condition is not None
            scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
            y = y * (1 + scale) + shift
        out: Tensor = h + self.second(functional.silu(y))
        return out
