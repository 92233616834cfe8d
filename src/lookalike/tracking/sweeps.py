"""The recorder of a sweep: `python -m lookalike.tracking.sweeps FOLDER`, started by the sweep, shows its files.

Trials may run anywhere, and tell nobody but their own files. One process shows them all, so no two write one run, and
whatever was missed while a server was away is shown when it is back, or by `python pipelines/record.py`.
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

from filelock import FileLock

from lookalike.core.errors import UserError
from lookalike.sweeps.places import Sweep
from lookalike.tracking.servers import causes, complaint, quiet

LOOK_SECONDS = 1.0
"""How often the files are looked at."""

AGAIN_SECONDS = 30.0
"""After this long a view that failed is tried again."""


class SweepView(Protocol):
    """A sweep in one view."""

    def update(self) -> int: ...

    def close(self) -> None: ...


class Guarded:
    """A sweep in one view, which may be away for a while."""

    def __init__(self, place: str, connect: Callable[[], SweepView]) -> None:
        self.place, self.connect = place, connect
        self.view: SweepView | None = None
        self.failed_at: float | None = None
        self.complained = False

    def update(self, *, last: bool) -> None:
        """Show what is new; at the last time, that the sweep ended."""
        if self.failed_at is not None and time.monotonic() - self.failed_at < AGAIN_SECONDS and not last:
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
                    f"tracking: {complaint(self.place, error)}; the sweep goes on, and what is missing is recorded by: "
                    f"python pipelines/record.py",
                    file=sys.stderr,
                    flush=True,
                )


def views_of(tracking: dict[str, Any], sweep: Sweep) -> Iterator[tuple[str, Callable[[], SweepView]]]:
    """The views that a sweep's `tracking` section asks for: where each is, and how to open it."""
    if tracking["mlflow"]:
        from lookalike.tracking.mlflow_server import MlflowRuns, place_of
        from lookalike.tracking.mlflow_sweep import MlflowSweep

        server = {"uri": tracking["uri"], "experiment": tracking["experiment"]}
        yield place_of(tracking["uri"]), lambda: MlflowSweep(MlflowRuns(**server), sweep)
    if tracking["wandb"]:
        from lookalike.tracking.wandb_sweep import WandbSweep

        yield "W&B", lambda: WandbSweep(sweep, project=tracking["experiment"])


def follow(sweep: Sweep) -> None:
    """Show a sweep until the process that started this one ends, and every trial with it."""
    views = [Guarded(place, connect) for place, connect in views_of(sweep.read()["tracking"], sweep)]
    while not parent_is_gone(LOOK_SECONDS):
        for view in views:
            view.update(last=False)
    while sweep.read()["state"] == "running":
        # The sweep was killed. Workers elsewhere may go on with their trials.
        sweep.correct()
        if any(state["state"] == "running" for state in sweep.all_states()):
            for view in views:
                view.update(last=False)
            time.sleep(LOOK_SECONDS)
        else:
            sweep.end("killed")
    for view in views:
        view.update(last=True)


def parent_is_gone(seconds: float) -> bool:
    """Whether the pipe's other end is closed, within some seconds."""
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(ready) and not os.read(sys.stdin.fileno(), 1)


def record_sweeps(tracking: dict[str, Any], multirun: Path) -> Iterator[str]:
    """Show all sweeps below a folder in every view; yields a line each.

    Raises:
        UserError: a view is away.
    """
    for path in sorted(multirun.glob("*/sweep.json")):
        sweep = Sweep(path.parent)
        correct(sweep)
        for place, connect in views_of(tracking, sweep):
            try:
                with FileLock(sweep.folder / "recorder.lock", timeout=60):
                    view = connect()
                    new = view.update()
                    view.close()
            except Exception as error:
                if any(isinstance(cause, UserError) for cause in causes(error)):
                    raise
                raise UserError(complaint(place, error)) from None
            yield f"sweep {sweep.name}: {new or 'no'} trials that were not recorded in {place}"


def correct(sweep: Sweep) -> None:
    """What says that it runs, and is nobody's work, was killed: trials, and the sweep where none of them is left."""
    sweep.correct()
    with contextlib.suppress(UserError), sweep.held():
        if sweep.read()["state"] == "running" and not any(s["state"] == "running" for s in sweep.all_states()):
            sweep.end("killed")


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    quiet()
    sweep = Sweep(Path(sys.argv[1]))
    # The recorder of a sweep that was killed may still be at it.
    with FileLock(sweep.folder / "recorder.lock", timeout=600):
        follow(sweep)


if __name__ == "__main__":
    main()
