"""Finds or makes the MLflow run of a trained model: one a fingerprint."""

import contextlib
import getpass
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from lookalike.tracking.content import ROOT, Record, flat, made_here
from lookalike.tracking.mlflow_run import MlflowRun

LOCK_SECONDS = 300
"""How long a recorder waits for others that make databases or runs, or write."""

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # A dead server must be noticed in seconds: the defaults retry for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""Environment variables that are set where the user has not."""

ONCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}
"""The same for what must not be asked for twice."""

KIND = {"mlflow.experimentKind": "custom_model_development"}
"""What the UI shows an experiment for: training, not prompts and traces."""

SERVERS = ("http://", "https://", "databricks")
"""How URIs begin that are not of a database."""

Tags = dict[str, str]


def load_client(uri: str) -> None:
    """Set MLflow up and import what talks to the server or database of a URI."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    for name in ("MLFLOW_RUN_ID", "MLFLOW_ENABLE_ASYNC_LOGGING"):
        os.environ.pop(name, None)
    import mlflow

    if not uri.startswith(SERVERS):
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


class MlflowRuns:
    """An experiment on a tracking server.

    Args:
        uri: of the server, or a SQLAlchemy URI of its database; the variable MLFLOW_TRACKING_URI goes before it. A
            relative SQLite file is one in the repository, and its artifacts lie beside it.
        experiment: its name; it is made where it isn't there.
    """

    def __init__(self, *, uri: str, experiment: str) -> None:
        self.uri = resolved(uri)
        load_client(self.uri)  # takes long: not while others wait for the lock
        import mlflow

        # SQLite lets one process write at a time; the others wait for as long as this.
        uri = f"{self.uri}?timeout={LOCK_SECONDS}" if is_sqlite(self.uri) and "?" not in self.uri else self.uri
        # What in MLflow takes no URI falls back on a database in the working folder.
        mlflow.set_tracking_uri(uri)
        with self.lock():
            self.client = mlflow.MlflowClient(uri)
            self.experiment = self._find_experiment(experiment)

    def _find_experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self.client.create_experiment(name, artifacts_of(self.uri), tags=KIND))
            except MlflowException:
                if (found := self.client.get_experiment_by_name(name)) is None:
                    raise  # else another machine was faster
        if found.lifecycle_stage == "deleted":
            raise RuntimeError(f"its experiment '{name}' is deleted: restore it or choose tracking.experiment")
        return str(found.experiment_id)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Only one process of this machine makes databases, experiments and runs: MLflow's own ways there race."""
        if is_sqlite(self.uri):
            path = Path(self.uri.removeprefix("sqlite:///").partition("?")[0] + ".lock")
            path.parent.mkdir(parents=True, exist_ok=True)
        else:
            name = hashlib.sha256(self.uri.encode()).hexdigest()[:16]
            path = Path(tempfile.gettempdir()) / f"lookalike-{os.getuid()}-{name}.lock"
        with FileLock(path, timeout=LOCK_SECONDS):
            yield

    def find(self, tag: str, value: str) -> Any:
        """The run that has a tag, or None."""
        quoted = value.replace("'", "''")
        found = self.client.search_runs([self.experiment], f"tags.{tag} = '{quoted}'", max_results=1)
        return found[0] if found else None

    def create(self, name: str, **more: Any) -> Any:
        """A new run.

        It is asked for once: a server that is late may make the run after all, and another attempt would make a second.
        """
        before = {key: os.environ.get(key) for key in ONCE}
        os.environ.update(ONCE)
        try:
            return self.client.create_run(self.experiment, run_name=name, **more)
        finally:
            for key, value in before.items():
                if value is None:
                    del os.environ[key]
                else:
                    os.environ[key] = value

    def open(self, record: Record, *, training: bool, sweep: str | None = None) -> "MlflowRun":
        """The run of a trained model, or of one that is about to be trained; made where it isn't there."""
        with self.lock():
            run = self.find("fingerprint", record["fingerprint"])
            new = run is None
            if new:
                run = self.create(record["name"], tags=description(record) | provenance(record, training=training))
            parent = self._parent(sweep) if sweep else None
            empty = not run.inputs.dataset_inputs  # also where a server died once it had made the run
            if empty:
                self.client.log_inputs(run.info.run_id, [dataset(record)])
        opened = MlflowRun(self.client, run, training=training)
        if empty:
            opened.parameters(flat(record["configuration"]))
        if training and not new:
            opened.tags(provenance(record, training=True))
        if parent and "mlflow.parentRunId" not in run.data.tags:
            opened.tags({"mlflow.parentRunId": parent})
        return opened

    def _parent(self, sweep: str) -> str:
        run = self.find("sweep", sweep)
        if run is None:
            run = self.create(sweep, tags={"sweep": sweep, "mlflow.user": user()})
            self.client.set_terminated(run.info.run_id)
        return str(run.info.run_id)


def resolved(uri: str) -> str:
    """The URI that counts, with a relative SQLite file made one in the repository."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or uri
    if not is_sqlite(uri) or uri.startswith("sqlite:////"):
        return uri
    return f"sqlite:///{ROOT / uri.removeprefix('sqlite:///')}"


def place_of(uri: str) -> str:
    """The URI that counts, without a password and without how long SQLite waits: what messages show."""
    return re.sub(r"//[^/@]*@", "//", resolved(uri)).removesuffix(f"?timeout={LOCK_SECONDS}")


def is_sqlite(uri: str) -> bool:
    return uri.startswith("sqlite:///")


def artifacts_of(uri: str) -> str | None:
    """Where the artifacts of a new experiment go: beside a SQLite file; a server has a place of its own."""
    if uri.startswith(SERVERS):
        return None
    home = Path(uri.removeprefix("sqlite:///").partition("?")[0]).parent if is_sqlite(uri) else ROOT
    return (home / "mlartifacts").as_uri()


def user() -> str:
    """Whose run it is."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def description(record: Record) -> Tags:
    """What never changes about a trained model's run, as tags."""
    data = str(record["domain"]["name"])
    return {
        "mlflow.user": user(),
        "mlflow.source.name": "pipelines/train.py",
        "mlflow.source.type": "LOCAL",
        "data": data,
        "model": str(record["name"]).removeprefix(f"{data}-"),
        "seed": str(record["configuration"]["seed"]),
        **{key: record[key] for key in ("fingerprint", "data_digest", "code_digest")},
    }


def provenance(record: Record, *, training: bool) -> Tags:
    """The commit that the model was trained at, as tags."""
    state = made_here(record, training=training)
    return {
        "git_commit": state["commit"],
        "git_dirty": state["dirty"],
        "mlflow.source.git.commit": state["commit"],
    }


def dataset(record: Record) -> Any:
    """The data that the model was trained on, by name and digest; no array is read."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    domain = record["domain"]
    dtype = "uint8" if domain["kind"] == "image" else "float64"
    tensor = {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": [-1, *domain["shape"]]}}
    found = Dataset(
        name=domain["name"],
        digest=record["data_digest"][:8],  # the whole is a tag
        source_type="local",
        source=json.dumps({"uri": f"artifacts/{domain['name']}/prepared"}),
        schema=json.dumps({"mlflow_tensorspec": {"features": json.dumps([tensor]), "targets": None}}),
        profile=json.dumps({key: domain[key] for key in ("kind", "levels", "unit", "labels")}),
    )
    return DatasetInput(found, [InputTag("mlflow.data.context", "training")])
