"""Locks: on the output folder itself, or in files where the file system has no `flock`; who holds one is named."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lookalike.workspace.errors import UserError
from lookalike.workspace.outputs import writing

pytest_plugins = ["pipeline_fixtures"]

NO_FLOCK = """
import errno, fcntl, os
def flock(descriptor, operation):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
fcntl.flock = flock
"""
"""Code that every process runs first: locking fails as on a file system without `flock`."""

HOLDER = """
import sys
from pathlib import Path
from lookalike.workspace.outputs import writing
with writing(Path(sys.argv[1])) as folder:
    (folder / "half").touch()
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def without_flock(tmp_path: Path, environment: Callable[[Path], dict[str, str]]) -> Callable[[Path], dict[str, str]]:
    """`without_flock(checkout)`: the variables under which processes of a checkout find no `flock`."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(NO_FLOCK)

    def make(checkout: Path) -> dict[str, str]:
        own = environment(checkout)
        return own | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), own["PYTHONPATH"]])}

    return make


def hold(folder: Path, env: dict[str, str]) -> "subprocess.Popen[str]":
    """Start a process that writes to a folder and does not end."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="Linux alone names the owner of a lock")
def test_a_refusal_names_the_process_that_writes_to_the_place(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with hold(tmp_path / "train", environment) as process:
        message = rf"another process does, and must end first \(pid {process.pid}\)$"
        with pytest.raises(UserError, match=message), writing(tmp_path / "train"):
            pytest.fail("the block ran")
        process.kill()
    with writing(tmp_path / "train") as folder:
        assert not list(folder.iterdir())
    assert os.listdir(tmp_path) == ["train"]


def test_without_flock_a_file_is_the_lock_of_a_folder(
    tmp_path: Path, checkout: Path, without_flock: Callable[[Path], dict[str, str]], run: Callable[..., Any]
) -> None:
    env, place = without_flock(checkout), tmp_path / "artifacts" / "heights" / "prepared"
    command = (sys.executable, "-m", "lookalike", "prepare", "data=heights", f"paths.artifacts={place.parents[1]}")
    with hold(place, env) as process:
        refused = run(checkout, *command, env=env, fresh=True)
        lock = place.parent / ".prepared-draft-lock"
        assert refused.returncode == 1
        assert refused.stderr == (
            f"error: cannot write to {place}: another process does, and must end first (pid {process.pid}, "
            f"see {lock})\n"
        )
        process.kill()
    assert lock.exists()
    done = run(checkout, *command, env=env, fresh=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(os.listdir(place.parent)) == ["prepared", "summary"]


@pytest.mark.slow
def test_sweeps_run_without_flock(
    home: Path, without_flock: Callable[[Path], dict[str, str]], sweep: Callable[..., Any]
) -> None:
    sweep("model=mixture", "seed=0,1", "sweep.name=unlocked", "tracking=none", "hydra/launcher=joblib",
          "hydra.launcher.n_jobs=2", env=without_flock(home), fresh=True)  # fmt: skip
    states = [json.loads(path.read_text()) for path in (home / "multirun" / "unlocked" / "trials").glob("*.json")]
    assert [state["state"] for state in states] == ["finished"] * 2
