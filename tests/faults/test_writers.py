"""Many writers at once: nothing is lost and nothing is there twice."""

import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fault_fixtures import Done
from lookalike.tracking.content import Point
from lookalike.tracking.mlflow_server import MlflowRuns
from test_servers import Postgres, all_runs, postgres_programs, record

pytest_plugins = ["pipeline_fixtures", "fault_fixtures"]

WRITERS, MODELS, STEPS = 16, 12, 50
"""Four of the writers record a model that another one records, too."""


def write(uri: str, number: int) -> None:
    """Record a training, in a process of its own."""
    run = MlflowRuns(uri=uri, experiment="writers").open(record(f"{number % MODELS:016x}"), training=True)
    for step in range(STEPS):
        run.points([Point("train/loss", 1 / (step + 1), step)])
    run.tags({f"writer.{number}": "was here"})
    run.close("FINISHED")


@pytest.fixture(params=["sqlite", "postgres"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URI of a database without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/fresh.db"
        return
    postgres = Postgres(postgres_programs())
    try:
        yield postgres.database
    finally:
        postgres.stop()


def test_sixteen_writers_at_once_on_a_fresh_store(fresh: str) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.store.tracking.sqlalchemy_store", "test_writers"])
    with ProcessPoolExecutor(WRITERS, context) as pool:
        list(pool.map(write, [fresh] * WRITERS, range(WRITERS)))
    found = all_runs(fresh, "writers")
    assert sorted(run.data.tags["fingerprint"] for run in found) == [f"{i:016x}" for i in range(MODELS)]
    for run in found:
        assert run.info.status == "FINISHED"
        number = int(run.data.tags["fingerprint"], 16)
        writers = {tag for tag in run.data.tags if tag.startswith("writer.")}
        assert writers == {f"writer.{i}" for i in range(WRITERS) if i % MODELS == number}
        assert [entry.dataset.digest for entry in run.inputs.dataset_inputs] == ["d" * 8]
        assert run.data.metrics["train/loss"] == 1 / STEPS


COMMANDS = (
    "cells --jobs 2",
    "cells --jobs 2",
    "sweep -m data=heights budget=smoke model=mixture,independent seed=1,2 sweep.name=one",
    "sweep -m data=heights budget=smoke model=mixture,independent seed=2,3 sweep.name=two",
)


@pytest.mark.slow
def test_two_pipelines_and_two_sweeps_in_one_checkout(
    home: Path, run: Callable[..., Done], environment: Callable[[Path], dict[str, str]],
    empty_store: Callable[[Path], str],
) -> None:  # fmt: skip
    env = environment(home)
    uri = empty_store(home / ".trace" / "mlflow.db")
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "lookalike", *command.split()], cwd=home, env=env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for command in COMMANDS
    ] + [
        subprocess.Popen(
            ["dvc", "repro", "--quiet", "evaluate@heights-vae-0"], cwd=home, env=env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
    ]  # fmt: skip
    said = [process.communicate(timeout=900) for process in started]
    codes = [process.returncode for process in started]
    assert "Traceback" not in "".join(err for _, err in said[:-1]), said
    refused = "error: another `lookalike cells` is at work in this checkout; wait until it has ended\n"
    assert sorted(codes[:2]) in ([0, 0], [0, 1]), said
    assert [err for (_, err), code in zip(said[:2], codes[:2], strict=True) if code] in ([], [refused])
    assert codes[2:4] == [0, 0], said
    done = run(home, "sh", "-c", "python -m lookalike cells && dvc repro --quiet", env=env, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    status = run(home, "dvc", "status", "--quiet")
    assert (status.returncode, status.stdout + status.stderr) == (0, "")
    runs = all_runs(uri, "lookalike")
    names = [run.info.run_name for run in runs if "sweep" not in run.data.tags]
    assert names == ["vae"]
    trials: list[tuple[Any, Any]] = [
        (run.data.tags["sweep"], run.data.tags["trial"]) for run in runs if "mlflow.parentRunId" in run.data.tags
    ]
    assert len(trials) == len(set(trials)) == 8
    assert {run.info.status for run in runs} == {"FINISHED"}
