"""The training loop, by Lightning: the steps, checks and checkpoints of a training by gradient descent.

A training is a function of the configuration and the data alone. The batch of a step and its random numbers follow from
the seed and the number of the step, so a run that was killed continues from its last checkpoint to the same bytes.
"""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from lookalike.training.batches import Arrays, Batch, Batches, gather
from lookalike.training.checkpoints import last_step
from lookalike.training.distributed import check_divisible, check_same_weights, for_lightning, ranks_of
from lookalike.training.history import History, Observer, Record
from lookalike.training.learner import Learner
from lookalike.workspace.configuration import Optimizer, Trainer
from lookalike.workspace.devices import place
from lookalike.workspace.errors import UserError
from lookalike.workspace.threads import set_threads


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
    """Train a module with `losses(*batch)` in place, and return loss curves and previews.

    Where `trainer` asks for several processes, every one of them calls this function. Rank 0 writes the checkpoints.

    Args:
        model: trained in place; with averaging, it ends with the averaged weights.
        arrays: training data, `[N, ...]` each.
        validation: validation data, measured `trainer.checks` times, or a few more.
        optimizer, trainer: settings.
        steps: number of optimizer steps.
        batch_size: rows per step, of all processes together.
        seed: everything random follows from it.
        scratch: a folder for the last checkpoint; the training continues from the one that it finds there.
        observer: receives losses and previews as they come.
        preview: draws a few samples; None draws none.

    Raises:
        UserError: the batch does not fit the data or the processes, or the loss is not finite.
        KeyboardInterrupt: the user stopped the training; the last checkpoint stays in `scratch`.
    """
    if batch_size > len(arrays[0]):
        raise UserError(f"batch size {batch_size} is larger than the training set of {len(arrays[0])}")
    points, ranks = min(trainer.validation_points, len(validation[0])), ranks_of(trainer)
    check_divisible(model, trainer, batch_size=batch_size, validation=points)
    set_threads(trainer)
    rank = place().rank if ranks > 1 else 0
    checkpoint = scratch / "last.ckpt"
    first_step = last_step(checkpoint, rank=rank, ranks=ranks)
    if first_step and rank == 0:
        print(f"continuing from step {first_step} of {steps}")
    every = max(1, steps // trainer.checks)
    record = Record(
        steps=steps, every=every, observer=observer, preview=preview, previews=trainer.previews, ranks=ranks
    )
    stream = Batches(
        arrays, batch_size=batch_size, seed=seed, first_step=first_step, steps=steps, rank=rank, ranks=ranks
    )
    held_out = parts_of(validation, points, batch_size=trainer.batch_size, rank=rank, ranks=ranks)
    learner = Learner(
        model, optimizer=optimizer, steps=steps, seed=seed, compile=trainer.compile, rank=rank, ranks=ranks
    )
    lightning = lightning_trainer(record, optimizer=optimizer, trainer=trainer, scratch=scratch)
    fit(lightning, learner, stream, held_out, checkpoint=checkpoint)
    model.eval()
    previews = {step: samples.numpy() for step, samples in record.previews.items()}
    return History(train=record.train_rows, validation=record.validation_rows, previews=previews)


def parts_of(validation: Arrays, points: int, *, batch_size: int, rank: int, ranks: int) -> list[Batch]:
    """Return the batches of the first `points` rows of the validation data that one rank measures.

    Every rank gets the same number of batches, so that none waits at the end of a check.
    """
    count = -(-points // (batch_size * ranks)) * ranks
    return [gather(validation, part) for part in np.array_split(np.arange(points), count)[rank::ranks]]


def lightning_trainer(record: Record, *, optimizer: Optimizer, trainer: Trainer, scratch: Path) -> pl.Trainer:
    """Return Lightning's Trainer for a training whose curves `record` keeps."""
    quiet()
    callbacks: list[Callback] = [record]
    if optimizer.ema_horizon:
        callbacks.insert(0, EMAWeightAveraging(decay=max(0.0, 1 - 1 / (optimizer.ema_horizon * record.steps))))
    callbacks.append(
        # It comes after `record`, so that a checkpoint holds what the check before it found.
        ModelCheckpoint(
            dirpath=scratch,
            filename="last",
            every_n_epochs=1,
            save_on_train_epoch_end=False,
            save_top_k=1,
            enable_version_counter=False,
        )
    )
    return pl.Trainer(
        **for_lightning(trainer),
        precision=trainer.precision,
        max_steps=record.steps,
        max_epochs=-1,
        val_check_interval=record.every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        gradient_clip_val=optimizer.clip,
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        deterministic="warn",  # Some sums on a GPU, such as those of the splines of `flow`, do not repeat exactly.
        inference_mode=False,
        default_root_dir=scratch,
    )


def fit(lightning: pl.Trainer, learner: Learner, stream: Batches, held_out: list[Any], *, checkpoint: Path) -> None:
    """Run the training, from the checkpoint if `stream` does not start at step 0.

    Raises:
        UserError: the model cannot be compiled.
        RuntimeError: the processes ended with different weights.
        KeyboardInterrupt: the user stopped the training.
    """
    sources: tuple[Any, ...] = (stream, held_out)
    loaders = [DataLoader(source, batch_size=None) for source in sources]
    try:
        lightning.fit(learner, *loaders, ckpt_path=checkpoint if stream.first_step else None, weights_only=True)
    except SystemExit:
        raise KeyboardInterrupt from None
    except Exception as error:
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise UserError(
                f"trainer.compile=true: {type(learner.model).__name__} cannot be compiled here "
                f"({' '.join(str(error).split('Set TORCH')[0].split())}); choose trainer.compile=false"
            ) from None
        raise
    if lightning.interrupted:
        raise KeyboardInterrupt
    if stream.first_step == stream.steps:
        # Lightning has no step left to take, and so does not load the averaged weights.
        learner.load_state_dict(torch.load(checkpoint, weights_only=True, map_location="cpu")["state_dict"])
    check_same_weights(learner.model, ranks=learner.ranks)


def quiet() -> None:
    """Silence Lightning's messages; this project reports by itself what a user must know."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    for message in (
        ".*does not have many workers.*",
        ".*exists and is not empty.*",
        ".*mid-epoch.*",
        ".*dirpath has changed.*",
        ".*litlogger.*",
        ".*not writable.*",
        ".*treespec.*",
        ".*GPU available but not used.*",
        ".*broadcast_buffers.*",  # Its successor is missing in older versions of torch.
        ".*srun.*",
    ):
        warnings.filterwarnings("ignore", message=message)
