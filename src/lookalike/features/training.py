"""Train an extractor on the data that it will score."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from torch import nn

from lookalike.domain.prepared import Prepared
from lookalike.training.batches import Arrays
from lookalike.training.history import Silent
from lookalike.training.loop import train
from lookalike.workspace.configuration import Config, Optimizer
from lookalike.workspace.devices import device_of
from lookalike.workspace.errors import UserError
from lookalike.workspace.fingerprint import code_digest, source_of

SEED = 0
"""The seed of all extractors, so that cells of all seeds are compared in the same features."""

STAGE = Path(__file__).resolve().parents[1] / "stages" / "features.py"


def learn(
    network: nn.Module,
    arrays: Arrays,
    validation: Arrays,
    *,
    prepared: Prepared,
    config: Config,
    steps: int,
    batch_size: int,
    optimizer: Optimizer,
) -> None:
    """Train a network with `losses` in place, and continue a training that was stopped.

    Raises:
        UserError: a batch is larger than the training set, or the loss is not finite.
    """
    if batch_size > (count := len(arrays[0])):
        raise UserError(f"data.features.batch_size={batch_size}: the training set holds {count} images")
    scratch = config.path("scratch") / f"features-{identity(network, prepared, config)}"
    # One process trains, whatever the trainer: the network normalizes over a batch, and scores depend on it.
    trainer = config.trainer.model_copy(update={"devices": 1, "nodes": 1})
    train(
        network,
        arrays,
        validation,
        optimizer=optimizer,
        steps=max(1, round(steps * config.budget.features)),
        batch_size=batch_size,
        trainer=trainer,
        seed=SEED,
        scratch=scratch,
        observer=Silent(),
        preview=None,
    )
    network.to(device_of(config.trainer))
    shutil.rmtree(scratch, ignore_errors=True)


def identity(network: nn.Module, prepared: Prepared, config: Config) -> str:
    """Return 16 hexadecimal digits that name the data, the settings and the code of a training, for its checkpoint."""
    inputs: list[Any] = [prepared.digest, config.budget.features, config.trainer.model_dump()]
    source = source_of(type(network).__module__)
    assert source is not None
    code = code_digest([STAGE, source])
    content = json.dumps([*inputs, config.data.features, code], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
