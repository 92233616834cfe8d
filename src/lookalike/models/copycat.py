"""Returns training data: perfect samples, nothing new. The control that novelty metrics must catch."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from lookalike.core.domain import Domain
from lookalike.core.likelihood import Kind
from lookalike.core.ranges import PositiveInt


class Copycat(nn.Module):
    """Remembers some of the training data and gives them back in random order.

    Args:
        domain: what one observation is.
        memory: observations to remember at most; sampling more than that repeats them.
    """

    likelihood_kind: ClassVar[Kind | None] = None
    remembered: Tensor
    count: Tensor

    def __init__(self, *, domain: Domain, memory: PositiveInt) -> None:
        super().__init__()
        grid = torch.uint8 if domain.kind == "image" else torch.int64
        self.register_buffer("remembered", torch.zeros(memory, *domain.shape, dtype=grid))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def fit(self, x: Tensor) -> None:
        """Remember the first of the training set `[N, *shape]`, which `prepare` has shuffled."""
        kept = x[: len(self.remembered)]
        self.remembered[: len(kept)] = kept
        self.count.fill_(len(kept))

    def sample(self, n: int) -> Tensor:
        """Remembered observations `[n, *shape]`: none comes twice before all have come once."""
        count = int(self.count)
        rounds = [torch.randperm(count) for _ in range(-(-n // count))]
        return self.remembered[torch.cat(rounds)[:n]].long()
