"""Find or create the MLflow run of a trained model: one run per fingerprint."""

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

from lookalike.domain.kinds import load_domain
from lookalike.tracking.content import ROOT, Record, commit_of, flat
from lookalike.tracking.mlflow_run import MlflowRun
from lookalike.workspace.locks import file_lock

LOCK_SECONDS = 300
"""How long a recorder waits for others that create databases or runs, or write."""

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # A dead server must be noticed in seconds; by default MLflow retries for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""Environment variables that are set unless the user has set them."""

NO_RETRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}
"""Environment variables for a request that must not be repeated."""

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Tags of a new experiment: the UI shows it as one of model training, and not of prompts and traces."""

SERVERS = ("http://", "https://", "databricks")
"""Beginnings of URIs that name a server and not a database."""

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
        uri: URI of the server, or a SQLAlchemy URI of its database; the variable MLFLOW_TRACKING_URI takes precedence.
            A relative SQLite file lies in the repository, with its artifacts beside it.
        experiment: name of the experiment, which is created if it does not exist.
    """

    def __init__(self, *, uri: str, experiment: str) -> None:
        self.uri = resolved(uri)
        load_client(self.uri)  # This takes long, so it happens before others wait for the lock.
        import mlflow

        # SQLite lets one process write at a time; the others wait this long.
        uri = f"{self.uri}?timeout={LOCK_SECONDS}" if is_sqlite(self.uri) and "?" not in self.uri else self.uri
        # Functions of MLflow that take no URI would otherwise create a database in the working folder.
        mlflow.set_tracking_uri(uri)
        with self.lock():
            self.client = mlflow.MlflowClient(uri)
            self.experiment = self._find_experiment(experiment)

    def _find_experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self.client.create_experiment(name, artifacts_of(self.uri), tags=EXPERIMENT_TAGS))
            except MlflowException:
                if (found := self.client.get_experiment_by_name(name)) is None:
                    raise  # Otherwise another machine was faster.
        if found.lifecycle_stage == "deleted":
            raise RuntimeError(f"its experiment '{name}' is deleted: restore it or choose tracking.experiment")
        return str(found.experiment_id)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Let one process of this machine at a time create databases, experiments and runs: MLflow has races there."""
        if is_sqlite(self.uri):
            path = Path(self.uri.removeprefix("sqlite:///").partition("?")[0] + ".lock")
            path.parent.mkdir(parents=True, exist_ok=True)
        else:
            name = hashlib.sha256(self.uri.encode()).hexdigest()[:16]
            path = Path(tempfile.gettempdir()) / f"lookalike-{os.getuid()}-{name}.lock"
        with file_lock(path, timeout=LOCK_SECONDS):
            yield

    def find(self, tag: str, value: str) -> Any:
        """Return the run that has a tag, or None."""
        quoted = value.replace("'", "''")
        found = self.client.search_runs([self.experiment], f"tags.{tag} = '{quoted}'", max_results=1)
        return found[0] if found else None

    def create(self, name: str, **more: Any) -> Any:
        """Return a new run.

        The request is sent once: a server that answers late may still create the run, and a second request would
        create a second run.
        """
        before = {key: os.environ.get(key) for key in NO_RETRIES}
        os.environ.update(NO_RETRIES)
        try:
            return self.client.create_run(self.experiment, run_name=name, **more)
        finally:
            for key, value in before.items():
                if value is None:
                    del os.environ[key]
                else:
                    os.environ[key] = value

    def open(self, record: Record, *, training: bool) -> MlflowRun:
        """Return the run of a trained model, or of one that is about to be trained; it is created if necessary."""
        commit = commit_tags(record, training=training)
        with self.lock():
            run = self.find("fingerprint", record["fingerprint"])
            is_new = run is None
            if is_new:
                run = self.create(record["name"], tags=description(record) | commit)
            is_empty = not run.inputs.dataset_inputs  # also if the server died after it created the run
            if is_empty:
                self.client.log_inputs(run.info.run_id, [dataset(record)])
        opened = MlflowRun(self.client, run, training=training)
        if is_empty:
            opened.parameters(flat(record["configuration"]))
        if training and not is_new:
            opened.tags(commit)
        return opened


def resolved(uri: str) -> str:
    """Return the URI that counts; a relative SQLite file lies in the repository."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or uri
    if not is_sqlite(uri) or uri.startswith("sqlite:////"):
        return uri
    return f"sqlite:///{ROOT / uri.removeprefix('sqlite:///')}"


def place_of(uri: str) -> str:
    """Return the URI that counts for messages: without a password and without SQLite's timeout."""
    return re.sub(r"//[^/@]*@", "//", resolved(uri)).removesuffix(f"?timeout={LOCK_SECONDS}")


def is_sqlite(uri: str) -> bool:
    """Return whether a URI names a SQLite file."""
    return uri.startswith("sqlite:///")


def artifacts_of(uri: str) -> str | None:
    """Return where the artifacts of a new experiment go: beside a SQLite file; None lets a server decide."""
    if uri.startswith(SERVERS):
        return None
    home = Path(uri.removeprefix("sqlite:///").partition("?")[0]).parent if is_sqlite(uri) else ROOT
    return (home / "mlartifacts").as_uri()


def user() -> str:
    """Return the name of the user."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def description(record: Record) -> Tags:
    """Return what never changes about the run of a trained model, as tags."""
    data = str(record["domain"]["name"])
    return {
        "mlflow.user": user(),
        "mlflow.source.name": "lookalike train",
        "mlflow.source.type": "LOCAL",
        "data": data,
        "model": str(record["name"]).removeprefix(f"{data}-"),
        "seed": str(record["configuration"]["seed"]),
        **{key: record[key] for key in ("fingerprint", "data_digest", "code_digest")},
    }


def commit_tags(record: Record, *, training: bool) -> Tags:
    """Return the commit that a model was trained at, as tags."""
    state = commit_of(record, training=training)
    return {"git_commit": state["commit"], "git_dirty": state["dirty"], "mlflow.source.git.commit": state["commit"]}


def dataset(record: Record) -> Any:
    """Return the training data of a model by name and digest; no array is read."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    domain = load_domain(record["domain"])
    tensor = {"type": "tensor", "tensor-spec": {"dtype": domain.dtype.name, "shape": [-1, *domain.shape]}}
    profile = {"kind": domain.kind, "levels": domain.levels, "labels": domain.labels}
    found = Dataset(
        name=domain.name,
        digest=record["data_digest"][:8],  # A tag has all of it.
        source_type="local",
        source=json.dumps({"uri": f"artifacts/{domain.name}/prepared"}),
        schema=json.dumps({"mlflow_tensorspec": {"features": json.dumps([tensor]), "targets": None}}),
        profile=json.dumps(profile),
    )
    return DatasetInput(found, [InputTag("mlflow.data.context", "training")])
