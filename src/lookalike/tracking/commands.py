"""`lookalike register` and `lookalike ui`: register trained families in MLflow, and open MLflow."""

import os
import sys
import webbrowser

from lookalike.tracking.mlflow_server import SERVERS
from lookalike.tracking.registry import register as register_models
from lookalike.tracking.servers import asked_for, quiet
from lookalike.workspace.configuration import Config
from lookalike.workspace.errors import UserError


def ui(config: Config) -> None:
    """Open MLflow's UI: that of the tracking server, or on this machine for a database."""
    quiet()
    tracker, *_ = asked_for(config.tracking.model_dump() | {"mlflow": True})
    if tracker.uri.startswith(SERVERS):
        print(f"the runs are on {tracker.place}", flush=True)
        webbrowser.open(tracker.place)
        return
    try:
        tracker.connect()
    except Exception as error:
        raise UserError(tracker.complaint(error)) from None
    # The command line of a process is no place for a password.
    env = {**os.environ, "MLFLOW_BACKEND_STORE_URI": tracker.uri}
    env.pop("MLFLOW_TRACKING_URI", None)
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", "ui"], env)


def register(config: Config, *, objective: str | None = None) -> None:
    """Register every trained family of a data set in MLflow's registry.

    Args:
        config: names the data set and the tracking server.
        objective: the metric whose best family gets the alias `champion`; None for the data set's distance.
    """
    quiet()
    for line in register_models(
        config.tracking.model_dump(),
        data=config.data.name,
        artifacts=config.path("artifacts"),
        results=config.path("results"),
        objective=objective,
    ):
        print(line, flush=True)
