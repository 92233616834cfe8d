"""The views that a configuration asks for, and messages about a view that cannot be reached."""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from lookalike.tracking.workspace import Server, show_cells
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


def asked_for(tracking: dict[str, Any]) -> Iterator[tuple[str, Callable[[], Server]]]:
    """Yield the views of the section `tracking`: its place for messages, and a function that connects to it."""
    if tracking["mlflow"]:
        from lookalike.tracking.mlflow_server import MlflowRuns, place_of

        yield place_of(tracking["uri"]), lambda: MlflowRuns(uri=tracking["uri"], experiment=tracking["experiment"])
    if tracking["wandb"]:
        from lookalike.tracking.wandb_runs import WandbRuns

        yield "W&B", lambda: WandbRuns(project=tracking["experiment"])


def complaint(place: str, error: BaseException) -> str:
    """Return one line that says that a view cannot be reached, or what it refused."""
    chain = list(causes(error))
    lost = [e for e in chain if isinstance(e, ConnectionError | TimeoutError) or "Max retries" in str(e)]
    verb = "can't be reached" if lost else "can't be written"
    root = next((e for e in reversed(chain) if isinstance(e, OSError) and e.strerror), lost[-1] if lost else error)
    reason = root.strerror if isinstance(root, OSError) and root.strerror else next(iter(str(root).splitlines()), "")
    return f"{place} {verb} ({(reason or repr(root))[:200]})"


def causes(error: BaseException) -> Iterable[BaseException]:
    """Return an error and the errors behind it, including those that urllib3 wraps."""
    seen: list[BaseException] = []
    todo: list[Any] = [error]
    while todo:
        one = todo.pop(0)
        if isinstance(one, BaseException) and one not in seen:
            seen.append(one)
            todo += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
    return seen


def record_all(tracking: dict[str, Any], artifacts: Path, results: Path) -> Iterator[str]:
    """Record all cells in every view; yield one line per view and per cell.

    Raises:
        UserError: there is no view, or one cannot be reached.
    """
    views = list(asked_for(tracking))
    if not views:
        raise UserError("tracking=none: there is no view to record in. Choose tracking=mlflow, wandb or both")
    for place, connect in views:
        try:
            server = connect()
            yield place
            yield from (f"  {line}" for line in show_cells(server, artifacts, results))
        except Exception as error:
            raise UserError(complaint(place, error)) from None
