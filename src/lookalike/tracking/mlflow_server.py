"""Find or create the MLflow run of a trained model: one run per fingerprint."""

import contextlib
import getpass
import hashlib
import importlib
import math
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lookalike.metrics.catalogue import LIKELIHOOD, main_distance
from lookalike.tracking.content import HEADLINE, Record, commit_of, family_of
from lookalike.tracking.experiment import experiment_tags, with_experiment, workspace
from lookalike.tracking.layout import changed, view_tags
from lookalike.tracking.mlflow_run import MlflowRun
from lookalike.tracking.notes import WRITTEN, experiment_note, with_note
from lookalike.tracking.seeds import group_seeds
from lookalike.workspace.addresses import read_address
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

SERVERS = ("http://", "https://", "databricks")
"""Beginnings of URIs that name a server and not a database."""

ARTIFACTS = "mlartifacts"
"""The folder of artifacts beside a SQLite store."""

LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
"""The columns of MLflow's tables that hold paths of artifacts."""

Tags = dict[str, str]


def load_client(uri: str) -> None:
    """Set MLflow up and import what talks to the server or database of a URI."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    for name in ("MLFLOW_RUN_ID", "MLFLOW_ENABLE_ASYNC_LOGGING"):
        os.environ.pop(name, None)
    importlib.import_module("mlflow" if uri.startswith(SERVERS) else "mlflow.store.tracking.sqlalchemy_store")


class MlflowRuns:
    """The experiments of a tracking server, one per data set.

    Args:
        uri: URI of the server, or a SQLAlchemy URI of its database; the variable MLFLOW_TRACKING_URI takes precedence.
            A relative SQLite file lies in the repository, with its artifacts beside it.
        experiment: first part of the experiments' names; the second part is the name of the data set.
    """

    def __init__(self, *, uri: str, experiment: str) -> None:
        self.uri = resolved(uri)
        if not read_address(self.uri).is_clear:
            raise ValueError("its user name or password has a special character: write %2F for /, %40 for @")
        load_client(self.uri)  # This takes long, so it happens before others wait for the lock.
        import mlflow

        # SQLite lets one process write at a time; the others wait this long.
        uri = f"{self.uri}?timeout={LOCK_SECONDS}" if is_sqlite(self.uri) and "?" not in self.uri else self.uri
        # Functions of MLflow that take no URI would otherwise create a database in the working folder.
        mlflow.set_tracking_uri(uri)
        os.environ["MLFLOW_TRACKING_URI"] = self.uri  # MLflow has put the one with the timeout there.
        with self.lock():
            self.client = mlflow.MlflowClient(uri)
            if is_sqlite(self.uri):
                settle(file_of(self.uri))
            self.prefix = f"{experiment}/"
            self.experiments = self._find_experiments()

    def _find_experiments(self) -> dict[str, str]:
        """Return the ids of the experiments that exist and are described, by data set."""
        quoted = self.prefix.replace("'", "''")
        found = self.client.search_experiments(filter_string=f"name LIKE '{quoted}%'")
        names = [(one.name, str(one.experiment_id)) for one in found if WRITTEN in one.tags]
        return {name.removeprefix(self.prefix): key for name, key in names if name.startswith(self.prefix)}

    def experiment_of(self, data: str) -> str:
        """Return the id of the experiment of a data set, which is created if it does not exist.

        It holds the runs of the data set's cells. Its sweeps are in that of `<data>/sweeps`. Do not call it inside
        `lock` for a data set that this object has not seen yet.
        """
        if data not in self.experiments:
            with self.lock():
                found = self._create_experiment(self.prefix + data)
            self.describe(data, found, runs=[])
            self.experiments[data] = found
        return self.experiments[data]

    def describe(self, data: str, experiment: str, *, runs: list[MlflowRun], order: str = LIKELIHOOD) -> None:
        """Lay out the pages of a data set's experiment and describe it by the scores of its runs.

        Args:
            data: the data set's name.
            experiment: the experiment's id.
            runs: the rows of the table of scores.
            order: the score by which the pages sort the runs.
        """
        known = self.client.get_experiment(experiment).tags
        note = with_note(experiment_note(data, experiment, runs), known)
        for key, value in changed(view_tags(order) | note, known).items():
            self.client.set_experiment_tag(experiment, key, value)

    def overview(self, shown: list[tuple[Record, MlflowRun]]) -> None:
        """Group the seeds of every model below one run, and describe every experiment by the scores of its models."""
        for data in dict.fromkeys(record["domain"]["name"] for record, _ in shown):
            runs = group_seeds(self, [(record, run) for record, run in shown if record["domain"]["name"] == data])
            order = main_distance({name for run in runs for name in run.known.metrics}) or LIKELIHOOD
            order = order if order in HEADLINE else LIKELIHOOD
            runs.sort(key=lambda run: run.known.metrics.get(order, math.inf))
            self.describe(data, self.experiment_of(data), runs=runs, order=order)

    def _create_experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        try:
            return str(self.client.create_experiment(name, artifacts_of(self.uri)))
        except MlflowException:
            if (found := self.client.get_experiment_by_name(name)) is None:
                raise  # Otherwise another process or machine was faster.
        if found.lifecycle_stage == "deleted":
            raise RuntimeError(f"its experiment '{name}' is deleted: restore it or choose tracking.experiment")
        return str(found.experiment_id)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Let one process of this machine at a time create databases, experiments and runs: MLflow has races there."""
        if is_sqlite(self.uri):
            path = Path(f"{file_of(self.uri)}.lock")
            path.parent.mkdir(parents=True, exist_ok=True)
        else:
            name = hashlib.sha256(self.uri.encode()).hexdigest()[:16]
            path = Path(tempfile.gettempdir()) / f"lookalike-{os.getuid()}-{name}.lock"
        with file_lock(path, timeout=LOCK_SECONDS):
            yield

    def find(self, data: str, tag: str, value: str) -> Any:
        """Return the run of a data set that has a tag, or None."""
        quoted = value.replace("'", "''")
        found = self.client.search_runs([self.experiment_of(data)], f"tags.{tag} = '{quoted}'", max_results=1)
        return found[0] if found else None

    def create(self, data: str, name: str, **more: Any) -> Any:
        """Return a new run of a data set.

        The request is sent once: a server that answers late may still create the run, and a second request would
        create a second run.
        """
        before = {key: os.environ[key] for key in NO_RETRIES}
        os.environ.update(NO_RETRIES)
        try:
            return self.client.create_run(self.experiment_of(data), run_name=name, **more)
        finally:
            os.environ.update(before)

    def open(self, record: Record, *, training: bool) -> MlflowRun:
        """Return the run of a trained model, or of one that is about to be trained; it is created if necessary."""
        git, data = commit_of(record, training=training), str(record["domain"]["name"])
        self.experiment_of(data)
        with self.lock():
            run = self.find(data, "fingerprint", record["fingerprint"])
            name, tags = with_experiment(run_name(record)), provenance("train", git) | description(record)
            run = run or self.create(data, name, tags=tags)
            opened = MlflowRun(self.client, run, training=training)
            opened.describe(record)
        if training:
            opened.tags(commit_tags(git))
        return opened


