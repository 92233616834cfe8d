"""Work that tests let several processes do; this module imports little, because every process imports it."""

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch

from lookalike.workspace.configuration import Trainer
from lookalike.workspace.devices import place
from lookalike.workspace.errors import UserError
from lookalike.workspace.processes import agreed, shared

ONE = Trainer(
    accelerator="cpu", devices=1, nodes=1, compile=False, precision="32-true", threads=1, checks=4,
    validation_points=30, previews=2, batch_size=10,
)  # fmt: skip
TWO = ONE.model_copy(update={"devices": 2})


def settings(**values: Any) -> Any:
    """Return an argument for `spread`: a trainer of two processes, and what a test needs."""
    return SimpleNamespace(**({"trainer": TWO} | values))


def square(i: int) -> tuple[int, int]:
    return place().rank, i * i


ENTERED: list[int] = []
"""Ranks that entered the context of a test in this process."""


@contextlib.contextmanager
def entering() -> Iterator[None]:
    ENTERED.append(int(os.environ["RANK"]))
    yield


def report(config: Any) -> None:
    """Write what this process sees of the others."""
    found = {
        "squares": [list(shared(square, range(count))) for count in (5, 2, 1, 0)],
        "agreed": agreed(f"rank {place().rank}"),
        "size": place().size,
        "entered": ENTERED,
        "pid": os.getpid(),
        "threads": torch.get_num_threads(),
    }
    (config.folder / f"{place().rank}.json").write_text(json.dumps(found))


def fail(config: Any) -> None:
    """Fail in rank 1, while rank 0 waits for its result."""
    for number in shared(square, range(6)):
        if place().rank == 1 and number[1] == 1:
            if config.how == "mistake":
                raise UserError("sampled outside the grid")
            if config.how == "failure":
                raise ZeroDivisionError("no such number")
            os.kill(os.getpid(), signal.SIGKILL if config.how == "killed" else signal.SIGINT)


def wait(config: Any) -> None:
    """Say that this process runs, and wait for an end from outside."""
    list(shared(square, range(2)))
    (config.folder / str(place().rank)).write_text(str(os.getpid()))
    threading.Event().wait(600)
