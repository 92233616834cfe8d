"""Training by gradient descent: with `history` and `ranks` the only users of Lightning.

Training is a function of the configuration and the data alone. The batch of a step and the random numbers in it
follow from the seed and the step's number, so a run that was killed goes on from its last checkpoint to the same
bytes.
"""

import copy
import functools
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from lookalike.core.config import Optimizer, Trainer
from lookalike.core.errors import UserError
from lookalike.history import History, Observer, Record, Silent, reseed
from lookalike.models.build import set_threads
from lookalike.muon import Muon, turned
from lookalike.operations import Operations
from lookalike.ranks import check, for_lightning, together

Batch = tuple[Tensor, ...]
Arrays = tuple[NDArray[Any], ...]


def gather(arrays: Arrays, rows: NDArray[np.int64]) -> Batch:
    """The given rows of each array, as tensors."""
    return tuple(torch.from_numpy(array[rows]) for array in arrays)


class Batches(IterableDataset[Batch]):
    """An endless stream of shuffled batches that can start at any step: epoch e is permutation (seed, e).

    One rank of several gets its part of each batch.
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


class Learner(pl.LightningModule):
    """A module with `losses`, its optimizer, and the seed that every step's random numbers follow from."""

    def __init__(
        self, model: Any, *, optimizer: Optimizer, steps: int, seed: int, compile: bool, rank: int, ranks: int
    ) -> None:
        super().__init__()
        self.model, self.settings, self.steps, self.seed = model, optimizer, steps, seed
        self.rank, self.ranks = rank, ranks
        self.losses: Any = torch.compile(model.losses) if compile else model.losses

    def configure_optimizers(self) -> Any:
        optimizer = Muon(
            groups(self.model, self.settings),
            lr=self.settings.lr,
            betas=(self.settings.momentum, 0.99),
            # Lightning clips no gradients of a fused optimizer in mixed precision.
            fused=self.trainer.precision == "32-true",
        )
        warmup = max(1.0, self.settings.warmup * self.steps)

        def schedule(step: int) -> float:
            return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        reseed(step_seed(self.seed, self.global_step, self.rank))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.losses(*batch)
        if not torch.isfinite(losses["loss"]):
            raise UserError(
                f"the loss is {losses['loss'].item()} at step {self.global_step}: a smaller optimizer.lr or "
                f"optimizer.clip is the usual cure"
            )
        return {name: loss if name == "loss" else loss.detach() for name, loss in losses.items()}

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        reseed(batch_idx * self.ranks + self.rank)
        losses: dict[str, Tensor] = self.model.losses(*batch)
        return losses


GOLDEN = 2654435769
"""2³² divided by the golden ratio, to the nearest odd number."""


def step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of a step's random numbers, of 32 bits since a CPU's generator looks at no more: another for every rank.

    Multiples of the golden ratio's share of 2³² lie far apart, so runs of different seeds have no step in common.
    """
    if rank == 0:
        return (seed * GOLDEN + step) % 2**32
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])


def groups(model: nn.Module, settings: Optimizer) -> list[dict[str, Any]]:
    """What is trained, by how: weight decay on all that has two dimensions or more, matrices, kernels and tables by
    place, none on what has one, biases and gains."""
    trained = [p for p in model.parameters() if p.requires_grad]
    hidden = set(turned(model)) if settings.muon else set()
    kinds = (
        ([p for p in trained if p in hidden], settings.weight_decay, settings.muon),
        ([p for p in trained if p.ndim > 1 and p not in hidden], settings.weight_decay, 0.0),
        ([p for p in trained if p.ndim <= 1], 0.0, 0.0),
    )
    return [{"params": p, "weight_decay": decay, "stretch": stretch} for p, decay, stretch in kinds if p]


def operations_per_step(model: nn.Module, batch: Batch, optimizer: Optimizer | None = None) -> int:
    """Floating-point operations of one step on a batch: forward and backward pass, and an optimizer."""
    twin, counter = copy.deepcopy(model), Operations()
    with torch.random.fork_rng(), counter:
        twin.losses(*batch)["loss"].backward()  # type: ignore[operator]
        if optimizer is not None:
            Muon(groups(twin, optimizer), lr=0.0).step()
    return counter.total


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The last checkpoint, or None where there is none or a damaged one, which is deleted."""
    if not path.is_file():
        return None
    try:
        checkpoint: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # whatever its first bad byte makes of it
        print(f"the checkpoint {path} is damaged ({str(error).splitlines()[0]}): training starts anew")
        path.unlink()
        return None
    return checkpoint


