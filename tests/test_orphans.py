"""A command that is killed takes everything that it started with it, even though it cannot say a word."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest_plugins = ["pipeline_fixtures"]

LOOKALIKE = (sys.executable, "-m", "lookalike")

COMMANDS = {
    "dvc": ("dvc", "repro", "train@heights-vae-0"),
    "dvc, a shell and a stage": ("dvc", "repro", "train@heights-vae-0"),
    "cells": (*LOOKALIKE, "cells", "heights", "--jobs", "2"),
    "sweep": (
        *LOOKALIKE, "sweep", "-m", "data=heights", "model=vae", "budget=smoke", "optimizer.lr=0.001,0.002",
        "hydra/launcher=joblib", "hydra.launcher.n_jobs=2",
    ),
}  # fmt: skip

SHELL = """#!/bin/sh
/bin/sh "$@"
exit $?
"""
"""A shell that stays while its command runs; most shells become the command."""


@pytest.fixture(scope="module")
def long(home: Path) -> Path:
    """The checkout, where a training takes a while and nothing is recorded."""
    for name, old, new in (
        ("budget/smoke", "scale: ", "scale: 3 # "),
        ("config", "tracking: mlflow", "tracking: none"),
    ):
        path = home / "conf" / f"{name}.yaml"
        assert path.read_text().count(old) == 1
        path.write_text(path.read_text().replace(old, new))
    return home


@pytest.mark.parametrize(
    "name", [name if "shell" in name else pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS]
)
def test_nothing_outlives_a_command_that_is_killed(
    name: str, long: Path, tmp_path: Path, environment: Callable[[Path], dict[str, str]]
) -> None:
    shell = tmp_path / "sh"
    shell.write_text(SHELL)
    shell.chmod(0o755)
    variables: dict[str, Any] = {"SHELL": str(shell) if "shell" in name else "/bin/sh"}
    for path in checkpoints(long):
        path.unlink()
    process = subprocess.Popen(
        COMMANDS[name], cwd=long, env=environment(long) | variables, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not checkpoints(long):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    others = psutil.Process(process.pid).children(recursive=True)
    assert others
    try:
        process.kill()
        _, alive = psutil.wait_procs(others, timeout=60)
        assert not alive
    finally:
        for one in others:
            if one.is_running():
                one.kill()
    process.wait()
    if name.startswith("dvc"):  # Workers end without cleaning up; the next command deletes their drafts.
        assert not list(long.glob("artifacts/heights/vae/0/.*"))
    assert checkpoints(long), "the same command continues"


def checkpoints(home: Path) -> list[Path]:
    """Return the checkpoints of trainings that have not ended, by hand, in cells and in trials."""
    return [path for folder in (".lookalike", "multirun") for path in (home / folder).rglob("last.ckpt")]
