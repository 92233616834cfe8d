"""Trials as tasks of a Ray cluster."""

import os
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from omegaconf import open_dict

from lookalike.core.errors import UserError
from lookalike.fingerprint import SOURCE

STORE_BYTES = 100 * 2**20
"""Of shared memory for a cluster on this machine: what trials hand back is a number."""


def connect(address: str | None) -> None:
    """Connect to a cluster, or start one on this machine.

    Raises:
        UserError: Ray is not installed, or there is no cluster there.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray would have its workers give way to whatever else runs here.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise UserError("hydra/launcher=ray: Ray is not installed; `pip install -e '.[ray]'` brings it") from None
    if ray.is_initialized():
        return
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": STORE_BYTES} if address is None else {}
    path = os.pathsep.join(
        dict.fromkeys([str(SOURCE), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
    )
    try:
        # "local" starts a cluster, whatever else runs here.
        ray.init(address or "local", logging_level="error", runtime_env={"env_vars": {"PYTHONPATH": path}}, **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        problem = next(iter(str(error).splitlines()), "")
        raise UserError(f"hydra.launcher.address={address}: no Ray cluster there ({problem})") from None


def launch(
    jobs: list[list[str]], *, first: int, job: tuple[Any, Any, Any], resources: dict[str, float]
) -> list[JobReturn]:
    """Run jobs and wait for them.

    Args:
        jobs: overrides of each.
        first: number of the first.
        job: Hydra's context, the sweep's configuration, and the function to run.
        resources: what a task takes.
    """
    import ray

    task = ray.remote(max_retries=0, **resources)(execute)
    shared = ray.put((*job, Singleton.get_state()))
    running = [task.remote(first + i, overrides, shared) for i, overrides in enumerate(jobs)]
    return [result_of(one) for one in running]


def result_of(running: Any) -> JobReturn:
    """What a task returned; one whose worker died has failed."""
    import ray

    try:
        done: JobReturn = ray.get(running)
    except ray.exceptions.RayError as error:
        print(f"a worker was lost: {next(iter(str(error).splitlines()), '')}", flush=True)
        done = JobReturn(status=JobStatus.FAILED)
        done.return_value = error
    return done


def execute(number: int, overrides: list[str], shared: tuple[Any, ...]) -> JobReturn:
    """One job, in a worker."""
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
