"""Take out of a training's cost what only the first training in a process takes.

The first training imports Lightning, and the first call of many functions prepares them. These seconds say nothing
about a model, and in a sweep they would fall on whichever trial a process runs first.
"""

import shutil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lookalike.training.distributed import ranks_of
from lookalike.training.history import Silent
from lookalike.training.loop import train
from lookalike.workspace.configuration import Optimizer, Trainer
from lookalike.workspace.progress import reported


class OneWeight(nn.Module):
    """The smallest model that can be trained."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1))

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        """Return a loss that depends on the weight."""
        return {"loss": (x @ self.weight - 1).square().mean()}

    def muon_weights(self) -> list[Tensor]:
        """Return the weight, so that both kinds of steps are taken."""
        return [self.weight]


WARM: set[Trainer] = set()
"""The settings that a training has run with in this process."""


def warm_up_training(optimizer: Optimizer, trainer: Trainer, scratch: Path) -> None:
    """Train the smallest model for two steps and throw it away; the random numbers that follow stay the same."""
    if trainer in WARM or ranks_of(trainer) > 1:
        return
    WARM.add(trainer)
    data, scratch = (np.zeros((4, 1), dtype=np.float32),), scratch / "warm-up"
    try:
        with torch.random.fork_rng(), reported(lambda _: None):
            train(
                OneWeight(),
                data,
                data,
                optimizer=optimizer,
                steps=2,
                batch_size=2,
                trainer=trainer.model_copy(update={"compile": False}),
                seed=0,
                scratch=scratch,
                observer=Silent(),
                preview=None,
            )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
