"""`lookalike register` and `lookalike ui`: register trained families in MLflow, and open MLflow."""

import webbrowser

from lookalike.tracking.layout import TITLE, path_of_view
from lookalike.tracking.mlflow_server import SERVERS, MlflowRuns, artifacts_of
from lookalike.tracking.registry import register as register_models
from lookalike.tracking.servers import asked_for, quiet
from lookalike.workspace.configuration import Config
from lookalike.workspace.errors import UserError


def ui(config: Config) -> None:
    """Open MLflow's UI: that of the tracking server, or on this machine for a database."""
    quiet()
    tracker, *_ = asked_for(config.tracking.model_dump() | {"mlflow": True})
    try:
        runs: MlflowRuns = tracker.connect()
    except Exception as error:
        raise UserError(tracker.complaint(error)) from None
    names = sorted(runs.experiments, key=lambda name: (name != config.data.name, name))
    pages = {name: path_of_view(runs.experiments[name]) for name in names}

    def announce(address: str) -> None:
        """Print where the pages of each data set are, that of `data=` first."""
        print(f"{TITLE}:" if pages else "No runs yet: `make heights` makes the first ones.", flush=True)
        for name, page in pages.items():
            print(f"  {name}: {address.rstrip('/')}/{page}", flush=True)

    start = next(iter(pages.values()), "#/")
    if tracker.uri.startswith(SERVERS):
        print(f"MLflow answers on {tracker.place}", flush=True)
        announce(tracker.place)
        webbrowser.open(f"{tracker.place.rstrip('/')}/{start}")
        return
    # Not before here, because this imports a web server.
    from lookalike.tracking.ui_server import serve

    def ready(address: str) -> None:
        print(f"MLflow answers on {address}; Ctrl-C ends it", flush=True)
        announce(address)

    serve(tracker.uri, artifacts=artifacts_of(tracker.uri) or "", start=start, announce=ready)


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
