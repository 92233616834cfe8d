"""Tests that passwords and keys are in no file, database, artifact or message of any command."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lookalike.workspace.addresses import hide, read_address
from server_helpers import Server
from server_helpers import environment as variables

pytest_plugins = ["pipeline_fixtures"]

Done = subprocess.CompletedProcess[str]

PLANTED = {
    "MLFLOW_TRACKING_PASSWORD": "planted-mlflow-password",
    "MLFLOW_TRACKING_TOKEN": "planted-mlflow-token",
    "WANDB_API_KEY": "planted0wandb0key" + "0" * 23,
}
PASSWORD = "planted%2Fin%40uri"
IN_CLEAR = "planted/in@uri"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:planted@example.org:5000/mlflow", "http://example.org:5000/mlflow"),
        ("https://me:planted@with@example.org/mlflow", "https://example.org/mlflow"),
        ("https://me:planted/with@example.org/mlflow", "https://***"),
        ("https://me:planted#with@example.org", "https://***"),
        ("https://me:planted?with@example.org", "https://***"),
        ("https://[me:planted@example.org", "https://***"),
        ("https://example.org/mlflow?token=planted", "https://example.org/mlflow"),
        ("postgresql://me:planted%40with@example.org/runs", "postgresql://example.org/runs"),
        ("postgresql://me:planted/with@example.org/runs", "postgresql://example.org/runs"),
        ("postgresql://me:planted@with@example.org/runs", "postgresql://***"),
        ("mysql+pymysql://me:planted@w/ith@example.org:3306/runs", "mysql+pymysql://***"),
        ("mssql+pyodbc:///?odbc_connect=Driver%3Dx%3BPWD%3Dplanted", "mssql+pyodbc:///"),
        ("postgresql://example.org/runs?user=me&password=planted", "postgresql://example.org/runs"),
        ("sqlite:////home/a@b/mlflow.db?timeout=300", "sqlite:////home/a@b/mlflow.db?timeout=300"),
        ("databricks://profile", "databricks://profile"),
        ("databricks", "databricks"),
    ],
)
def test_a_uri_is_shown_without_its_password(uri: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    address = read_address(uri)
    assert address.shown == shown
    assert address.is_clear == ("***" not in shown)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert "planted" not in hide(f"the request to {uri}/api failed: no host in {uri!r}")


@pytest.mark.parametrize("uri", ["http://me:planted/x@127.0.0.1:9", "postgresql://me:planted@x@127.0.0.1:9/runs"])
@pytest.mark.parametrize("place", ["environment", "command line"])
def test_a_password_that_must_be_written_otherwise_is_refused_and_not_printed(
    tmp_path: Path, uri: str, place: str
) -> None:
    command = [sys.executable, "-m", "lookalike", "record", f"paths.artifacts={tmp_path}"]
    env = variables(MLFLOW_TRACKING_URI=uri) if place == "environment" else variables()
    command += [f"tracking.uri={uri}"] if place == "command line" else []
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    scheme = uri.partition(":")[0]
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: {scheme}://*** can't be written (its user name or password has a special character: write %2F for /, "
        f"%40 for @)\n"
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An MLflow server, which ignores names and passwords."""
    folder = tmp_path_factory.mktemp("server")
    server = Server(folder, f"sqlite:///{folder}/mlflow.db")
    yield server
    server.stop()


@pytest.fixture
def call(home: Path, run: Callable[..., Done]) -> Callable[..., None]:
    """`call(*arguments, env=…, code=0)`: a command, whose output is searched."""

    def start(*arguments: str, env: dict[str, str], code: int = 0) -> None:
        done = run(home, "python", "-m", "lookalike", *arguments, env=env)
        assert done.returncode == code, done.stdout + done.stderr
        check_text(done.stdout + done.stderr, " ".join(arguments))

    return start


COMMON = ["data=heights", "budget=smoke", "model=mixture", "tracking=both"]


def test_no_command_writes_or_prints_a_secret(home: Path, call: Callable[..., None], server: Server) -> None:
    env = variables(PYTHONPATH=str(home / "src"), WANDB_MODE="offline", **PLANTED)
    address = server.uri.replace("http://", f"http://me:{PASSWORD}@")
    given = [*COMMON, f"tracking.uri={address}"]
    call("train", "--cfg", *given, env=env)
    call("train", *given, env=env)
    call("sweep", "--cfg", *given, env=env)
    call("sweep", "-m", *given, "sweep.name=secret", env=env)
    for uri in (address.replace("127.0.0.1", "127.0.0.1]"), f"{address}/a=b", address.replace(PASSWORD, "planted'")):
        for command in ("train", "sweep"):
            call(command, *COMMON, f"tracking.uri={uri}", env=env, code=1)
    call("train", *COMMON, f"tracking.url={address}", env=env, code=1)
    assert (home / "multirun" / "secret" / "summary.json").is_file()
    assert list((server.folder / "artifacts").rglob("sweep.json"))
    assert len(list((home / "wandb").glob("offline-run-*"))) == 3  # the training, the sweep and its trial
    check_files(home, server.folder)


@pytest.mark.slow
def test_no_other_command_and_no_launcher_writes_or_prints_a_secret(
    home: Path, call: Callable[..., None], server: Server
) -> None:
    env = variables(PYTHONPATH=str(home / "src"), WANDB_MODE="offline", **PLANTED)
    address = server.uri.replace("http://", f"http://me:{PASSWORD}@")
    in_env = env | {"MLFLOW_TRACKING_URI": address}
    call("train", *COMMON, "seed=1", f"tracking.uri={address}", env=env)
    call("train", *COMMON, env=in_env)
    call("sample", *COMMON, env=in_env)
    call("evaluate", *COMMON, env=in_env)
    call("record", *COMMON[3:], f"tracking.uri={address}", env=env)
    call("register", "heights", env=in_env)
    launcher = ["hydra/launcher=submitit_local", "sweep.name=launched", "seed=0,1"]
    call("sweep", "-m", *COMMON, f"tracking.uri={address}", *launcher, env=env)
    call("promote", "launched", env=in_env)
    assert list((home / "multirun" / "launched" / ".submitit").rglob("*.pkl"))
    check_files(home, server.folder)


def check_files(checkout: Path, served: Path) -> None:
    """Check that no file of a checkout or of a server has a planted secret, except this one."""
    for folder in (checkout, served):
        for path in folder.rglob("*"):
            if path.is_file() and checkout / "tests" not in path.parents:
                check_text(path.read_bytes().decode(errors="ignore"), str(path))


def check_text(text: str, where: str) -> None:
    """Check that a text has none of the planted secrets."""
    for secret in (*PLANTED.values(), PASSWORD, IN_CLEAR, "planted'"):
        assert secret not in text, where
