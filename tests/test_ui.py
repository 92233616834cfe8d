"""Tests of `make ui`: it opens the server of the runs, or serves a database, or says what to do."""

import os
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from lookalike.workspace.configuration import ROOT
from server_helpers import environment, eventually, free_port

COMMAND = ("make", "--old-file=env", "ui")
"""The target, without the installation that goes before it."""


def variables(**more: str) -> dict[str, str]:
    """Return the environment of a command of this checkout."""
    env = environment(PYTHONPATH=str(ROOT / "src"), **more)
    return env | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"}


def test_a_server_is_opened_in_the_browser_without_the_password(tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > "{tmp_path}/opened"\n')
    browser.chmod(0o700)
    env = variables(MLFLOW_TRACKING_URI="https://me:secret@example.org/a&b", BROWSER=f"{browser} %s")
    done = subprocess.run(COMMAND, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "the runs are on https://example.org/a&b\n"
    assert (tmp_path / "opened").read_text() == "https://example.org/a&b"


@pytest.mark.slow
def test_a_database_with_special_characters_in_its_uri_is_served(tmp_path: Path) -> None:
    folder, port = tmp_path / "a & b's", free_port()
    folder.mkdir()
    env = variables(MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db?timeout=20&uri=false", MLFLOW_PORT=str(port))
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(COMMAND, cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True)

    def answers() -> bool:
        assert process.poll() is None, (tmp_path / "log").read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as answer:
                return b"MLflow" in answer.read()
        except OSError:
            return False

    try:
        eventually(answers)
        assert (folder / "mlflow.db").is_file()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


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
