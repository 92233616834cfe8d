"""Batches of the training data: the batch of a step follows from the seed and the number of the step."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

Batch = tuple[Tensor, ...]

Arrays = tuple[NDArray[Any], ...]


def gather(arrays: Arrays, rows: NDArray[np.int64]) -> Batch:
    """Return the given rows of each array as tensors."""
    return tuple(torch.from_numpy(array[rows]) for array in arrays)


class Batches(IterableDataset[Batch]):
    """Shuffled batches from any step on: epoch e is a permutation of the rows with the seed (seed, e).

    With several processes, each one gets its part of every batch.

    Args:
        arrays: `[N, ...]` each; a batch holds the same rows of all.
        batch_size: rows per step, of all processes together.
        seed: of the permutations.
        first_step, steps: the first step, and the one after the last.
        rank, ranks: number of this process, and of processes.
    """

    def __init__(
        self, arrays: Arrays, *, batch_size: int, seed: int, first_step: int, steps: int, rank: int = 0, ranks: int = 1
    ) -> None:
        self.arrays, self.batch_size, self.seed = arrays, batch_size, seed
        self.first_step, self.steps = first_step, steps
        self.size = batch_size // ranks
        self.offset = rank * self.size

    def __iter__(self) -> Iterator[Batch]:
        per_epoch = len(self.arrays[0]) // self.batch_size
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for step in range(self.first_step, self.steps):
            if step // per_epoch != epoch:
                epoch = step // per_epoch
                order = np.random.default_rng([self.seed, epoch]).permutation(len(self.arrays[0]))
            start = step % per_epoch * self.batch_size + self.offset
            yield gather(self.arrays, order[start : start + self.size])
