"""Loss curves and previews of a training, kept and reported while it runs."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from lookalike.training.distributed import averaged
from lookalike.training.learner import reseed
from lookalike.workspace.errors import UserError
from lookalike.workspace.progress import progress


class Observer(Protocol):
    """Receives losses and samples while a training runs."""

    def metrics(self, values: dict[str, float], step: int) -> None: ...

    def samples(self, samples: NDArray[Any], step: int) -> None: ...


class History(NamedTuple):
    """Rows with `step` and each loss, and samples by step."""

    train: list[dict[str, float]]
    validation: list[dict[str, float]]
    previews: dict[int, NDArray[Any]]


class Silent:
    """An observer that ignores everything."""

    def metrics(self, values: dict[str, float], step: int) -> None: ...

    def samples(self, samples: NDArray[Any], step: int) -> None: ...


class Record(Callback):
    """Keep the loss curves and previews, and report them to an observer.

    This callback runs after the one that averages weights, so validation sees the averaged weights. Losses are those of
    whole batches: means over the processes.

    Args:
        steps: of the training.
        every: steps from one check of validation data to the next.
        observer: receives losses and previews.
        preview: draws a few samples; None draws none.
        previews: number of previews.
        ranks: number of processes that train.
    """

    def __init__(
        self,
        *,
        steps: int,
        every: int,
        observer: Observer,
        preview: Callable[[], NDArray[Any]] | None,
        previews: int,
        ranks: int,
    ) -> None:
        self.steps, self.every, self.observer, self.preview, self.ranks = steps, every, observer, preview, ranks
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
            trainer.val_check_batch = self.steps  # Check the last step too, where `every` does not divide `steps`.
        if step % self.log_every == 0 or step == self.steps:
            sums = averaged(self.sums, ranks=self.ranks)
            means = {name: float(total) / self.count for name, total in sums.items()}
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
        totals = {name: float(total) for name, total in averaged(sums, ranks=self.ranks).items()}
        self.validation = []
        # The checkpoint that follows is written by rank 0 and read by all ranks.
        self.sums = averaged(self.sums, ranks=self.ranks)
        means = {name: total / totals[""] for name, total in totals.items() if name}
        if not math.isfinite(means["loss"]):
            raise UserError(  # Before the checkpoint: bad weights are not kept.
                f"the loss on validation data is {means['loss']} after {trainer.global_step} steps: choose a smaller "
                f"optimizer.lr or optimizer.clip"
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
