"""The Lightning module that trains a family: losses, optimizer, and the random numbers of every step."""

import math
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from lookalike.training.batches import Batch
from lookalike.training.optimizer import Muon, groups
from lookalike.workspace.configuration import Optimizer
from lookalike.workspace.errors import UserError

GOLDEN = 2654435769
"""2³² divided by the golden ratio, to the nearest odd number."""


def reseed(seed: int) -> None:
    """Seed the generators of the devices in use, like `torch.manual_seed`.

    `torch.manual_seed` also stores a call and its stack for every kind of device that is not in use. That takes a
    millisecond, and memory that is never freed, at every step.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def step_seed(seed: int, step: int, rank: int) -> int:
    """Return the seed of the random numbers of one step in one process.

    It has 32 bits, because the generator on a CPU ignores higher ones. Multiples of the golden ratio of 2³² lie far
    apart, so runs with different seeds share no step.
    """
    if rank == 0:
        return (seed * GOLDEN + step) % 2**32
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])


class Learner(pl.LightningModule):
    """Train a module that has `losses(*batch)`.

    Args:
        model: trained in place.
        optimizer: settings.
        steps: number of steps, which the learning rate's schedule ends with.
        seed: random numbers follow from it, the step and the rank.
        compile: whether to compile the losses.
        rank, ranks: number of this process, and of processes.
    """

    def __init__(
        self, model: Any, *, optimizer: Optimizer, steps: int, seed: int, compile: bool, rank: int, ranks: int
    ) -> None:
        super().__init__()
        self.model, self.settings, self.steps, self.seed = model, optimizer, steps, seed
        self.rank, self.ranks = rank, ranks
        self.losses: Any = torch.compile(model.losses) if compile else model.losses

    def configure_optimizers(self) -> Any:
        """Return the optimizer, and its schedule: a linear warm-up and a cosine decay to zero."""
        optimizer = Muon(
            groups(self.model, self.settings),
            lr=self.settings.lr,
            betas=(self.settings.beta1, 0.99),
            # In mixed precision, Lightning clips no gradients of a fused optimizer.
            fused=self.trainer.precision == "32-true",
        )
        warmup = max(1.0, self.settings.warmup * self.steps)

        def schedule(step: int) -> float:
            return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the random numbers of a step."""
        reseed(step_seed(self.seed, self.global_step, self.rank))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the losses of a batch.

        Raises:
            UserError: the loss is NaN or infinite.
        """
        losses: dict[str, Tensor] = self.losses(*batch)
        if not torch.isfinite(losses["loss"]):
            raise UserError(
                f"the loss is {losses['loss'].item()} at step {self.global_step}: choose a smaller optimizer.lr or "
                f"optimizer.clip"
            )
        return {name: loss if name == "loss" else loss.detach() for name, loss in losses.items()}

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the losses of a part of the validation data, with the same random numbers at every check."""
        reseed(batch_idx * self.ranks + self.rank)
        losses: dict[str, Tensor] = self.model.losses(*batch)
        return losses
