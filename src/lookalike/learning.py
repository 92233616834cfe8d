"""Learns a family's weights: fits what can be fitted, trains what must be trained, at a data set's price."""

import csv
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lookalike.core.config import ROOT, Config, target
from lookalike.core.errors import UserError
from lookalike.core.files import save_arrays
from lookalike.data import Prepared
from lookalike.fingerprint import code_digest, fingerprint, source_of
from lookalike.models import Fitted, Startable, Trainable
from lookalike.models.build import save_weights

Curves = dict[str, list[dict[str, float]]]


@dataclasses.dataclass(frozen=True)
class Learned:
    """What training left beside the weights: loss curves, previews by step, steps taken and what a step cost."""

    curves: Curves
    previews: dict[int, NDArray[Any]]
    steps: int
    images: int
    flops: float


class Shown:
    """Passes losses and samples on to a view, the samples as values."""

    def __init__(self, view: Any, prepared: Prepared) -> None:
        self.view, self.domain = view, prepared.domain

    def metrics(self, values: dict[str, float], step: int) -> None:
        self.view.metrics(values, step)

    def samples(self, samples: NDArray[Any], step: int) -> None:
        self.view.samples(self.domain.to_values(samples), step)


def identity(config: Config, prepared: Prepared) -> dict[str, Any]:
    """What a trained model's fingerprint is made of, and the fingerprint: known before training starts."""
    model = target(config.model, package="lookalike.models")
    source = source_of(model.__module__)
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
    code = code_digest([ROOT / "pipelines" / "train.py", source])
    return {
        "fingerprint": fingerprint(configuration=configuration, data=prepared.digest, code=code),
        "name": f"{config.data.name}-{config.model_name}",
        "configuration": configuration,
        "domain": dataclasses.asdict(prepared.domain),
        "data_digest": prepared.digest,
        "code_digest": code,
    }


def learn(model: Any, prepared: Prepared, config: Config, *, scratch: Path, view: Any) -> Learned:
    """Fit or train a model in place.

    Steps are the budget's operations over those of a step, so every trained family gets the same compute; but at a
    budget of scale 1 no more than `data.steps`, for networks so small that time goes into other things.

    Raises:
        UserError: the settings do not go with the family or the data.
    """
    torch.manual_seed(config.seed)
    grid = prepared.grid("train")
    if isinstance(model, Fitted):
        if config.optimizer is not None:
            raise UserError(f"optimizer: {config.model_name} needs no gradient descent; set it to null")
        model.fit(torch.from_numpy(np.array(grid)))
        return Learned({"train": [], "validation": []}, {}, steps=0, images=len(grid), flops=0.0)
    return train_at_price(model, prepared, config, scratch=scratch, view=view)


def train_at_price(model: Any, prepared: Prepared, config: Config, *, scratch: Path, view: Any) -> Learned:
    """Train a model by gradient descent for as many steps as the budget pays for."""
    if not isinstance(model, Trainable):
        raise UserError(f"{config.model_name}: a family needs `losses` or `fit`, see lookalike.models")
    if config.optimizer is None:
        raise UserError(f"optimizer=null: {config.model_name} is trained by gradient descent and needs its settings")
    network: Any = model
    arrays: tuple[NDArray[Any], ...] = (prepared.grid("train"),)
    validation: tuple[NDArray[Any], ...] = (prepared.grid("validation"),)
    if getattr(model, "classes", None) is not None:
        arrays, validation = (*arrays, prepared.labels("train")), (*validation, prepared.labels("validation"))
    if isinstance(model, Startable):
        model.start(*(torch.from_numpy(np.array(array)) for array in arrays))
    from lookalike.training import gather, operations_per_step, train

    if config.data.batch_size > (count := len(arrays[0])):
        raise UserError(f"data.batch_size={config.data.batch_size}: the training set holds {count} observations")
    cost = operations_per_step(network, gather(arrays, np.arange(config.data.batch_size)), config.optimizer)
    steps = max(1, round(min(config.data.flops / max(cost, 1), config.data.steps) * config.budget.scale))
    count = 48 if prepared.domain.kind == "image" else 500
    history = train(
        network,
        arrays,
        validation,
        optimizer=config.optimizer,
        steps=steps,
        batch_size=config.data.batch_size,
        trainer=config.trainer,
        seed=config.seed,
        scratch=scratch,
        observer=Shown(view, prepared),
        preview=lambda: network.sample(count, **config.preview).cpu().numpy(),
    )
    return Learned(
        {"train": history.train, "validation": history.validation},
        {step: prepared.domain.to_values(samples) for step, samples in history.previews.items()},
        steps=steps,
        images=steps * config.data.batch_size,
        flops=float(cost) * steps,
    )


def save(model: Any, learned: Learned, record: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write weights, loss curves and previews; return the record of the trained model, complete."""
    save_weights(model, folder / "weights.safetensors")
    for split, rows in learned.curves.items():
        write_curve(rows, folder / f"loss_{split}.csv")
    save_arrays(folder / "previews.npz", {f"step_{step}": values for step, values in learned.previews.items()})
    return record | {
        "parameters": count_parameters(model),
        "steps": learned.steps,
        "flops": learned.flops,
    }


def count_parameters(model: nn.Module) -> int:
    """Numbers that a model has learned: its parameters, and of a family that is fitted its buffers on disk too.

    Those are where it keeps what it learned (`copycat` the training data that it remembers, `uniform` its constants).
    Weights under a mask that is 0 are none.
    """
    is_fitted = isinstance(model, Fitted)
    learned = model.state_dict().values() if is_fitted else model.parameters()
    return sum(tensor.numel() for tensor in learned) - sum(masked(module) for module in model.modules())


def masked(module: nn.Module) -> int:
    """How many numbers of a module's `weight` its `mask` multiplies by 0."""
    weight, mask = getattr(module, "weight", None), getattr(module, "mask", None)
    if not isinstance(weight, nn.Parameter) or not isinstance(mask, torch.Tensor):
        return 0
    return int((mask.expand_as(weight) == 0).sum())


def write_curve(rows: list[dict[str, float]], path: Path) -> None:
    """One line a measurement; a header alone where nothing was trained."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["step", "loss"])
        writer.writeheader()
        writer.writerows({k: v if k == "step" else f"{v:.6g}" for k, v in row.items()} for row in rows)


def forget(scratch: Path) -> None:
    """Delete the checkpoint of a run whose weights are in place."""
    shutil.rmtree(scratch, ignore_errors=True)
