"""Training by gradient descent: the only user of Lightning.

Training is a function of the configuration and the data alone. The batch of a step and the random numbers in it
follow from the seed and the step's number, so a run that was killed goes on from its last checkpoint to the same
bytes.
"""

import copy
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.flop_counter import FlopCounterMode

from lookalike.core.config import Optimizer, Trainer
from lookalike.core.errors import UserError
from lookalike.core.progress import progress
from lookalike.models.build import set_threads
from lookalike.muon import Muon, is_hidden_kernel

Batch = tuple[Tensor, ...]
Arrays = tuple[NDArray[Any], ...]


class Observer(Protocol):
    """Who is told of training while it runs."""

    def metrics(self, values: dict[str, float], step: int) -> None: ...

    def samples(self, samples: NDArray[Any], step: int) -> None: ...


class History(NamedTuple):
    """What training tells: rows with `step` and each loss, and samples by step."""

    train: list[dict[str, float]]
    validation: list[dict[str, float]]
    previews: dict[int, NDArray[Any]]


class Silent:
    """An observer that keeps nothing."""

    def metrics(self, values: dict[str, float], step: int) -> None: ...

    def samples(self, samples: NDArray[Any], step: int) -> None: ...


def gather(arrays: Arrays, rows: NDArray[np.int64]) -> Batch:
    """The given rows of each array, as tensors."""
    return tuple(torch.from_numpy(array[rows]) for array in arrays)


class Batches(IterableDataset[Batch]):
    """An endless stream of shuffled batches that can start at any step: epoch e is permutation (seed, e)."""

    def __init__(self, arrays: Arrays, *, batch_size: int, seed: int, first_step: int, steps: int) -> None:
        self.arrays, self.batch_size, self.seed = arrays, batch_size, seed
        self.first_step, self.steps = first_step, steps

    def __iter__(self) -> Iterator[Batch]:
        per_epoch = len(self.arrays[0]) // self.batch_size
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for step in range(self.first_step, self.steps):
            if step // per_epoch != epoch:
                epoch = step // per_epoch
                order = np.random.default_rng([self.seed, epoch]).permutation(len(self.arrays[0]))
            start = step % per_epoch * self.batch_size
            yield gather(self.arrays, order[start : start + self.batch_size])


class Learner(pl.LightningModule):
    """A module with `losses`, its optimizer, and the seed that every step's random numbers follow from."""

    def __init__(self, model: nn.Module, *, optimizer: Optimizer, steps: int, seed: int) -> None:
        super().__init__()
        self.model, self.settings, self.steps, self.seed = model, optimizer, steps, seed

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
        reseed(self.seed * 2**32 + self.global_step)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.model.losses(*batch)  # type: ignore[operator]
        if not torch.isfinite(losses["loss"]):
            raise UserError(
                f"the loss is {losses['loss'].item()} at step {self.global_step}: a smaller optimizer.lr or "
                f"optimizer.clip is the usual cure"
            )
        return {name: loss if name == "loss" else loss.detach() for name, loss in losses.items()}

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        reseed(batch_idx)
        losses: dict[str, Tensor] = self.model.losses(*batch)  # type: ignore[operator]
        return losses