def resolved(uri: str) -> str:
    """Return the URI that counts; a relative SQLite file lies in the repository."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or uri
    if not is_sqlite(uri) or uri.startswith("sqlite:////"):
        return uri
    return f"sqlite:///{workspace() / uri.removeprefix('sqlite:///')}"


def place_of(uri: str) -> str:
    """Return the URI that counts for messages, without a password."""
    return read_address(resolved(uri)).shown


def is_sqlite(uri: str) -> bool:
    """Return whether a URI names a SQLite file."""
    return uri.startswith("sqlite:///")


def artifacts_of(uri: str) -> str | None:
    """Return where the artifacts of a new experiment go: beside a SQLite file; None lets a server decide."""
    if uri.startswith(SERVERS):
        return None
    home = file_of(uri).parent if is_sqlite(uri) else workspace()
    return (home / ARTIFACTS).as_uri()


def file_of(uri: str) -> Path:
    """Return the file of a SQLite database."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0])


def settle(store: Path) -> None:
    """Let a store that was moved or copied with its artifacts name those beside it, and none in the old folder.

    MLflow keeps absolute paths and has no command that changes them.
    """
    with contextlib.closing(sqlite3.connect(store, timeout=LOCK_SECONDS)) as database, database:
        known = database.execute("select distinct artifact_location from experiments").fetchall()
        folders = [Path(unquote(urlsplit(str(location)).path)) for (location,) in known]
        for old in {folder.parent for folder in folders if folder.name == ARTIFACTS}:
            if old.resolve() == store.parent.resolve():
                continue
            for table, column in LOCATIONS:
                for before, now in ((old.as_uri(), store.parent.as_uri()), (str(old), str(store.parent))):
                    start = len(before) + 1
                    database.execute(
                        f"update {table} set {column} = ? || substr({column}, ?) where substr({column}, 1, ?) = ?",
                        (now, start, start, f"{before}/"),
                    )


def user() -> str:
    """Return the name of the user."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def name_of(record: Record) -> str:
    """Return the name of a model without that of its data set."""
    return str(record["name"]).removeprefix(f"{record['domain']['name']}-")


def run_name(record: Record) -> str:
    """Return the name of the run of a trained model."""
    seed = record["configuration"]["seed"]
    return name_of(record) + (f" seed {seed}" if seed else "")


def description(record: Record) -> Tags:
    """Return what never changes about the run of a trained model, as tags."""
    data = str(record["domain"]["name"])
    return {
        "data": data,
        "family": family_of(record),
        "model": name_of(record),
        "seed": str(record["configuration"]["seed"]),
        **{key: record[key] for key in ("fingerprint", "data_digest", "code_digest")},
    }


def provenance(command: str, git: Tags) -> Tags:
    """Return the user, the command and the commit of a run, as tags."""
    source = {"mlflow.source.name": f"lookalike {command}", "mlflow.source.type": "LOCAL"}
    return {"mlflow.user": user()} | source | commit_tags(git)


def commit_tags(git: Tags) -> Tags:
    """Return a commit, and the DVC experiment that started from it, as tags."""
    commit = {"git_commit": git["commit"], "git_dirty": git["dirty"], "mlflow.source.git.commit": git["commit"]}
    return commit | experiment_tags()
