"""MLflow's pages of a database, served by this process alone; they open on model training, on the scores."""

import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from lookalike.workspace.errors import UserError

FIRST_VISIT = {"mlflow.workflowType_v1": '"machine_learning"', "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true"}
"""What MLflow's pages find in a browser that has never opened them: show model training, leave the assistant closed."""

SCRIPT = """<head><script>
for (const [key, value] of Object.entries({settings})) localStorage[key] ??= value;
if (!location.hash) location.hash = {start};
</script>"""

App = Callable[..., Awaitable[None]]


def serve(uri: str, *, artifacts: str, start: str, announce: Callable[[str], None]) -> None:
    """Serve the pages until Ctrl-C, at MLFLOW_HOST and MLFLOW_PORT, or at http://127.0.0.1:5000.

    `mlflow server` starts several processes that each import everything; one is enough for one user.

    Args:
        uri: SQLAlchemy URI of the database.
        artifacts: URI of the folder of artifacts.
        start: the page that opens first, beginning with `#`.
        announce: called with the address as soon as the server answers.
    """
    listening = listen(os.environ.get("MLFLOW_HOST", "127.0.0.1"), int(os.environ.get("MLFLOW_PORT", "5000")))
    host, port = listening.getsockname()[:2]
    import uvicorn
    from mlflow.server import app as flask_app
    from mlflow.server import constants, handlers

    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: uri,
        constants.REGISTRY_STORE_URI_ENV_VAR: uri,
        constants.ARTIFACT_ROOT_ENV_VAR: artifacts,
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        constants.ARTIFACTS_DESTINATION_ENV_VAR: artifacts,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    sort_metrics()
    handlers.initialize_backend_stores(uri, uri, artifacts)
    from mlflow.server.fastapi_app import app

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            announce(f"http://{host}:{port}")

    page = (Path(str(flask_app.static_folder)) / "index.html").read_text(encoding="utf-8")
    opened = opening(
        app, page.replace("<head>", SCRIPT.format(settings=json.dumps(FIRST_VISIT), start=json.dumps(start)))
    )
    # uvicorn raises Ctrl-C once more when it has ended.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    settings = uvicorn.Config(opened, log_level="error", timeout_graceful_shutdown=1)
    Announcing(settings).run(sockets=[listening])


def sort_metrics() -> None:
    """Let this process list the headline scores of a run first, and then all other metrics by name.

    MLflow lists metrics in the order of recording, which starts with losses; its page that compares runs opens on the
    first metric.
    """
    import sqlalchemy
    from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlRun

    key = SqlLatestMetric.key
    sqlalchemy.inspect(SqlRun).relationships["latest_metrics"].order_by = [key.contains("/"), key]


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address.

    Raises:
        UserError: another process listens there, or the address is not this machine's.
    """
    try:
        return socket.create_server((host, port))
    except OSError as error:
        free = "" if os.environ.get("MLFLOW_PORT") else ": choose a port with MLFLOW_PORT=5001"
        raise UserError(f"http://{host}:{port} can't be served ({os.strerror(error.errno or 0)}){free}") from None


def opening(app: App, page: str) -> App:
    """Return an application that answers `/` with a page, and everything else as another application does."""
    from starlette.responses import HTMLResponse

    first = HTMLResponse(page, headers={"Cache-Control": "no-cache"})

    async def answer(scope: dict[str, Any], receive: Any, send: Any) -> None:
        is_first = scope["type"] == "http" and scope["path"] == "/" and scope["method"] in ("GET", "HEAD")
        await (first if is_first else app)(scope, receive, send)

    return answer
