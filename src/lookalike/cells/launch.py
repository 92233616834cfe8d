"""Start jobs with one of Hydra's launchers."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf.errors import OmegaConfBaseException

from lookalike.cells.job import run_job
from lookalike.workspace.configuration import CONF
from lookalike.workspace.errors import UserError
from lookalike.workspace.grammar import quoted

LAUNCHERS = ("joblib", "ray", "submitit_local", "submitit_slurm")

WORKER_BYTES = 1.5e9
"""Memory of a worker: torch, a data set and a network."""


def workers_here() -> int:
    """Return how many workers this machine has cores and memory for."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(cores, int(psutil.virtual_memory().available / WORKER_BYTES)))


class Launcher:
    """A launcher of Hydra, set up to run jobs of `lookalike cells`.

    Args:
        name: one of `LAUNCHERS`.
        folder: the folder of orders, states and logs.
        workers: how many jobs run at once, where the launcher runs them on this machine.
        overrides: overrides of the launcher's own settings, such as `hydra.launcher.partition=gpu`.

    Raises:
        UserError: an override is wrong, or the launcher cannot work here.
    """

    def __init__(self, *, name: str, folder: Path, workers: int, overrides: list[str]) -> None:
        if name == "submitit_slurm" and shutil.which("srun") is None:
            raise UserError(
                "--launcher submitit_slurm: there is no srun here; run the command on a login node of the cluster, or "
                "choose --launcher submitit_local"
            )
        for item in overrides:
            if not item.lstrip("+~").startswith("hydra.launcher."):
                raise UserError(
                    f"'{item}': only settings of the launcher, hydra.launcher.KEY=VALUE, can be given here; the cells "
                    f"follow conf/pipeline.yaml"
                )
        self.name, self.folder, self.workers = name, folder, workers
        self.overrides = overrides

    def launch(self, names: list[str]) -> None:
        """Run jobs and wait for all of them.

        Raises:
            Exception: the launcher gave up, because a worker died or a cluster is gone.
        """
        jobs = [[f"sweep.folder={quoted(self.folder)}", f"sweep.job={name}"] for name in names]
        # Submitit starts all jobs at once on this machine.
        size = self.workers if self.name == "submitit_local" else len(jobs)
        for first in range(0, len(jobs), size):
            batch = jobs[first : first + size]
            with self.instantiated(workers=min(self.workers, len(batch))) as launcher:
                launcher.launch(batch, initial_job_idx=first)

    @contextlib.contextmanager
    def instantiated(self, *, workers: int) -> Iterator[Any]:
        """Compose the launcher's settings and build it."""
        own = [f"hydra/launcher={self.name}", f"sweep.folder={quoted(self.folder)}", *own_settings(self.name, workers)]
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONF), version_base="1.3", job_name="cells"):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            try:
                config = hydra.compose_config(
                    "cells", [*own, *self.overrides], run_mode=RunMode.RUN, with_log_configuration=False
                )
                yield Plugins.instance().instantiate_launcher(
                    hydra_context=HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(config)),
                    task_function=run_job,
                    config=config,
                )
            except (HydraException, OmegaConfBaseException) as error:
                raise UserError(f"--launcher {self.name}: {' '.join(str(error).split())}") from None

    def close(self) -> None:
        """End idle workers, so that the next round imports the code as it is then."""
        if self.name == "joblib":
            from joblib.externals.loky import get_reusable_executor

            get_reusable_executor().shutdown(wait=True, kill_workers=True)
        elif self.name == "ray" and "ray" in sys.modules:
            sys.modules["ray"].shutdown()


def own_settings(name: str, workers: int) -> list[str]:
    """Overrides by which a launcher on this machine keeps to a number of workers."""
    if name == "joblib":
        # With one, joblib would run jobs in this process, and with the code that this process has imported.
        alone = ["hydra.launcher.pre_dispatch=1"] if workers == 1 else []
        return [f"hydra.launcher.n_jobs={max(2, workers)}", "hydra.launcher.batch_size=1", *alone]
    if name == "ray":
        return [f"hydra.launcher.num_cpus={(os.cpu_count() or 1) / workers:g}"]
    if name == "submitit_local":
        return ["hydra.launcher.timeout_min=1440", "hydra.launcher.submitit_folder=${sweep.folder}/submitit/%j"]
    return []
