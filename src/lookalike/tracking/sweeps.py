"""The recorder of a sweep: `python -m lookalike.tracking.sweeps FOLDER`, started by the sweep, records its files.

Trials may run anywhere and only write files. One process records all of them, so no two processes write one run, and
what was missed during an outage is recorded when the server is back, or by `lookalike record`.
"""

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from lookalike.sweeps.places import Sweep
from lookalike.tracking.servers import causes, complaint, quiet
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

    def __init__(self, place: str, connect: Callable[[], SweepView]) -> None:
        self.place, self.connect = place, connect
        self.view: SweepView | None = None
        self.failed_at: float | None = None
        self.complained = False

    def update(self, *, last: bool) -> None:
        """Record what is new; the last time, record that the sweep ended."""
        if self.failed_at is not None and time.monotonic() - self.failed_at < RETRY_SECONDS and not last:
            return
        try:
            self.view = self.view or self.connect()
            self.view.update()
            if last:
                self.view.close()
            self.failed_at = None
        except Exception as error:
            self.view, self.failed_at = None, time.monotonic()
            if not self.complained:
                self.complained = True
                print(
                    f"tracking: {complaint(self.place, error)}; the sweep goes on, record the rest with: "
                    f"lookalike record",
                    file=sys.stderr,
                    flush=True,
                )


def views_of(tracking: dict[str, Any], sweep: Sweep) -> Iterator[tuple[str, Callable[[], SweepView]]]:
    """Yield the views of a section `tracking`: its place for messages, and a function that opens the sweep there."""
    if tracking["mlflow"]:
        from lookalike.tracking.mlflow_server import MlflowRuns, place_of
        from lookalike.tracking.mlflow_sweep import MlflowSweep

        server = {"uri": tracking["uri"], "experiment": tracking["experiment"]}
        yield place_of(tracking["uri"]), lambda: MlflowSweep(MlflowRuns(**server), sweep)
    if tracking["wandb"]:
        from lookalike.tracking.wandb_sweep import WandbSweep

        yield "W&B", lambda: WandbSweep(sweep, project=tracking["experiment"])


def follow(sweep: Sweep) -> None:
    """Record a sweep until the process that started this one ends, and every trial with it."""
    views = [Guarded(place, connect) for place, connect in views_of(sweep.read()["tracking"], sweep)]
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
    """Record all sweeps below a folder in every view; yield one line per sweep and view.

    Raises:
        UserError: a view cannot be reached.
    """
    for path in sorted(multirun.glob("*/sweep.json")):
        sweep = Sweep(path.parent)
        mark_killed(sweep)
        for place, connect in views_of(tracking, sweep):
            try:
                with file_lock(sweep.folder / "recorder.lock", timeout=60):
                    view = connect()
                    new = view.update()
                    view.close()
            except Exception as error:
                if any(isinstance(cause, UserError) for cause in causes(error)):
                    raise
                raise UserError(complaint(place, error)) from None
            yield f"sweep {sweep.name}: {new or 'no'} trials that were not recorded in {place}"


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
    sweep = Sweep(Path(sys.argv[1]))
    # The recorder of an earlier command that was killed may still run.
    with file_lock(sweep.folder / "recorder.lock", timeout=600):
        follow(sweep)


if __name__ == "__main__":
    main()
