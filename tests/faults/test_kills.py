"""`kill -9` at random moments: the pipeline and every kind of sweep continue to what an undisturbed run makes."""

import contextlib
import os
import random
import shlex
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from fault_fixtures import Done, without_cost
from test_sweep_command import COMMON, check_whole, records

pytest_plugins = ["pipeline_fixtures", "fault_fixtures"]

Contents = Callable[[Path], dict[str, str]]

PIPELINE = """
data: [heights]
models: {models}
floors: [copycat]
seeds: [0]
budget: smoke
trainer: cpu
"""
CELLS = "python -m lookalike cells --jobs 2 && dvc repro --quiet"
"""The whole pipeline with two cells side by side, and what compares them."""

VICTIMS = ("all", "command", "any")
"""The processes to kill: all of them as in a power cut, the command alone, or any one of them."""


def kill(process: subprocess.Popen[bytes], victims: str, rng: random.Random) -> None:
    """Kill a command, its processes, or one of these, and wait until the command has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        chosen = {"all": family, "command": family[:2], "any": [rng.choice(family[1:] or family)]}[victims]
        for one in chosen:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    try:
        process.wait(300)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def killed_again_and_again(
    command: str, home: Path, env: dict[str, str], *, times: int, longest: float, seed: int, first: int = 0
) -> list[tuple[str, float]]:
    """Start a shell command and kill it, as often as asked; return what was killed when."""
    rng, moments = random.Random(seed), []
    for number in range(first, first + times):
        victims, seconds = VICTIMS[number % len(VICTIMS)], rng.uniform(0.5, longest)
        with (home / ".trace" / "killed.log").open("ab") as log:
            process = subprocess.Popen(
                ["sh", "-c", command], cwd=home, env=env, start_new_session=True, stdout=log, stderr=log
            )
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
            kill(process, victims, rng)
        moments.append((victims, round(seconds, 2)))
    return moments


def committed(home: Path, run: Callable[..., Done]) -> dict[str, str]:
    """Return what git would commit: the digest of every file, without those that hold costs."""
    assert run(home, "git", "add", "-A").returncode == 0
    listed = run(home, "git", "ls-files", "-s").stdout.splitlines()
    found = {line.split("\t")[1]: line.split()[1] for line in listed}
    return {name: digest for name, digest in found.items() if name != "dvc.lock"}


def without_times(found: dict[str, str]) -> dict[str, str]:
    """Return files without the page of the report, whose figures show how long everything took."""
    return {name: digest for name, digest in found.items() if not name.endswith("report.html")}


def check_pipeline(
    times: int, longest: float, models: list[str], seed: int, new_checkout: Callable[..., Path],
    run: Callable[..., Done], environment: Callable[[Path], dict[str, str]], empty_store: Callable[[Path], str],
    contents: Contents,
) -> None:  # fmt: skip
    """Run a pipeline undisturbed in one checkout and with kills in another, and compare the two."""
    found: dict[str, dict[str, Any]] = {}
    homes = {name: new_checkout(PIPELINE.format(models=f"[{', '.join(models)}]")) for name in ("undisturbed", "killed")}
    for name, home in homes.items():
        env = environment(home)
        uri = empty_store(home / ".trace" / "mlflow.db")
        moments = []
        if name == "killed":
            moments = killed_again_and_again(CELLS, home, env, times=times, longest=longest, seed=seed)
        done = run(home, "sh", "-c", CELLS, env=env, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, f"{moments}: {done.stdout}{done.stderr}"
        status = run(home, "dvc", "status", "--quiet")
        assert (status.returncode, status.stdout + status.stderr) == (0, ""), moments
        found[name] = {
            "artifacts": without_cost(contents(home / "artifacts")),
            "results": without_times(contents(home / "results")),
            "git": without_times(committed(home, run)),
            "runs": runs(uri),
        }
        assert not list((home / ".lookalike").glob("*/last.ckpt")), moments
    assert found["killed"] == found["undisturbed"], moments
    assert found["killed"]["runs"] == dict.fromkeys((*models, "copycat"), (1, "FINISHED"))


def runs(uri: str) -> dict[str, tuple[int, str]]:
    """Return the number and the state of the MLflow runs of every model."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    everything = [experiment.experiment_id for experiment in client.search_experiments()]
    held = client.search_runs(everything, max_results=1000)
    counts = Counter(run.info.run_name for run in held)
    return {run.info.run_name: (counts[run.info.run_name], run.info.status) for run in held}


