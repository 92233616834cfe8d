"""Everything runs where a process cannot be forked and Linux's own calls are missing, as on macOS."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["pipeline_fixtures"]

WITHOUT = """
import multiprocessing, os, pathlib
if hasattr(os, "fork"):
    del os.fork
if hasattr(os, "sched_getaffinity"):
    del os.sched_getaffinity
multiprocessing.set_start_method("spawn")
read_text, write_text = pathlib.Path.read_text, pathlib.Path.write_text
def checked(method):
    def call(path, *arguments, **keywords):
        if str(path).startswith("/proc"):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return method(path, *arguments, **keywords)
    return call
pathlib.Path.read_text, pathlib.Path.write_text = checked(read_text), checked(write_text)
"""


@pytest.fixture(scope="module")
def elsewhere(
    home: Path, tmp_path_factory: pytest.TempPathFactory, environment: Callable[[Path], dict[str, str]]
) -> dict[str, str]:
    """The variables under which the processes of a checkout find none of these calls."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(WITHOUT)
    own = environment(home)
    return own | {"PYTHONPATH": os.pathsep.join([str(folder), own["PYTHONPATH"]])}


def test_a_stage_in_two_processes_needs_no_fork(
    home: Path, tmp_path: Path, elsewhere: dict[str, str], run: Callable[..., Any]
) -> None:
    places = [f"paths.cell={tmp_path / 'cell'}", f"paths.scratch={tmp_path / 'scratch'}"]
    command = ("python", "-m", "lookalike", "train", "data=heights", "model=vae", "budget=smoke", "trainer=ddp")
    done = run(home, *command, *places, "tracking=none", "data.batch_size=32", env=elsewhere, fresh=True)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    assert (tmp_path / "cell" / "train" / "weights.safetensors").is_file()


@pytest.mark.slow
def test_workers_of_sweeps_and_cells_need_no_fork(
    home: Path, elsewhere: dict[str, str], run: Callable[..., Any], sweep: Callable[..., Any]
) -> None:
    sweep("model=mixture", "seed=0,1", "sweep.name=spawned", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2",
          env=elsewhere, fresh=True)  # fmt: skip
    states = [json.loads(path.read_text()) for path in (home / "multirun" / "spawned" / "trials").glob("*.json")]
    assert [state["state"] for state in states] == ["finished"] * 2
    done = run(home, "python", "-m", "lookalike", "cells", "heights", "--jobs", "2", env=elsewhere, fresh=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "heights-vae-0" in done.stdout
