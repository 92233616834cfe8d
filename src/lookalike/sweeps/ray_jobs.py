"""Run trials as tasks of a Ray cluster."""

import os
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from omegaconf import open_dict

from lookalike.workspace.errors import UserError
from lookalike.workspace.fingerprint import SOURCE

STORE_BYTES = 100 * 2**20
"""Shared memory of a cluster on this machine; the result of a trial is a single number."""


def connect(address: str | None) -> None:
    """Connect to a cluster, or start one on this machine.

    Raises:
        UserError: Ray is not installed, or there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # By default workers give way to all other processes.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise UserError("hydra/launcher=ray: Ray is not installed; run `pip install -e '.[ray]'`") from None
    if ray.is_initialized():
        return
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": STORE_BYTES} if address is None else {}
    path = os.pathsep.join(
        dict.fromkeys([str(SOURCE), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
    )
    try:
        # "local" always starts a new cluster, even if another one runs on this machine.
        ray.init(address or "local", logging_level="error", runtime_env={"env_vars": {"PYTHONPATH": path}}, **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        problem = next(iter(str(error).splitlines()), "")
        raise UserError(f"hydra.launcher.address={address}: no Ray cluster found ({problem})") from None


def launch(
    jobs: list[list[str]], *, first: int, job: tuple[Any, Any, Any], resources: dict[str, float]
) -> list[JobReturn]:
    """Run jobs and wait for them.

    Args:
        jobs: the overrides of each job.
        first: number of the first job.
        job: Hydra's context, the configuration of the sweep, and the function to run.
        resources: what one task takes, such as `num_cpus`.
    """
    import ray

    task = ray.remote(max_retries=0, **resources)(execute)
    shared = ray.put((*job, Singleton.get_state()))
    running = [task.remote(first + i, overrides, shared) for i, overrides in enumerate(jobs)]
    return [result_of(one) for one in running]


def result_of(running: Any) -> JobReturn:
    """Return the result of a task; a task whose worker died has failed."""
    import ray

    try:
        done: JobReturn = ray.get(running)
    except ray.exceptions.RayError as error:
        print(f"a worker was lost: {next(iter(str(error).splitlines()), '')}", flush=True)
        done = JobReturn(status=JobStatus.FAILED)
        done.return_value = error
    return done


def execute(number: int, overrides: list[str], shared: tuple[Any, ...]) -> JobReturn:
    """Run one job in a worker."""
    context, config, function, singletons = shared
    setup_globals()
    Singleton.set_state(singletons)
    composed = context.config_loader.load_sweep_config(config, overrides)
    with open_dict(composed):
        composed.hydra.job.id = f"{composed.hydra.job.name}_{number}"
        composed.hydra.job.num = number
    HydraConfig.instance().set_config(composed)
    return run_job(
        hydra_context=context,
        config=composed,
        task_function=function,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
