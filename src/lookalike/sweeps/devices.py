"""One GPU for every process of a machine that has several, where the launcher did not choose one."""

import fcntl
import os
import socket
from pathlib import Path
from typing import Any

HELD: list[Any] = []
"""Open files whose locks say which GPU this process has; they go with the process."""


def claim(folder: Path, *, count: int) -> int | None:
    """A GPU that no other process of a sweep has, or None where all are taken.

    Args:
        folder: the sweep's, for a lock a GPU.
        count: GPUs of this machine.
    """
    for number in range(count):
        file = (folder / f".gpu-{socket.gethostname()}-{number}").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        HELD.append(file)
        return number
    return None


def choose(folder: Path) -> None:
    """Let this process see one GPU, unless it has one or was given some; where all are taken, they are shared."""
    if HELD or "CUDA_VISIBLE_DEVICES" in os.environ:
        return
    import torch

    count = torch.cuda.device_count()
    if count > 1:
        number = claim(folder, count=count)
        os.environ["CUDA_VISIBLE_DEVICES"] = str(os.getpid() % count if number is None else number)
