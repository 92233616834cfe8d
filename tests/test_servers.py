"""Tests of MLflow servers over HTTP, on SQLite and PostgreSQL, that are slow, die and come back."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from lookalike.sweeps.mlflow_sweep import MlflowSweep
from lookalike.sweeps.places import Sweep
from lookalike.tracking import views
from lookalike.tracking.mlflow_run import NoFilesError
from lookalike.tracking.mlflow_server import MlflowRuns
from lookalike.workspace.configuration import ROOT, compose
from server_helpers import PATIENCE, Server, environment, eventually, free_port

pytest_plugins = ["pipeline_fixtures"]

Done = subprocess.CompletedProcess[str]


@pytest.fixture(autouse=True)
def _no_outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with mock.patch.dict(os.environ, environment(), clear=True):  # MLflow sets variables itself
        monkeypatch.setattr(views, "WAIT_SECONDS", PATIENCE)  # a machine that tests share can be very slow
        yield


class Postgres:
    """A private PostgreSQL on a free port of the loopback, from the programs of a Debian package."""

    def __init__(self, programs: Path) -> None:
        self.programs, self.port = programs, free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="lookalike-postgres-"))  # pytest's folders are for one user alone
        self.owner: list[str] = []
        if os.getuid() == 0:  # whom it refuses to run as
            self.owner = ["runuser", "-u", "postgres", "--"]
            shutil.chown(self.folder, "postgres", "postgres")
        try:
            self.run("initdb", "--auth=trust", "--username=lookalike", "--encoding=UTF8", "--locale=C", "--no-sync")
            options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off -k {self.folder}"
            self.run("pg_ctl", "--wait", f"--log={self.folder / 'log'}", "-o", options, "start")
        except BaseException:
            self.stop()
            raise

    def run(self, program: str, *arguments: str) -> None:
        command = [*self.owner, str(self.programs / program), f"--pgdata={self.folder / 'data'}", *arguments]
        with (self.folder / "output").open("w+") as output:  # not a pipe: the server would keep it open
            done = subprocess.run(command, cwd="/", stdout=output, stderr=output, timeout=PATIENCE, check=False)
            output.seek(0)
            assert done.returncode == 0, output.read()

    @property
    def database(self) -> str:
        return f"postgresql+psycopg2://lookalike@127.0.0.1:{self.port}/postgres"

    def stop(self) -> None:
        try:
            if (self.folder / "data" / "postmaster.pid").exists():
                self.run("pg_ctl", "--wait", "--mode=immediate", "stop")
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


def postgres_programs() -> Path:
    """Return the folder of `initdb`, which Debian does not put on the path."""
    found = [Path(path).parent for path in [shutil.which("initdb")] if path]
    found += [path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)]
    if not found:
        pytest.skip("no PostgreSQL here: `apt-get install postgresql` brings it")
    pytest.importorskip("psycopg2", reason="no psycopg2 here: `pip install psycopg2-binary` brings it")
    if os.getuid() == 0 and (shutil.which("runuser") is None or not is_user("postgres")):
        pytest.skip("PostgreSQL does not run as root, and there is no user `postgres`")
    return found[0]


def is_user(name: str) -> bool:
    import pwd

    return any(user.pw_name == name for user in pwd.getpwall())


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An MLflow server on SQLite."""
    folder = tmp_path_factory.mktemp("sqlite")
    server = Server(folder, f"sqlite:///{folder}/mlflow.db")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def on_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An MLflow server on PostgreSQL."""
    postgres = Postgres(postgres_programs())
    try:
        server = Server(tmp_path_factory.mktemp("postgres"), postgres.database)
        yield server
        server.stop()
    finally:
        postgres.stop()


DATABASES = [pytest.param("sqlite", marks=pytest.mark.slow), "postgres"]
"""Databases of a server; by default only the one that other tests do not cover."""


@pytest.fixture(params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest) -> Server:
    """An MLflow server on each of the databases."""
    found: Server = request.getfixturevalue(f"on_{request.param}")
    return found


SWEEPS = "heights/sweeps"
"""The end of the name of the experiment of sweeps."""


def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri)


def all_runs(uri: str, experiment: str, *, of: str = "heights") -> list[Any]:
    found = client(uri).get_experiment_by_name(f"{experiment}/{of}")
    return list(client(uri).search_runs([found.experiment_id], max_results=1000)) if found else []


def tree(uri: str, experiment: str) -> tuple[Any, list[Any]]:
    """Return the parent run and its children, each of a different trial; there are no other runs."""
    runs = all_runs(uri, experiment, of=SWEEPS)
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} <= {parent.info.run_id}
    trials = [run.data.tags["trial"] for run in children]
    assert len(trials) == len(set(trials)), "a trial has two runs"
    return parent, children


def content(uri: str, run: Any) -> dict[str, Any]:
    """Return the content of a run, with every value of every metric, without ids and times."""
    found = client(uri)
    histories = {key: found.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
    random = ("mlflow.parentRunId", "recorded", "mlflow.note.content", "described")
    return {
        "name": run.info.run_name,
        "status": run.info.status,
        "params": run.data.params,
        "tags": {key: value for key, value in run.data.tags.items() if key not in random},
        "metrics": {key: [(point.step, point.value) for point in points] for key, points in histories.items()},
        "data": [(entry.dataset.name, entry.dataset.digest) for entry in run.inputs.dataset_inputs],
        "files": sorted(file.path for file in found.list_artifacts(run.info.run_id)),
    }


def check_whole(uri: str, experiment: str, folder: Path, *, count: int) -> None:
    """Check that the runs of a sweep agree with its files: one parent, one child per trial, nothing twice."""
    parent, children = tree(uri, experiment)
    assert (parent.info.status, [run.info.status for run in children]) == ("FINISHED", ["FINISHED"] * count)
    assert parent.data.tags["trials.finished"] == str(count)
    for child in children:
        held = content(uri, child)
        trial = folder.parent / "trials" / child.data.tags["trial"]
        scores = json.loads((trial / "evaluate" / "metrics.json").read_text())
        assert held["metrics"]["bits_per_dim"] == [(0, scores["bits_per_dim"]["value"])]
        for split in ("train", "validation"):
            steps = [step for step, _ in held["metrics"].get(f"{split}/loss", [])]
            rows = (trial / "train" / f"loss_{split}.csv").read_text().splitlines()[1:]
            assert steps == [int(row.partition(",")[0]) for row in rows]
        assert held["params"]["seed"] == child.info.run_name.rpartition("seed=")[2]
        assert held["data"] == [("heights", child.data.tags["data_digest"][:8])]
        assert held["files"] == ["images", "metrics.json", "preview.npz", "samples.png"]


# Sweeps and stages


@pytest.mark.parametrize("server", DATABASES, indirect=True)
def test_a_sweep_is_a_tree_of_runs_on_a_server(server: Server, home: Path, sweep: Callable[..., Done]) -> None:
    name = server.folder.name.rstrip("0123456789")
    done = sweep(
        "model=mixture,vae", "seed=0,1", f"sweep.name=on_{name}", "tracking.experiment=tree",
        env=at(server, home),
    )  # fmt: skip
    assert "tracking:" not in done.stderr
    check_whole(server.uri, "tree", home / "multirun" / f"on_{name}", count=4)
    parent, _ = tree(server.uri, "tree")
    assert {"figures", "images", "samples.png", "summary.csv", "summary.json", "sweep.json"} == set(
        content(server.uri, parent)["files"]
    )
    figures = {Path(file.path).name for file in client(server.uri).list_artifacts(parent.info.run_id, "figures")}
    assert {"parallel_coordinates.png", "optimization_history.png", "importance.png"} <= figures
    experiment = client(server.uri).get_experiment_by_name("tree/heights/sweeps")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def at(server: Server, home: Path) -> dict[str, str]:
    """Return variables that send the runs of a command in `home` to a server."""
    return environment(PYTHONPATH=str(home / "src"), MLFLOW_TRACKING_URI=server.uri)


@pytest.mark.slow
def test_sixteen_trials_at_once_lose_nothing(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    config = compose(
        ["data=heights", "model=vae", "budget=smoke", f"tracking.uri={server.uri}", "tracking.experiment=sixteen"]
    )

    def train(i: int) -> None:
        with views.opened(config, record(f"{i:016x}")) as view:
            for step in range(100):
                view.metrics({"train/loss": 1.0 / (step + 1 + i)}, step)
            view.samples(np.full((5, 1), 66.0), 99)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(train, range(16)))
    assert capfd.readouterr().err == ""
    found = {run.data.tags["fingerprint"]: run for run in all_runs(server.uri, "sixteen")}
    assert set(found) == {f"{i:016x}" for i in range(16)}
    assert len(all_runs(server.uri, "sixteen")) == 16
    for run in found.values():
        held = content(server.uri, run)
        assert (held["status"], held["data"]) == ("FINISHED", [("heights", "d" * 8)])
        assert [step for step, _ in held["metrics"]["train/loss"]] == list(range(100))
        assert held["files"] == ["images"]


def record(fingerprint: str) -> dict[str, Any]:
    """Return the record of a model that is about to be trained."""
    domain = {
        "name": "heights", "kind": "table", "shape": [1], "labels": [],
        "variables": [{"type": "Ordered", "levels": 1120, "low": 0.0, "step": 0.1, "unit": "inch"}],
    }  # fmt: skip
    return {
        "fingerprint": fingerprint,
        "name": "heights-vae",
        "configuration": {"model": {"_target_": "lookalike.families.vae.VAE", "widths": [1, 2]}, "seed": 0},
        "domain": domain,
        "data_digest": "d" * 64,
        "code_digest": "c" * 64,
    }


ASK = """
import json, mlflow
model = mlflow.pyfunc.load_model("models:/lookalike-heights@champion")
print(json.dumps(model.predict([{"count": 50, "seed": 0}])))
"""


@pytest.mark.slow
def test_a_family_is_registered_on_a_server_and_loaded_from_it(
    on_postgres: Server, home: Path, tmp_path: Path, call_stage: Callable[..., Done]
) -> None:
    shutil.copytree(home / "artifacts", tmp_path / "artifacts")
    places = [f"paths.{kind}={tmp_path / kind}" for kind in ("artifacts", "results", "samples", "scratch")]
    for stage in ("train", "sample", "evaluate"):
        done = call_stage(stage, "data=heights", "model=mixture", "budget=smoke", "tracking=none", *places)
        assert done.returncode == 0, done.stderr
    env = at(on_postgres, ROOT)
    command = [sys.executable, "-m", "lookalike", "register", *places, "heights"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [f"{on_postgres.uri}: lookalike-heights", "  mixture: version 1"]
    (run,) = all_runs(on_postgres.uri, "lookalike")
    assert run.data.tags["model"] == "mixture"

    del env["PYTHONPATH"]  # a model brings its code
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (answer,) = json.loads(done.stdout)
    with np.load(tmp_path / "artifacts" / "heights" / "mixture" / "0" / "sample" / "samples.npz") as drawn:
        samples = np.array(answer["samples"])
        assert samples.shape == (50, *drawn["samples"].shape[1:])
        assert drawn["samples"].min() - 10 < samples.min() < samples.max() < drawn["samples"].max() + 10


# Servers that are in trouble


@pytest.mark.slow
def test_a_server_that_dies_during_a_sweep_gets_the_rest_later(
    home: Path, tmp_path: Path, run: Callable[..., Done]
) -> None:
    server = Server(tmp_path, f"sqlite:///{tmp_path}/mlflow.db")
    try:
        seeds = range(200, 206)
        command = ["python", "-m", "lookalike", "sweep", "-m", "data=heights", "budget=smoke", "model=vae"]
        command += [f"seed={','.join(map(str, seeds))}", "sweep.name=dies"]
        process = subprocess.Popen(
            command, cwd=home, env=at(server, home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        with process:
            try:
                eventually(lambda: process.poll() is not None or finished(server.uri))
                server.send(signal.SIGKILL)
                done_before = len(list((home / "multirun" / "dies" / "trials").glob("*.json")))
                out, err = process.communicate(timeout=PATIENCE)
            finally:
                process.kill()
        assert 1 <= done_before < len(seeds), "the server died before or after the sweep"
        assert process.returncode == 0, err
        assert f"trials: {len(seeds)} finished" in out
        assert err.count(f"tracking: {server.uri} can't be reached (") == 1
        assert "record the rest with: lookalike record" in err
        assert "Traceback" not in err

        still = run(home, "python", "-m", "lookalike", "record", env=at(server, home))
        assert (still.returncode, still.stderr) == (1, f"error: {server.uri} can't be reached (Connection refused)\n")

        server.start()
        assert len(tree(server.uri, "lookalike")[1]) < len(seeds)
        others = [path for path in (home / "multirun").glob("*") if path.name not in ("trials", "dies")]
        for folder in others:
            folder.rename(tmp_path / folder.name)
        try:
            held = [run(home, "python", "-m", "lookalike", "record", env=at(server, home)) for _ in range(2)]
        finally:
            for folder in others:
                (tmp_path / folder.name).rename(folder)
        assert [done.returncode for done in held] == [0, 0], held
        assert f"sweep dies: no trials that were not recorded in {server.uri}" in held[1].stdout
        check_whole(server.uri, "lookalike", home / "multirun" / "dies", count=len(seeds))
    finally:
        server.stop()


def finished(uri: str) -> bool:
    """Return whether a trial is recorded to its end."""
    runs = all_runs(uri, "lookalike", of=SWEEPS)
    return any(run.data.tags.get("recorded", "").startswith("finished") for run in runs)


class Dying:
    """A client whose server dies at one of its requests, before or after it did what it was asked for."""

    def __init__(self, real: Any, *, at: int, after: bool) -> None:
        self.real, self.left, self.after = real, at, after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.real, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == 0 and not self.after:
                raise ConnectionError("the server died")
            answer = method(*args, **kwargs)
            if self.left == 0:
                raise ConnectionError("the server died")
            return answer

        return call


def test_a_sweep_is_recorded_completely_whichever_request_kills_the_server(
    home: Path, sweep: Callable[..., Done], tmp_path: Path
) -> None:
    sweep("model=vae", "seed=0", "sweep.name=cut", "tracking=none")
    recorded = Sweep(home / "multirun" / "cut")
    uri = f"sqlite:///{tmp_path}/mlflow.db"

    def record_into(experiment: str, *, at: int, after: bool) -> bool:
        """Record a sweep with a server that dies at a request; return whether it died."""
        server = MlflowRuns(uri=uri, experiment=experiment)
        server.client = Dying(server.client, at=at, after=after)
        try:
            view = MlflowSweep(server, recorded)
            view.update()
            view.close()
        except ConnectionError:
            return True
        except NoFilesError as error:  # The request was about a file, so all numbers are recorded.
            return isinstance(error.__cause__, ConnectionError)
        return False

    def whole(experiment: str) -> list[dict[str, Any]]:
        parent, (child,) = tree(uri, experiment)
        return [content(uri, parent), content(uri, child)]

    assert not record_into("whole", at=0, after=False)
    wanted = whole("whole")
    assert wanted[1]["metrics"]["train/loss"]
    requests = 0
    while record_into(f"before-{requests + 1}", at=requests + 1, after=False):
        requests += 1
        assert record_into(f"after-{requests}", at=requests, after=True)
        for experiment in (f"before-{requests}", f"after-{requests}"):
            assert not record_into(experiment, at=0, after=False)
            assert whole(experiment) == wanted, f"died at {experiment}"
    assert requests > 10


def test_a_server_that_is_late_makes_no_second_run(on_sqlite: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"TIMEOUT": "1", "MAX_RETRIES": "3", "BACKOFF_FACTOR": "1"}.items():
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{key}", value)
    server = MlflowRuns(uri=on_sqlite.uri, experiment="late")
    create = server.client.create_run

    def late(*args: Any, **kwargs: Any) -> Any:
        on_sqlite.send(signal.SIGSTOP)
        threading.Timer(3, on_sqlite.send, [signal.SIGCONT]).start()
        return create(*args, **kwargs)

    monkeypatch.setattr(server.client, "create_run", late)
    server.open(record("0" * 16), training=False).close("FINISHED")
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "1"
    time.sleep(1)  # for requests that were given up, and wait
    assert [run.info.status for run in all_runs(on_sqlite.uri, "late")] == ["FINISHED"]
