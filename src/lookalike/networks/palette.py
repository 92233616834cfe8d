"""The levels of grey that one image has, told by its rows above."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Palette(nn.Module):
    """Tones of an image's own: intervals of grid points that are the wider the commoner they are in its rows above.

    What an image went through on its way into the data set leaves it with few levels. A digit of MNIST was scaled from
    black and white by a factor of its own, and has some sixty levels where as many pixels of many digits have eighty.
    Networks that are shown values next to one another do not see which levels there were; a cache does (Grave et al.,
    Improving neural language models with a continuous cache, 2017, arXiv:1612.04426). Here it changes the units of a
    density, not the density, so whatever it says the probabilities of all grid points add up to one.

    The range between the ends is cut into parts that are equally wide in tones of the whole training set, and stay so:
    a place means about the same grey in every image. Inside a part a level's share of the width is

        softmax(log(a p + n) + network(histogram of levels))

    where p is its share in the training set and n its count in the rows above. Training begins with the count alone.

    Args:
        levels: of the grid.
        hidden: width of the network.
        outputs: numbers that it tells of a row's histogram besides.
    """

    PARTS = 4
    FLOOR = 0.02
    """Weight of the training set's shares among what intervals are as wide as, so that no level is impossible."""

    def __init__(self, *, levels: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.levels = levels
        self.log_weight = nn.Parameter(torch.tensor(math.log(20.0)))
        self.read = nn.Linear(levels, hidden)
        self.write = nn.Linear(hidden, levels - 2)
        self.tell = nn.Linear(hidden, outputs, bias=False)
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)

    def count(self, x: Tensor) -> Tensor:
        """How often each level comes in grid points `[..., P]`: `[..., levels]`."""
        counts = torch.zeros(*x.shape[:-1], self.levels, device=x.device)
        return counts.scatter_add_(-1, x.long(), torch.ones(x.shape, device=x.device))

    def above(self, rows: Tensor) -> Tensor:
        """How often each level comes above each row of an image `[N, rows, P]`: `[N, rows, levels]`."""
        counts = self.count(rows)
        return counts.cumsum(1) - counts

    def forward(self, counts: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        """Edges of intervals `[..., levels + 1]` in rows with these counts above them `[..., levels]`, and what else
        such rows are told `[..., outputs]`.

        Args:
            counts: of levels.
            edges: of intervals in the whole training set, `[levels + 1]`.
        """
        # In double precision: intervals are the same in a batch of any size, where single digits would be lost to a
        # narrow density far away.
        known, between, counts = edges.double(), slice(1, -1), counts.double()
        width = known.diff()[between]
        part = ((width.cumsum(0) - width / 2) / width.sum() * self.PARTS).long().clamp(max=self.PARTS - 1)
        members = functional.one_hot(part, self.PARTS).to(width)
        room = (width @ members)[part]
        common = width / room
        h = functional.silu(in_double(self.read, torch.log1p(counts)))
        logits = torch.log(self.log_weight.exp() * common + counts[..., between]) + in_double(self.write, h)
        weights = (logits - logits.detach().amax(-1, keepdim=True)).exp() + 1e-30
        share = weights / (weights @ members)[..., part]
        own = room * torch.lerp(share, common, self.FLOOR)
        first, second, last = (known[i].expand(*own.shape[:-1], 1) for i in (0, 1, -1))
        own_edges = torch.cat([first, second, second + own.cumsum(-1), last], dim=-1)
        return own_edges.to(edges), self.tell(h.to(edges))


def in_double(layer: nn.Linear, x: Tensor) -> Tensor:
    """What a layer makes of numbers of double precision."""
    return functional.linear(x, layer.weight.double(), layer.bias.double())