def reseed(seed: int) -> None:
    """What `torch.manual_seed` does to the devices in use, at every step of training.

    That function also keeps a call, with the stack that it came from, for every kind of device that is not in use: a
    millisecond a step, and memory that is never given back.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def groups(model: nn.Module, settings: Optimizer) -> list[dict[str, Any]]:
    """What is trained, by how: weight decay on matrices and kernels, none on biases, gains and the like."""
    trained = [p for p in model.parameters() if p.requires_grad]
    hidden = {p for p in trained if settings.muon and is_hidden_kernel(p)}
    kinds = (
        ([p for p in trained if p in hidden], settings.weight_decay, settings.muon),
        ([p for p in trained if p.ndim > 1 and p not in hidden], settings.weight_decay, 0.0),
        ([p for p in trained if p.ndim <= 1], 0.0, 0.0),
    )
    return [{"params": p, "weight_decay": decay, "stretch": stretch} for p, decay, stretch in kinds if p]


class Record(Callback):
    """Keeps the loss curves and tells the observer; runs after weight averaging has put the averaged weights in."""

    def __init__(
        self, *, steps: int, every: int, observer: Observer, preview: Callable[[], NDArray[Any]] | None, previews: int
    ) -> None:
        self.steps, self.every, self.observer, self.preview = steps, every, observer, preview
        checks = -(-steps // every)
        self.preview_at = {min(steps, round((i + 1) * checks / previews) * every) for i in range(previews)}
        self.train_rows: list[dict[str, float]] = []
        self.validation_rows: list[dict[str, float]] = []
        self.previews: dict[int, Tensor] = {}
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self.validation: list[dict[str, Tensor]] = []
        self.log_every = max(1, steps // 100)
        self.bar: Any = None
        self.told = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.bar = progress(range(self.steps), "training", total=self.steps, unit="step")
        self.bar.update(trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.bar.update(1)
        for name, value in outputs.items():
            self.sums[name] = self.sums.get(name, torch.zeros(())) + value.detach().cpu()
        self.count += 1
        step = trainer.global_step
        if step == self.steps:
            trainer.val_check_batch = self.steps  # the last step is checked too, where `every` does not divide it
        if step % self.log_every == 0 or step == self.steps:
            means = {name: float(total) / self.count for name, total in self.sums.items()}
            self.sums, self.count = {}, 0
            self.train_rows.append({"step": step} | means)
            self.bar.set_postfix(loss=f"{means['loss']:.4g}")
            self.observer.metrics({f"train/{name}": value for name, value in means.items()}, step)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.preview is not None and trainer.global_step in self.preview_at:
            reseed(0)
            self.previews[trainer.global_step] = torch.from_numpy(self.preview())
            self.observer.samples(self.previews[trainer.global_step].numpy(), trainer.global_step)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.validation.append(
            {name: value.detach().cpu() * len(batch[0]) for name, value in outputs.items()}
            | {"": torch.tensor(float(len(batch[0])))}
        )

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        totals = {name: float(sum(row[name] for row in self.validation)) for name in self.validation[0]}
        self.validation = []
        means = {name: total / totals[""] for name, total in totals.items() if name}
        self.validation_rows.append({"step": trainer.global_step} | means)
        self.observer.metrics({f"validation/{name}": value for name, value in means.items()}, trainer.global_step)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self.bar is not None:
            self.bar.close()

    def state_dict(self) -> dict[str, Any]:
        return {
            "train": self.train_rows,
            "validation": self.validation_rows,
            "previews": self.previews,
            "sums": self.sums,
            "count": self.count,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.train_rows, self.validation_rows = list(state_dict["train"]), list(state_dict["validation"])
        self.previews = dict(state_dict["previews"])
        self.sums, self.count = dict(state_dict["sums"]), state_dict["count"]


def operations_per_step(model: nn.Module, batch: Batch, optimizer: Optimizer | None = None) -> int:
    """Floating-point operations of one step on a batch, by torch's own counter.

    It counts matrix products and convolutions, two operations a multiply-add, of the forward and backward pass and of
    an optimizer.
    """
    twin = copy.deepcopy(model)
    with torch.random.fork_rng(), FlopCounterMode(display=False) as counter:
        twin.losses(*batch)["loss"].backward()  # type: ignore[operator]
        if optimizer is not None:
            Muon(groups(twin, optimizer), lr=0.0).step()
    return int(counter.get_total_flops())


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
    """Train a module with `losses(*batch)` in place.

    Args:
        model: trained in place; with averaging on, it ends with the averaged weights.
        arrays: what a batch is cut from, each `[N, ...]`.
        validation: the same of the validation split; its losses are measured `trainer.checks` times.
        optimizer, trainer: settings.
        steps: optimizer steps.
        batch_size: rows a step.
        seed: everything random follows from it.
        scratch: a folder for the last checkpoint, named by the run's fingerprint: what is found there is gone on from.
        observer: told of losses and previews as they come.
        preview: draws a few samples, or None.

    Returns:
        Loss curves and previews, those of the time before a resumption among them.

    Raises:
        UserError: the batch is larger than the data, or the loss is not finite.
        KeyboardInterrupt: the user stopped it; the last checkpoint stays in `scratch`.
    """
    if batch_size > len(arrays[0]):
        raise UserError(f"batch size {batch_size} is larger than the training set of {len(arrays[0])}")
    set_threads(trainer.threads)
    quiet()
    every = max(1, steps // trainer.checks)
    checkpoint = scratch / "last.ckpt"
    resume = load_checkpoint(checkpoint)
    first_step = int(resume["global_step"]) if resume else 0
    if resume:
        print(f"going on from step {first_step} of {steps}")
    stream = Batches(arrays, batch_size=batch_size, seed=seed, first_step=first_step, steps=steps)
    points = np.arange(min(trainer.validation_points, len(validation[0])))
    held_out = [gather(validation, part) for part in np.array_split(points, -(-len(points) // trainer.batch_size))]
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
    if trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError("trainer.accelerator=gpu: torch sees no GPU here; choose trainer=cpu")
    lightning = pl.Trainer(
        accelerator=trainer.accelerator,
        devices=trainer.devices,
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
        deterministic=True,
        inference_mode=False,
        default_root_dir=scratch,
    )
    learner = Learner(model, optimizer=optimizer, steps=steps, seed=seed)
    sources: tuple[Any, ...] = (stream, held_out)
    loaders = [DataLoader(source, batch_size=None) for source in sources]
    try:
        lightning.fit(learner, *loaders, ckpt_path=checkpoint if resume else None, weights_only=True)
    except SystemExit:
        raise KeyboardInterrupt from None
    if lightning.interrupted:
        raise KeyboardInterrupt
    if resume and first_step == steps:
        # Killed after the last check. Lightning has nothing left to do, and so does not put the averaged weights in.
        learner.load_state_dict(resume["state_dict"])
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
    ):
        warnings.filterwarnings("ignore", message=message)
