"""`lookalike record`, `register` and `ui`: bring MLflow and W&B up to date with the files, and open MLflow."""

import os
import sys
import webbrowser

from lookalike.tracking.mlflow_server import SERVERS
from lookalike.tracking.registry import register as register_models
from lookalike.tracking.servers import asked_for, quiet, record_all
from lookalike.tracking.sweeps import record_sweeps
from lookalike.workspace.configuration import ROOT, Config
from lookalike.workspace.errors import UserError


def record(config: Config) -> None:
    """Record all cells and sweeps that the views do not hold yet, for example after an outage."""
    quiet()
    tracking = config.tracking.model_dump()
    problems: list[str] = []
    for lines in (
        record_all(tracking, config.path("artifacts"), config.path("results")),
        record_sweeps(tracking, ROOT / "multirun"),
    ):
        try:
            for line in lines:
                print(line, flush=True)
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("; ".join(dict.fromkeys(problems)))


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