def test_a_pipeline_that_is_killed_has_the_results_of_its_stages(
    whole: Path, new_checkout: Callable[..., Path], run: Callable[..., Done],
    environment: Callable[[Path], dict[str, str]], empty_store: Callable[[Path], str], contents: Contents,
) -> None:  # fmt: skip
    home = new_checkout(PIPELINE.format(models="[vae]"))
    uri = empty_store(home / ".trace" / "mlflow.db")
    moments = killed_again_and_again(CELLS, home, environment(home), times=1, longest=12, seed=0)
    (home / "dvc.lock").write_text("")  # As DVC leaves it when it is killed while it writes.
    done = run(home, "sh", "-c", CELLS, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{moments}: {done.stdout}{done.stderr}"
    status = run(home, "dvc", "status", "--quiet")
    assert (status.returncode, status.stdout + status.stderr) == (0, ""), moments
    found = contents(home / "artifacts")
    wanted = without_cost(contents(whole / "artifacts"))
    assert {name: found.get(name) for name in wanted} == wanted, moments
    assert runs(uri) == {"vae": (1, "FINISHED"), "copycat": (1, "FINISHED")}


@pytest.mark.slow
def test_a_pipeline_that_is_killed_three_times(
    new_checkout: Callable[..., Path], run: Callable[..., Done], environment: Callable[[Path], dict[str, str]],
    empty_store: Callable[[Path], str], contents: Contents,
) -> None:  # fmt: skip
    check_pipeline(3, 12, ["vae"], 0, new_checkout, run, environment, empty_store, contents)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_pipeline_that_is_killed_ten_times(
    seed: int, new_checkout: Callable[..., Path], run: Callable[..., Done],
    environment: Callable[[Path], dict[str, str]], empty_store: Callable[[Path], str], contents: Contents,
) -> None:  # fmt: skip
    check_pipeline(10, 20, ["mixture", "vae", "flow"], seed, new_checkout, run, environment, empty_store, contents)


# Sweeps

SWEEPS = {
    "grid": ("model=independent,mixture,vae", "seed={seeds}"),
    "joblib": ("model=independent,mixture,vae", "seed={seeds}", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    "optuna": ("hydra/sweeper=optuna", "+search=vae", "hydra.sweeper.n_trials={trials}", "hydra.sweeper.startup=2"),
    "optuna joblib": (
        "hydra/sweeper=optuna", "+search=vae", "hydra.sweeper.n_trials={trials}", "hydra.sweeper.startup=2",
        "hydra.sweeper.n_jobs=2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2",
    ),
    "ray": ("model=independent,mixture,vae", "seed={seeds}", "hydra/launcher=ray", "hydra.launcher.num_cpus=1"),
}  # fmt: skip


def check_sweep(
    kind: str, times: int, longest: float, seeds: int, home: Path, run: Callable[..., Done],
    environment: Callable[[Path], dict[str, str]], empty_store: Callable[[Path], str],
) -> None:  # fmt: skip
    """Kill a sweep at random moments, continue it each time, and check that every trial is there once."""
    name = kind.replace(" ", "_")
    env = environment(home) | {"MLFLOW_TRACKING_URI": empty_store(home / ".trace" / f"{name}.db")}
    trials = 3 * seeds
    listed = ",".join(str(100 * len(kind) + seed) for seed in range(seeds))
    overrides = [item.format(seeds=listed, trials=trials) for item in SWEEPS[kind]]
    command = ["python", "-m", "lookalike", "sweep", *COMMON, *overrides, f"sweep.name={name}"]
    rng, moments, known = random.Random(seeds), [], records(home)
    for number in range(times):
        moments += killed_again_and_again(
            shlex.join(command), home, env, times=1, longest=longest, seed=rng.randrange(1000), first=number
        )
        now = records(home)
        assert {trial: now.get(trial) for trial in known} == known, f"a trial was run twice: {moments}"
        known = now
    done = run(home, *command, env=env, timeout=900)
    assert done.returncode == 0, f"{moments}: {done.stdout}{done.stderr}"
    now = records(home)
    assert {trial: now.get(trial) for trial in known} == known, f"a trial was run twice: {moments}"
    check_whole(home, name, trials)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind == "optuna joblib" else pytest.mark.slow) for kind in SWEEPS]
)
def test_a_sweep_that_is_killed_twice(
    kind: str, home: Path, run: Callable[..., Done], environment: Callable[[Path], dict[str, str]],
    empty_store: Callable[[Path], str],
) -> None:  # fmt: skip
    check_sweep(kind, 2, 12, 1, home, run, environment, empty_store)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SWEEPS)
def test_a_sweep_that_is_killed_ten_times(
    kind: str, home: Path, run: Callable[..., Done], environment: Callable[[Path], dict[str, str]],
    empty_store: Callable[[Path], str],
) -> None:  # fmt: skip
    check_sweep(kind, 10, 15, 4, home, run, environment, empty_store)
