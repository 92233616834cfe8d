"""Tests of `make ui`: it opens the server of the runs, or serves a database, or says what to do."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from lookalike.workspace.configuration import ROOT
from server_helpers import Server, environment, eventually, free_port

pytest_plugins = ["pipeline_fixtures"]

COMMAND = ("make", "--old-file=env", "ui")
"""The target, without the installation that goes before it."""


def variables(**more: str) -> dict[str, str]:
    """Return the environment of a command of this checkout."""
    env = environment(PYTHONPATH=str(ROOT / "src"), **more)
    return env | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"}


def test_a_server_is_opened_in_the_browser_without_the_password(
    tmp_path: Path, empty_store: Callable[[Path], str]
) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > "{tmp_path}/opened"\n')
    browser.chmod(0o700)
    server = Server(tmp_path, empty_store(tmp_path / "mlflow.db"))
    try:
        with_password = server.uri.replace("//", "//me:secret@")
        env = variables(MLFLOW_TRACKING_URI=with_password, BROWSER=f"{browser} %s")
        done = subprocess.run(COMMAND, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    finally:
        server.stop()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (f"MLflow answers on {server.uri}\nNo runs yet: `make heights` makes the first ones.\n")
    assert (tmp_path / "opened").read_text() == f"{server.uri}/#/"


def test_a_server_that_does_not_answer_is_not_opened() -> None:
    line = refused(MLFLOW_TRACKING_URI="http://me:secret@127.0.0.1:9")
    assert line == "error: http://127.0.0.1:9 can't be reached (Connection refused)"


def started(tmp_path: Path, **env: str) -> subprocess.Popen[bytes]:
    """Start `make ui` like a terminal does, with its output in the file `log`, and wait until it has printed pages."""
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            COMMAND, cwd=ROOT, env=variables(**env), stdout=log, stderr=log, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests may run with it ignored
        )  # fmt: skip

    def is_said() -> bool:
        text = (tmp_path / "log").read_text()
        assert process.poll() is None, text
        return text.count("\n") >= 3

    eventually(is_said)
    return process


@pytest.mark.slow
def test_a_database_is_served_by_one_process_that_ends_quietly(
    heights_cell: Path, tmp_path: Path, empty_store: Callable[[Path], str]
) -> None:
    folder, port = tmp_path / "a & b's", free_port()
    uri = empty_store(folder / "mlflow.db") + "?timeout=20&uri=false"
    env = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_PORT": str(port)}
    record = [sys.executable, "-m", "lookalike", "record", f"paths.artifacts={heights_cell / 'artifacts'}"]
    subprocess.run(record, cwd=ROOT, env=variables(**env), capture_output=True, check=True)
    process = started(tmp_path, **env)
    try:
        # It said that it answers, so it does.
        address = f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(f"{address}/health", timeout=60) as answer:
            assert answer.read() == b"OK"
        page = "#/experiments/1/runs?workflowType=machine_learning&compareRunsMode=CHART&viewStateShareKey=scores"
        said = f"MLflow answers on {address}; Ctrl-C ends it\nScores and samples of all models:\n"
        assert (tmp_path / "log").read_text() == f"{said}  heights: {address}/{page}\n"
        with urllib.request.urlopen(address, timeout=60) as answer:
            text = answer.read().decode()
        assert "<title>MLflow</title>" in text
        assert f'location.hash = "{page}"' in text

        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        assert len(family) == 2, "make and the command, and no other process"
        assert sum(one.memory_full_info().uss for one in family) < 400e6

        taken = subprocess.run(COMMAND, cwd=ROOT, env=variables(**env), capture_output=True, text=True, check=False)
        assert f"error: {address} can't be served (Address already in use)\n" in taken.stderr
        assert "Traceback" not in taken.stderr
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)
        assert (tmp_path / "log").read_text() == f"{said}  heights: {address}/{page}\n"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def refused(**env: str) -> str:
    """Return the only line of a `make ui` that fails, without what make adds."""
    done = subprocess.run(COMMAND, cwd=ROOT, env=variables(**env), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("make: ")]
    return line


def test_a_folder_of_runs_is_refused_with_the_command_that_moves_it(tmp_path: Path) -> None:
    uri = f"file:{tmp_path}/my%20mlruns"
    assert refused(MLFLOW_TRACKING_URI=uri) == (
        f"error: {uri} can't be written (MLflow needs a database instead of a folder: run `mlflow migrate-filestore "
        f"--source '{tmp_path}/my mlruns' --target sqlite:///mlflow.db`, then use sqlite:///mlflow.db)"
    )


OLD_STORE = """
import sys
from alembic import command
from alembic.script import ScriptDirectory
from mlflow.store.db.utils import _get_alembic_config, create_sqlalchemy_engine_with_retry
from mlflow.store.tracking.dbmodels.initial_models import Base

uri = sys.argv[1]
engine = create_sqlalchemy_engine_with_retry(uri)
Base.metadata.create_all(engine)
config = _get_alembic_config(uri)
with engine.begin() as connection:
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    command.stamp(config, ScriptDirectory.from_config(config).get_base())
"""


def test_the_database_of_another_mlflow_is_refused_with_the_command_that_upgrades_it(tmp_path: Path) -> None:
    folder = tmp_path / "it's a rather long path" / ("x" * 150)
    folder.mkdir(parents=True)
    uri = f"sqlite:///{folder}/mlflow.db"
    subprocess.run([sys.executable, "-c", OLD_STORE, uri], env=variables(), capture_output=True, check=True)
    assert refused(MLFLOW_TRACKING_URI=uri) == (
        f"error: {uri} can't be written (another version of MLflow made this database: copy it, then run "
        f"`mlflow db upgrade {shlex.quote(uri)}`)"
    )
