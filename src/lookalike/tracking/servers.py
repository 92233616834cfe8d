"""The trackers that a configuration asks for, and messages about one that cannot be reached."""

import contextlib
import dataclasses
import logging
import shlex
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lookalike.tracking.mlflow_run import NoFilesError
from lookalike.tracking.workspace import causes, lost_connections, show_cells
from lookalike.workspace.addresses import hide, read_address
from lookalike.workspace.errors import UserError


def quiet() -> None:
    """Silence MLflow, Alembic and urllib3 below the level of errors, in a process that only records."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")


def load(tracking: dict[str, Any]) -> None:
    """Import what the section `tracking` needs, which takes seconds; an error here will occur again later."""
    if tracking["mlflow"]:
        from lookalike.tracking.mlflow_server import load_client, resolved

        with contextlib.suppress(Exception):
            load_client(resolved(tracking["uri"]))


@dataclasses.dataclass(frozen=True)
class Tracker:
    """A tracker that a configuration asks for.

    Attributes:
        place: its name in messages.
        connect: a function that connects to it.
        uri: its URI; empty for W&B.
    """

    place: str
    connect: Callable[[], Any]
    uri: str = ""

    def complaint(self, error: BaseException) -> str:
        """Return one line that says that the tracker cannot be reached, or what it refused."""
        verb = "can't be reached" if lost_connections(error) else "can't be written"
        if isinstance(error, NoFilesError):
            verb = "has all numbers, but can't take the files of the runs"
            error = error.__cause__ or error
        return hide(f"{self.place} {verb} ({self.reason(error)})", self.uri)

    def reason(self, error: BaseException) -> str:
        """Return why something failed, with the command that helps if there is one."""
        text = str(error)
        if "out-of-date database schema" in text:
            is_public = read_address(self.uri).shown == self.uri
            uri = shlex.quote(self.uri) if is_public else '"$MLFLOW_TRACKING_URI"'
            return f"another version of MLflow made this database: copy it, then run `mlflow db upgrade {uri}`"
        if "filesystem tracking backend" in text:
            source = shlex.quote(str(Path(unquote(urlsplit(self.uri).path))))
            move = f"mlflow migrate-filestore --source {source} --target sqlite:///mlflow.db"
            return f"MLflow needs a database instead of a folder: run `{move}`, then use sqlite:///mlflow.db"
        lost = lost_connections(error)
        causing = [e for e in reversed(causes(error)) if isinstance(e, OSError) and e.strerror]
        root = causing[0] if causing else lost[-1] if lost else error
        if isinstance(root, OSError) and root.strerror:
            return f"{root.strerror}: {root.filename}" if root.filename and not lost else root.strerror
        return next(iter(str(root).splitlines()), "") or repr(root)


def asked_for(tracking: dict[str, Any]) -> Iterator[Tracker]:
    """Yield the trackers of the section `tracking`."""
    if tracking["mlflow"]:
        from lookalike.tracking.mlflow_server import MlflowRuns, place_of, resolved

        uri, experiment = tracking["uri"], tracking["experiment"]
        yield Tracker(place_of(uri), lambda: MlflowRuns(uri=uri, experiment=experiment), resolved(uri))
    if tracking["wandb"]:
        from lookalike.tracking.wandb_runs import WandbRuns

        yield Tracker("W&B", lambda: WandbRuns(project=tracking["experiment"]))


def record_all(tracking: dict[str, Any], artifacts: Path, results: Path) -> Iterator[str]:
    """Record all cells in every tracker; yield one line per tracker and per cell.

    Raises:
        UserError: there is no tracker, or one cannot be reached.
    """
    trackers = list(asked_for(tracking))
    if not trackers:
        raise UserError("tracking=none: there is no view to record in. Choose tracking=mlflow, wandb or both")
    for tracker in trackers:
        try:
            server = tracker.connect()
            yield tracker.place
            yield from (f"  {line}" for line in show_cells(server, artifacts, results))
        except Exception as error:
            raise UserError(tracker.complaint(error)) from None
