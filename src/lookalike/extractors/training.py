"""Trains an extractor on the data that it will score."""

import hashlib
import json
import shutil
from typing import Any

from torch import nn

from lookalike.core.config import ROOT, Config, Optimizer
from lookalike.core.errors import UserError
from lookalike.data import Prepared
from lookalike.fingerprint import code_digest, source_of
from lookalike.history import Silent
from lookalike.training import Arrays, train


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
    """Train a network with `losses` in place; what a killed run left is gone on from.

    Raises:
        UserError: a batch is larger than the training set, or the loss is not finite.
    """
    if batch_size > (count := len(arrays[0])):
        raise UserError(f"data.features.batch_size={batch_size}: the training set holds {count} images")
    scratch = config.path("scratch") / f"features-{identity(network, prepared, config)}"
    # In one process, whatever the trainer: it normalizes over a batch, and scores go by it on every machine.
    trainer = config.trainer.model_copy(update={"devices": 1})
    train(
        network,
        arrays,
        validation,
        optimizer=optimizer,
        steps=max(1, round(steps * config.budget.features)),
        batch_size=batch_size,
        trainer=trainer,
        seed=config.seed,
        scratch=scratch,
        observer=Silent(),
        preview=None,
    )
    shutil.rmtree(scratch, ignore_errors=True)


def identity(network: nn.Module, prepared: Prepared, config: Config) -> str:
    """16 hexadecimal digits of the data, of all that the training is told and of its code: another run's checkpoint is
    not ours."""
    told: list[Any] = [prepared.digest, config.seed, config.budget.features, config.trainer.model_dump()]
    source = source_of(type(network).__module__)
    assert source is not None
    code = code_digest([ROOT / "pipelines" / "features.py", source])
    content = json.dumps([*told, config.data.features, code], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
