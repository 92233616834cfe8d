"""The recorder of a sweep: `python -m lookalike.sweeps.recorder FOLDER`, started by the sweep, records its files.

Its standard input has one line, the section `tracking` as JSON, which may hold a password and is in no file.

Trials may run anywhere and only write files. One process records all of them, so no two processes write one run, and
what was missed during an outage is recorded when the server is back, or by `lookalike record`.
"""

import contextlib
import dataclasses
import functools
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from lookalike.sweeps.places import Sweep
from lookalike.tracking.servers import Tracker, asked_for, quiet
from lookalike.tracking.workspace import lost_connections
from lookalike.workspace.errors import UserError
from lookalike.workspace.locks import file_lock

LOOK_SECONDS = 1.0
"""Interval at which the files are read."""

RETRY_SECONDS = 30.0
"""Time after which a view that failed is tried again."""


class SweepView(Protocol):
    """A sweep in one view."""

    def update(self) -> int: ...

    def close(self) -> None: ...


class Guarded:
    """A sweep in one view, which may be unreachable for a while."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.view: SweepView | None = None
        self.failed_at: float | None = None
        self.complained = False

    def update(self, *, last: bool) -> None:
        """Record what is new; the last time, record that the sweep ended."""
        if self.failed_at is not None and time.monotonic() - self.failed_at < RETRY_SECONDS and not last:
            return
        try:
            self.view = self.view or self.tracker.connect()
            self.view.update()
            if last:
                self.view.close()
            self.failed_at = None
        except Exception as error:
            self.view, self.failed_at = None, time.monotonic()
            if not self.complained:
                self.complained = True
                print(
                    f"tracking: {self.tracker.complaint(error)}; the sweep goes on, record the rest with: "
                    f"lookalike record",
                    file=sys.stderr,
                    flush=True,
                )


def views_of(tracking: dict[str, Any], sweep: Sweep) -> Iterator[Tracker]:
    """Yield the trackers of a section `tracking`; each one connects to its view of a sweep."""
    from lookalike.sweeps.mlflow_sweep import MlflowSweep
    from lookalike.sweeps.wandb_sweep import WandbSweep

    for tracker in asked_for(tracking):
        view: Callable[[Any, Sweep], SweepView] = MlflowSweep if tracker.uri else WandbSweep
        yield dataclasses.replace(tracker, connect=functools.partial(connect, view, tracker, sweep))


def connect(view: Callable[[Any, Sweep], SweepView], tracker: Tracker, sweep: Sweep) -> SweepView:
    """Return the view of a sweep in a tracker."""
    return view(tracker.connect(), sweep)


def follow(sweep: Sweep, tracking: dict[str, Any]) -> None:
    """Record a sweep until the process that started this one ends, and every trial with it."""
    views = [Guarded(tracker) for tracker in views_of(tracking, sweep)]
    while not parent_is_gone(LOOK_SECONDS):
        for view in views:
            view.update(last=False)
    while sweep.read()["state"] == "running":
        # The sweep was killed. Workers on other machines may continue their trials.
        sweep.mark_killed()
        if sweep.is_running():
            for view in views:
                view.update(last=False)
            time.sleep(LOOK_SECONDS)
        else:
            sweep.end("killed")
    for view in views:
        view.update(last=True)


def parent_is_gone(seconds: float) -> bool:
    """Return whether the other end of the pipe is closed, after at most some seconds."""
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(ready) and not os.read(sys.stdin.fileno(), 1)


def record_sweeps(tracking: dict[str, Any], multirun: Path) -> Iterator[str]:
    """Record all sweeps below a folder in every tracker; yield one line per sweep and tracker.

    Raises:
        UserError: a tracker cannot be reached, or did not take everything.
    """
    problem = None
    for path in sorted(multirun.glob("*/sweep.json")):
        sweep = Sweep(path.parent)
        mark_killed(sweep)
        for tracker in views_of(tracking, sweep):
            try:
                with file_lock(sweep.folder / "recorder.lock", timeout=60):
                    view = tracker.connect()
                    new = view.update()
                    view.close()
            except UserError as error:
                problem = problem or str(error)
            except Exception as error:
                problem = problem or tracker.complaint(error)
                if lost_connections(error):
                    raise UserError(problem) from None
            else:
                yield f"sweep {sweep.name}: {new or 'no'} trials that were not recorded in {tracker.place}"
    if problem:
        raise UserError(problem)


def mark_killed(sweep: Sweep) -> None:
    """Mark trials without a process as killed, and the sweep too if none of them is left and no command runs it."""
    sweep.mark_killed()
    with contextlib.suppress(UserError), sweep.held():
        if sweep.read()["state"] == "running" and not sweep.is_running():
            sweep.end("killed")


def main() -> None:
    """Record the sweep whose folder is the first argument."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    quiet()
    sweep, tracking = Sweep(Path(sys.argv[1])), json.loads(sys.stdin.buffer.readline() or "null")
    if tracking is None:
        return  # The sweep ended at once.
    # The recorder of an earlier command that was killed may still run.
    with file_lock(sweep.folder / "recorder.lock", timeout=600):
        follow(sweep, tracking)


if __name__ == "__main__":
    main()
