"""Fit or train a family within the budget of a data set, and write what it learned."""

import copy
import csv
import dataclasses
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lookalike.domain.prepared import Prepared
from lookalike.families.build import family_of
from lookalike.families.contract import Family
from lookalike.networks.weights import save_weights
from lookalike.training.batches import gather
from lookalike.training.budget import operations_per_step, steps_for
from lookalike.workspace.configuration import Config
from lookalike.workspace.devices import device_of
from lookalike.workspace.errors import UserError
from lookalike.workspace.files import save_arrays
from lookalike.workspace.fingerprint import code_digest, fingerprint, source_of

STAGE = Path(__file__).resolve().parents[1] / "stages" / "train.py"

WARM_UP_ROWS = 1000

Work = Callable[[], AbstractContextManager[None]]

Curves = dict[str, list[dict[str, float]]]


@dataclasses.dataclass(frozen=True)
class Learned:
    """The outcome of a training beside the weights: loss curves, previews by step, and the compute it took."""

    curves: Curves
    previews: dict[int, NDArray[Any]]
    steps: int
    images: int
    flops: float


class Shown:
    """Report losses and samples to a view, the samples as values."""

    def __init__(self, view: Any, prepared: Prepared) -> None:
        self.view, self.domain = view, prepared.domain

    def metrics(self, values: dict[str, float], step: int) -> None:
        self.view.metrics(values, step)

    def samples(self, samples: NDArray[Any], step: int) -> None:
        self.view.samples(self.domain.to_values(samples), step)


def identity(config: Config, prepared: Prepared) -> dict[str, Any]:
    """Return what a trained model's fingerprint is made of, and the fingerprint; known before training starts."""
    family = family_of(config.model)
    source = source_of(family.__module__)
    assert source is not None
    configuration = {
        "model": config.model,
        "optimizer": config.optimizer and config.optimizer.model_dump(),
        "preview": config.preview,
        "data": {
            "name": config.data.name,
            "flops": config.data.flops,
            "steps": config.data.steps,
            "batch_size": config.data.batch_size,
        },
        "budget": {"scale": config.budget.scale},
        "trainer": config.trainer.model_dump(),
        "seed": config.seed,
    }
    code = code_digest([STAGE, source])
    return {
        "fingerprint": fingerprint(configuration=configuration, data=prepared.digest, code=code),
        "name": f"{config.data.name}-{config.model_name}",
        "configuration": configuration,
        "domain": prepared.domain.to_dict(),
        "data_digest": prepared.digest,
        "code_digest": code,
        "is_floor": family.is_floor,
    }


def learn(
    model: Family, prepared: Prepared, config: Config, *, scratch: Path, view: Any, work: Work = nullcontext
) -> Learned:
    """Fit or train a model in place, on the device that `trainer.accelerator` asks for.

    Every trained family gets the same number of floating-point operations.

    Args:
        model: a family.
        prepared: the data set.
        config: the configuration of the stage.
        scratch: folder of the last checkpoint.
        view: receives losses and previews.
        work: returns a context that is entered around what a training costs, wherever in a process it runs.

    Raises:
        UserError: the settings do not fit the family or the data.
    """
    torch.manual_seed(config.seed)
    device = device_of(config.trainer)
    model.to(device)
    if not model.is_fitted:
        return train_at_price(model, prepared, config, scratch=scratch, view=view, work=work)
    if config.optimizer is not None:
        raise UserError(f"optimizer: model={config.model_name} is fitted without an optimizer; set it to null")
    grid = prepared.grid("train")
    x = torch.from_numpy(grid).to(device)
    warm_up_fit(model, x)
    with work():
        model.fit(x)
    return Learned({"train": [], "validation": []}, {}, steps=0, images=len(grid), flops=0.0)


