"""Assign one GPU to every process on a machine with several, unless the launcher did."""

import os
import socket
from pathlib import Path

from filelock import BaseFileLock, Timeout

from lookalike.workspace.locks import file_lock

HELD: list[BaseFileLock] = []
"""Locks on the GPU of this process; they are released when the process ends."""


def claim(folder: Path, *, count: int) -> int | None:
    """Return a GPU that no other process of a sweep has, or None if all are taken.

    Args:
        folder: the folder of the sweep, which holds one lock per GPU.
        count: number of GPUs of this machine.
    """
    for number in range(count):
        lock = file_lock(folder / f".gpu-{socket.gethostname()}-{number}", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            continue
        HELD.append(lock)
        return number
    return None


def choose(folder: Path) -> None:
    """Make one GPU visible to this process, unless it has one already; processes share GPUs if all are taken."""
    if HELD or "CUDA_VISIBLE_DEVICES" in os.environ:
        return
    import torch

    count = torch.cuda.device_count()
    if count > 1:
        number = claim(folder, count=count)
        os.environ["CUDA_VISIBLE_DEVICES"] = str(os.getpid() % count if number is None else number)