def train(
    model: nn.Module,
    arrays: Arrays,
    validation: Arrays,
    *,
    optimizer: Optimizer,
    steps: int,
    batch_size: int,
    trainer: Trainer,
    seed: int,
    scratch: Path,
    observer: Observer,
    preview: Callable[[], NDArray[Any]] | None,
) -> History:
    """Train a module with `losses(*batch)` in place, in as many processes as `trainer.devices` says.

    Args:
        model: trained in place; with averaging on, it ends with the averaged weights.
        arrays: what a batch is cut from, each `[N, ...]`.
        validation: the same of the validation split; its losses are measured `trainer.checks` times, more where
            steps are few and don't divide.
        optimizer, trainer: settings.
        steps: optimizer steps.
        batch_size: rows a step, of all processes together.
        seed: everything random follows from it.
        scratch: a folder for the last checkpoint, named by the run's fingerprint: what is found there is gone on from.
        observer: told of losses and previews as they come.
        preview: draws a few samples, or None.

    Returns:
        Loss curves and previews, those of the time before a resumption among them.

    Raises:
        UserError: the batch is larger than the data, can't be divided between processes, or the loss is not finite.
        KeyboardInterrupt: the user stopped it; the last checkpoint stays in `scratch`.
    """
    if batch_size > len(arrays[0]):
        raise UserError(f"batch size {batch_size} is larger than the training set of {len(arrays[0])}")
    if trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError("trainer.accelerator=gpu: torch sees no GPU here; choose trainer=cpu")
    points = min(trainer.validation_points, len(validation[0]))
    check(model, trainer, batch_size=batch_size, validation=points)
    set_threads(trainer.threads, processes=trainer.devices)
    resume = load_checkpoint(scratch / "last.ckpt")
    first_step = int(resume["global_step"]) if resume else 0
    if resume:
        print(f"going on from step {first_step} of {steps}")
    rest: dict[str, Any] = {
        "optimizer": optimizer, "steps": steps, "first_step": first_step, "batch_size": batch_size, "points": points,
        "trainer": trainer, "seed": seed, "scratch": scratch,
    }  # fmt: skip
    first = functools.partial(fit, model, arrays, validation, observer=observer, preview=preview, **rest)
    if trainer.devices == 1:
        return first(rank=0)
    other = functools.partial(fit, model, arrays, validation, observer=Silent(), preview=None, **rest)
    return together(first, other, model, trainer)


def fit(
    model: nn.Module,
    arrays: Arrays,
    validation: Arrays,
    *,
    optimizer: Optimizer,
    steps: int,
    first_step: int,
    batch_size: int,
    points: int,
    trainer: Trainer,
    seed: int,
    scratch: Path,
    observer: Observer,
    preview: Callable[[], NDArray[Any]] | None,
    rank: int,
) -> History:
    """What `train` does in each process; checkpoints are written by rank 0 alone.

    Args:
        first_step: 0, or that of the checkpoint in `scratch`.
        points: of the validation split to measure losses on.
        rank: the process's number.
    """
    quiet()
    ranks = trainer.devices
    every = max(1, steps // trainer.checks)
    checkpoint = scratch / "last.ckpt"
    stream = Batches(
        arrays, batch_size=batch_size, seed=seed, first_step=first_step, steps=steps, rank=rank, ranks=ranks
    )
    # As many parts for every rank: none may be left waiting at the end of a check.
    parts = -(-points // (trainer.batch_size * ranks)) * ranks
    held_out = [gather(validation, part) for part in np.array_split(np.arange(points), parts)[rank::ranks]]
    record = Record(steps=steps, every=every, observer=observer, preview=preview, previews=trainer.previews)
    callbacks: list[Callback] = [record]
    if optimizer.average:
        callbacks.insert(0, EMAWeightAveraging(decay=max(0.0, 1 - 1 / (optimizer.average * steps))))
    callbacks.append(
        # After each check, so that what the check found is in it.
        ModelCheckpoint(
            dirpath=scratch,
            filename="last",
            every_n_epochs=1,
            save_on_train_epoch_end=False,
            save_top_k=1,
            enable_version_counter=False,
        )
    )
    lightning = pl.Trainer(
        **for_lightning(trainer, rank),
        precision=trainer.precision,
        max_steps=steps,
        max_epochs=-1,
        val_check_interval=every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        gradient_clip_val=optimizer.clip,
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        deterministic="warn",  # of sums that CUDA does not repeat to the last digit, such as those of `flow`'s splines
        inference_mode=False,
        default_root_dir=scratch,
    )
    learner = Learner(
        model, optimizer=optimizer, steps=steps, seed=seed, compile=trainer.compile, rank=rank, ranks=ranks
    )
    sources: tuple[Any, ...] = (stream, held_out)
    loaders = [DataLoader(source, batch_size=None) for source in sources]
    try:
        lightning.fit(learner, *loaders, ckpt_path=checkpoint if first_step else None, weights_only=True)
    except SystemExit:
        raise KeyboardInterrupt from None
    except Exception as error:
        if trainer.compile and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise UserError(
                f"trainer.compile=true: {type(model).__name__} can't be compiled here "
                f"({' '.join(str(error).split('Set TORCH')[0].split())}); choose trainer.compile=false"
            ) from None
        raise
    if lightning.interrupted:
        raise KeyboardInterrupt
    if first_step == steps:
        # Killed after the last check. Lightning has nothing left to do, and so does not put the averaged weights in.
        learner.load_state_dict(torch.load(checkpoint, weights_only=True, map_location="cpu")["state_dict"])
    model.eval()
    previews = {step: samples.numpy() for step, samples in record.previews.items()}
    return History(train=record.train_rows, validation=record.validation_rows, previews=previews)


def quiet() -> None:
    """Silence what Lightning says at every start; a warning that matters to a user is our own."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    for message in (
        ".*does not have many workers.*",
        ".*exists and is not empty.*",
        ".*mid-epoch.*",
        ".*litlogger.*",
        ".*not writable.*",
        ".*treespec.*",
        ".*GPU available but not used.*",
        ".*broadcast_buffers.*",  # its successor is not in every version of torch that will do
    ):
        warnings.filterwarnings("ignore", message=message)
