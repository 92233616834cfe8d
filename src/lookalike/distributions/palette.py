"""The levels of grey or colour that one image has, predicted from its rows above."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Palette(nn.Module):
    """Tones of an image's own: the intervals of grid points are the wider the more common they are in the rows above.

    What an image went through on its way into the data set leaves it with few levels: a digit of MNIST was scaled from
    black and white by a factor of its own, and has 66 levels where as many pixels of many digits have 79. Networks that
    see values of neighbours do not see which levels occurred; a cache does (Grave et al., Improving neural language
    models with a continuous cache, 2017, arXiv:1612.04426). Here the cache changes the units of a density, not the
    density, so the probabilities of all grid points add up to one whatever it predicts.

    The range between the ends is cut into parts, about equally wide in the tones of the whole training set, which stay
    where they are: a place means about the same grey in every image. A level's share of the width of its part is

        0.98 softmax(log(a p + n) + network(histogram of the rows above)) + 0.02 p

    with the softmax over the part, p the level's share in the tones of the training set, and n its count in the rows
    above. Training begins with the count alone. Every channel has intervals of its own.

    Args:
        channels: channels of the images.
        levels: levels of the grid.
        hidden: width of the network.
        outputs: numbers that the network adds to the context of a row.
    """

    PARTS = 4
    """Parts of the range; fewer where a part would hold less than two levels."""
    FLOOR = 0.02
    """Weight of the training set's shares in the widths, so that no level is impossible."""

    def __init__(self, *, channels: int, levels: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.channels, self.levels = channels, levels
        self.parts = max(1, min(self.PARTS, (levels - 2) // 2))
        self.log_weight = nn.Parameter(torch.tensor(math.log(20.0)))
        self.read = nn.Linear(channels * levels, hidden)
        self.write = nn.Linear(hidden, channels * (levels - 2))
        self.describe = nn.Linear(hidden, outputs, bias=False)
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)

    def count(self, x: Tensor) -> Tensor:
        """Count each level in pixels `[..., channels, P]`: `[..., channels, levels]`, int64."""
        counts = torch.zeros(*x.shape[:-1], self.levels, dtype=torch.int64, device=x.device)
        return counts.scatter_add_(-1, x.long(), torch.ones_like(x, dtype=torch.int64))

    def above(self, rows: Tensor) -> Tensor:
        """Count each level above each row of `[N, rows, channels, P]`: `[N, rows, channels, levels]`."""
        counts = self.count(rows)
        return counts.cumsum(1) - counts

    def forward(self, counts: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        """Return edges `[..., channels, levels + 1]` and context `[..., outputs]` of rows with counts above them.

        Args:
            counts: counts of levels above the rows, `[..., channels, levels]`.
            edges: edges of the intervals in the whole training set, `[channels, levels + 1]`.
        """
        # Double precision keeps the edges independent of the batch size: a narrow logistic far away would show the
        # last digits of single precision.
        known, between, counts = edges.double(), slice(1, -1), counts.double()
        width = known.diff(dim=1)[:, between]
        low, high = known[:, 1:2], known[:, -2:-1]
        middle = ((known[:, 1:-2] + known[:, 2:-1]) / 2 - low) / (high - low)
        part = (middle * self.parts).long().clamp(max=self.parts - 1)
        members = functional.one_hot(part, self.parts).to(width)  # [channels, levels - 2, parts]
        room = torch.einsum("cl,clp->cp", width, members).gather(1, part)
        common = width / room
        h = functional.silu(in_double(self.read, torch.log1p(counts).flatten(-2)))
        correction = in_double(self.write, h).unflatten(-1, (self.channels, -1))
        logits = torch.log(self.log_weight.exp() * common + counts[..., between]) + correction
        # The constant keeps a part whose weights all underflow from becoming 0/0: its levels then share it equally.
        weights = (logits - logits.detach().amax(-1, keepdim=True)).exp() + 1e-30
        totals = torch.einsum("...cl,clp->...cp", weights, members)
        share = weights / totals.gather(-1, part.expand(*totals.shape[:-1], -1))
        own = room * torch.lerp(share, common, self.FLOOR)
        first, second, last = (known[:, i : i + 1].expand(*own.shape[:-1], 1) for i in (0, 1, self.levels))
        own_edges = torch.cat([first, second, second + running_sum(own), last], dim=-1)
        return own_edges.to(edges), self.describe(h.to(edges))


def running_sum(x: Tensor) -> Tensor:
    """Return the cumulative sums of `[..., D]` over the last dimension.

    Doubling replaces `cumsum`, which CUDA does not repeat to the last digit for floats.
    """
    reach = 1
    while reach < x.shape[-1]:
        x = x + functional.pad(x[..., :-reach], (reach, 0))
        reach *= 2
    return x


def in_double(layer: nn.Linear, x: Tensor) -> Tensor:
    """Apply a linear layer in double precision."""
    return functional.linear(x, layer.weight.double(), layer.bias.double())
