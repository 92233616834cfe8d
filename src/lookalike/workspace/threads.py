"""The number of threads that torch and the linear algebra libraries of NumPy and SciPy use."""

import os

import threadpoolctl
import torch

from lookalike.workspace.configuration import Trainer
from lookalike.workspace.errors import UserError


def set_threads(trainer: Trainer) -> None:
    """Set the number of threads of torch, NumPy and SciPy in this process to `trainer.threads`.

    If that is None, the cores are divided among the processes of this machine; one process keeps torch's own choice.

    Raises:
        UserError: there are fewer cores than threads.
    """
    threads, cores = trainer.threads, os.cpu_count() or 1
    if threads is None:
        if trainer.devices == 1:
            return
        threads = max(1, cores // trainer.devices)
    if threads > cores:
        raise UserError(f"trainer.threads={threads}: there are {cores} cores")
    torch.set_num_threads(threads)
    threadpoolctl.threadpool_limits(limits=threads, user_api="blas")
    for library in ("OPENBLAS", "MKL"):  # Libraries that are loaded later read these; SciPy brings one of its own.
        os.environ[f"{library}_NUM_THREADS"] = str(threads)
