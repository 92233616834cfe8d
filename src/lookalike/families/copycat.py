"""Returns training data: perfect samples, nothing new. The control that novelty metrics must catch."""

from typing import ClassVar

import torch
from torch import Tensor

from lookalike.domain.domain import Domain
from lookalike.families.contract import Family
from lookalike.workspace.ranges import PositiveInt


class Copycat(Family):
    """Remembers some of the training data and returns them in random order.

    Args:
        domain: what one observation is.
        memory: observations to remember at most; sampling more than that repeats them.
    """

    is_floor: ClassVar[bool] = True
    is_fitted: ClassVar[bool] = True
    remembered: Tensor
    count: Tensor

    def __init__(self, *, domain: Domain, memory: PositiveInt) -> None:
        super().__init__(domain=domain)
        dtype = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[domain.grid_dtype.itemsize]
        self.register_buffer("remembered", torch.zeros(memory, *domain.shape, dtype=dtype))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def fit(self, x: Tensor) -> None:
        """Remember the first of the training set `[N, *shape]`, which `prepare` has shuffled."""
        kept = x[: len(self.remembered)]
        self.remembered[: len(kept)] = kept
        self.count.fill_(len(kept))

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        """Return remembered observations `[n, *shape]`; none comes twice before all have come once."""
        count, device = int(self.count), self.remembered.device
        rounds = [torch.randperm(count, device=device) for _ in range(-(-n // count))]
        return self.remembered[torch.cat(rounds)[:n]].long()