def warm_up_fit(model: Family, x: torch.Tensor) -> None:
    """Fit a copy of a model to a few rows, for the imports; the random numbers that follow stay the same."""
    # What fails here fails with its message in the fit that counts, or only because the rows are few.
    with torch.random.fork_rng(), suppress(Exception):
        copy.deepcopy(model).fit(x[:WARM_UP_ROWS])


def train_at_price(
    model: Family, prepared: Prepared, config: Config, *, scratch: Path, view: Any, work: Work
) -> Learned:
    """Train a model by gradient descent, for as many steps as the budget allows."""
    if config.optimizer is None:
        raise UserError(f"optimizer=null: {config.model_name} is trained by gradient descent and needs its settings")
    arrays: tuple[NDArray[Any], ...] = (prepared.grid("train"),)
    validation: tuple[NDArray[Any], ...] = (prepared.grid("validation"),)
    if model.classes is not None:
        arrays, validation = (*arrays, prepared.labels("train")), (*validation, prepared.labels("validation"))
    batch_size, domain = config.data.batch_size, prepared.domain
    if batch_size > (count := len(arrays[0])):
        raise UserError(f"data.batch_size={batch_size}: the training set holds {count}; choose at most that")
    from lookalike.training.loop import train
    from lookalike.training.warm import warm_up_training

    warm_up_training(config.optimizer, config.trainer, scratch)
    with work():
        model.start(*(torch.from_numpy(array).to(device_of(config.trainer)) for array in arrays))
    # This takes a step with a copy of the model, and with it what its first step takes longer than others.
    cost = operations_per_step(model, gather(arrays, np.arange(batch_size)), config.optimizer)
    steps = steps_for(cost, config)
    with work():
        history = train(
            model,
            arrays,
            validation,
            optimizer=config.optimizer,
            steps=steps,
            batch_size=batch_size,
            trainer=config.trainer,
            seed=config.seed,
            scratch=scratch,
            observer=Shown(view, prepared),
            preview=lambda: model.sample(domain.preview_count, **config.preview).cpu().numpy(),
        )
    return Learned(
        {"train": history.train, "validation": history.validation},
        {step: domain.to_values(samples) for step, samples in history.previews.items()},
        steps=steps,
        images=steps * batch_size,
        flops=float(cost) * steps,
    )


def save(model: Family, learned: Learned, record: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write weights, loss curves and previews; return the complete record of the trained model."""
    save_weights(model, folder / "weights.safetensors")
    for split, rows in learned.curves.items():
        write_curve(rows, folder / f"loss_{split}.csv")
    save_arrays(folder / "previews.npz", {f"step_{step}": values for step, values in learned.previews.items()})
    return record | {
        "parameters": count_parameters(model),
        "steps": learned.steps,
        "flops": learned.flops,
    }


def count_parameters(model: Family) -> int:
    """Return how many numbers a model has learned: its parameters without those under a mask of 0.

    A fitted family keeps what it learned in buffers (`copycat` keeps training data there), so these count too.
    """
    learned = model.state_dict().values() if model.is_fitted else model.parameters()
    return sum(tensor.numel() for tensor in learned) - sum(masked(module) for module in model.modules())


def masked(module: nn.Module) -> int:
    """Return how many numbers of a module's `weight` its `mask` multiplies by 0."""
    weight, mask = getattr(module, "weight", None), getattr(module, "mask", None)
    if not isinstance(weight, nn.Parameter) or not isinstance(mask, torch.Tensor):
        return 0
    return int((mask.expand_as(weight) == 0).sum())


def write_curve(rows: list[dict[str, float]], path: Path) -> None:
    """Write one line per measurement; a header alone where nothing was trained."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["step", "loss"])
        writer.writeheader()
        writer.writerows({k: v if k == "step" else f"{v:.6g}" for k, v in row.items()} for row in rows)


def forget(scratch: Path) -> None:
    """Delete the checkpoint of a run whose weights are written."""
    shutil.rmtree(scratch, ignore_errors=True)
