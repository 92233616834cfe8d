"""What is kept and told of a training while it runs: loss curves and previews."""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from lookalike.core.errors import UserError
from lookalike.core.progress import progress
from lookalike.ranks import averaged


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


def reseed(seed: int) -> None:
    """What `torch.manual_seed` does to the devices in use, at every step of training.

    That function also keeps a call, with the stack that it came from, for every kind of device that is not in use: a
    millisecond a step, and memory that is never given back.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


class Record(Callback):
    """Keeps the loss curves and tells the observer; runs after weight averaging has put the averaged weights in.

    Losses are those of whole batches: the mean over ranks where there are several.
    """

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
        self.bar = progress(range(self.steps), "training", total=self.steps, unit="step", shown=trainer.is_global_zero)
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
            means = {name: float(total) / self.count for name, total in averaged(self.sums).items()}
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
        sums = {name: sum((row[name] for row in self.validation), torch.zeros(())) for name in self.validation[0]}
        totals = {name: float(total) for name, total in averaged(sums).items()}
        self.validation = []
        self.sums = averaged(self.sums)  # a checkpoint follows, which is rank 0's and is read by all
        means = {name: total / totals[""] for name, total in totals.items() if name}
        if not math.isfinite(means["loss"]):
            # Whatever a step did to the weights: none that are bad are kept.
            raise UserError(
                f"the loss on validation data is {means['loss']} after {trainer.global_step} steps: a smaller "
                f"optimizer.lr or optimizer.clip is the usual cure"
            )
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
