"""The levels of grey that one image has, told by its rows above."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Palette(nn.Module):
    """Tones of an image's own: intervals of grid points that are the wider the commoner they are in its rows above.

    What an image went through on its way into the data set leaves it with few levels. A digit of MNIST was scaled from
    black and white by a factor of its own, and has 66 levels where as many pixels of many digits have 79.
    Networks that are shown values next to one another do not see which levels there were; a cache does (Grave et al.,
    Improving neural language models with a continuous cache, 2017, arXiv:1612.04426). Here it changes the units of a
    density, not the density, so whatever it says the probabilities of all grid points add up to one.

    The range between the ends is cut into parts, about equally wide in tones of the whole training set, which stay
    where they are: a place means about the same grey in every image. A level's share of the width of its part is

        0.98 softmax(log(a p + n) + network(histogram of the rows above)) + 0.02 p

    the softmax being over the part, p the level's share in tones of the training set, and n its count in the rows
    above. Training begins with the count alone. The network also tells what reads the row of its histogram.

    Args:
        levels: of the grid.
        hidden: width of the network.
        outputs: numbers that it tells of a row's histogram besides.
    """

    PARTS = 4
    """Fewer where they would hold less than two levels each."""
    FLOOR = 0.02
    """Weight of the training set's shares among what intervals are as wide as, so that no level is impossible."""

    def __init__(self, *, levels: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.levels, self.parts = levels, max(1, min(self.PARTS, (levels - 2) // 2))
        self.log_weight = nn.Parameter(torch.tensor(math.log(20.0)))
        self.read = nn.Linear(levels, hidden)
        self.write = nn.Linear(hidden, levels - 2)
        self.tell = nn.Linear(hidden, outputs, bias=False)
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)

    def count(self, x: Tensor) -> Tensor:
        """How often each level comes in grid points `[..., P]`: `[..., levels]`, int64."""
        counts = torch.zeros(*x.shape[:-1], self.levels, dtype=torch.int64, device=x.device)
        return counts.scatter_add_(-1, x.long(), torch.ones_like(x, dtype=torch.int64))

    def above(self, rows: Tensor) -> Tensor:
        """How often each level comes above each row of an image `[N, rows, P]`: `[N, rows, levels]`."""
        counts = self.count(rows).long()
        return counts.cumsum(1) - counts

    def forward(self, counts: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        """Edges of intervals `[..., levels + 1]` in rows with these counts above them `[..., levels]`, and what else
        such rows are told `[..., outputs]`.

        Args:
            counts: of levels.
            edges: of intervals in the whole training set, `[levels + 1]`.
        """
        # In double precision, so that edges do not depend on the size of a batch: a narrow logistic far away would show
        # their last digits.
        known, between, counts = edges.double(), slice(1, -1), counts.double()
        width = known.diff()[between]
        middle = ((known[1:-2] + known[2:-1]) / 2 - known[1]) / (known[-2] - known[1])
        part = (middle * self.parts).long().clamp(max=self.parts - 1)
        members = functional.one_hot(part, self.parts).to(width)
        room = (width @ members)[part]
        common = width / room
        h = functional.silu(in_double(self.read, torch.log1p(counts)))
        logits = torch.log(self.log_weight.exp() * common + counts[..., between]) + in_double(self.write, h)
        # A part whose weights are all too small for a float has its levels' alike, rather than 0/0.
        weights = (logits - logits.detach().amax(-1, keepdim=True)).exp() + 1e-30
        share = weights / (weights @ members)[..., part]
        own = room * torch.lerp(share, common, self.FLOOR)
        first, second, last = (known[i].expand(*own.shape[:-1], 1) for i in (0, 1, -1))
        own_edges = torch.cat([first, second, second + running_sum(own), last], dim=-1)
        return own_edges.to(edges), self.tell(h.to(edges))


def running_sum(x: Tensor) -> Tensor:
    """Sums `[..., D]` over the last dimension up to each place.

    By doubling, since CUDA does not repeat `cumsum` of floats to the last digit.
    """
    reach = 1
    while reach < x.shape[-1]:
        x = x + functional.pad(x[..., :-reach], (reach, 0))
        reach *= 2
    return x


def in_double(layer: nn.Linear, x: Tensor) -> Tensor:
    """What a layer makes of numbers of double precision."""
    return functional.linear(x, layer.weight.double(), layer.bias.double())
