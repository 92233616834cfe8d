"""The stage's side of tracking: pass what happens to a process of its own, which records it (see `__main__`).

MLflow takes seconds to import and a server may be slow or gone, so a stage does none of it. A stage writes lines of
JSON to its recorder's pipe and waits for the recorder once, at the end. A stage that announces early that it will need
a recorder (`expect`) lets another core import MLflow while it imports torch itself. The next stage in the same process
takes over its recorder.
"""

import atexit
import functools
import io
import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lookalike.tracking.experiment import workspace
from lookalike.workspace.configuration import ROOT, Config
from lookalike.workspace.tries import as_recorded

WAIT_SECONDS = 60.0
"""How long a finished stage waits for its recorder."""

WAIT_INTERRUPTED_SECONDS = 10.0
"""How long an interrupted stage waits for its recorder."""


def start(module: str, *arguments: str, stdout: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start a recorder, which ends when its standard input ends.

    It has a session of its own: Ctrl-C ends the stage or the sweep, which then says how it ended.
    """
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=stdout,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )


class View:
    """What a stage reports its run to; no method raises, waits or changes a result. This class ignores everything."""

    def metrics(self, values: dict[str, float], step: int) -> None: ...

    def samples(self, samples: NDArray[Any], step: int) -> None: ...

    def record(self, stage: str, folder: Path) -> None: ...


class Recorder(View):
    """Pass everything to a recorder process. A thread writes to it, so that a full pipe delays nobody."""

    def __init__(self, config: Config) -> None:
        self.outbox: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.environment = dict(os.environ)
        self.process: subprocess.Popen[bytes] | None = None
        try:
            self.process = idle(self.environment) or start("lookalike.tracking", stdout=subprocess.PIPE)
        except OSError as error:
            complain(f"no recorder could be started ({error.strerror})")
        self.thread = threading.Thread(target=self._write, name="recorder", daemon=True)
        self.thread.start()
        self.tracking = config.tracking
        self._send("expect", tracking=self.tracking.model_dump())

    def open(self, **message: Any) -> None:
        """Say what there is to record: a run or a report."""
        self._send("open", **message)

    def metrics(self, values: dict[str, float], step: int) -> None:
        """Report losses at a step."""
        self._send("metrics", values=dict(values), step=step, milliseconds=int(time.time() * 1000))

    def samples(self, samples: NDArray[Any], step: int) -> None:
        """Report samples `[N, *shape]`, as values of the domain, drawn at a step of training."""
        self._send("samples", values=samples.tolist(), step=step)

    def record(self, stage: str, folder: Path) -> None:
        """Report the complete folder of a stage; it is read before `close` returns."""
        self._send("stage", stage=stage, folder=str(folder))

    def close(self, state: str) -> None:
        """Report how the stage ended and wait until everything is recorded, but not too long."""
        limit = WAIT_INTERRUPTED_SECONDS if state == "KILLED" else WAIT_SECONDS
        deadline = time.monotonic() + limit
        self._send("close", state=state)
        self.outbox.put(None)
        self.thread.join(limit)
        if self.process is None or self.process.stdout is None:
            return
        if not select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
            complain(f"the recorder is not done after {limit:.0f} s; the run goes on")
        elif self.process.stdout.readline():
            IDLE.append((self.process, self.environment))

    def _send(self, kind: str, **content: Any) -> None:
        self.outbox.put({"kind": kind} | content)

    def _write(self) -> None:
        """Write messages until there are no more or the recorder has ended."""
        if self.process is None or self.process.stdin is None:
            return
        try:
            while (message := self.outbox.get()) is not None:
                self.process.stdin.write(json.dumps(message, default=float).encode() + b"\n")
                self.process.stdin.flush()
        except OSError:
            return
        except Exception as error:  # A view must not end a stage, whatever is reported to it.
            complain(f"the recorder did not receive everything ({error!r})")
            self.process.stdin.close()


def complain(problem: str) -> None:
    """Print one line about what was not recorded and how to record it."""
    print(f"tracking: {problem}, record it later with: lookalike record", file=sys.stderr, flush=True)


IDLE: list[tuple[subprocess.Popen[bytes], dict[str, str]]] = []
"""The recorder of an earlier stage in this process, which waits for the next one, and its environment."""


def idle(environment: dict[str, str]) -> subprocess.Popen[bytes] | None:
    """Return an idle recorder that was started in an environment, whose variables may name a server; None without."""
    process, own = IDLE.pop() if IDLE else (None, {})
    return process if process is not None and process.poll() is None and own == environment else None


@atexit.register
def end_idle() -> None:
    """Wait for the end of the idle recorder, so that nothing of a stage is left when it has ended."""
    for process, _ in IDLE:
        with suppress(OSError, subprocess.TimeoutExpired):
            process.communicate(timeout=WAIT_INTERRUPTED_SECONDS)


EXPECTED: list[Recorder] = []
"""The recorder that waits for its run, if any."""

INSTEAD: list[View] = []
"""Views that stages in this process report to, whatever their configuration says; the last one counts."""


@contextmanager
def instead(view: View) -> Iterator[None]:
    """Let stages in this process report to a view, print nothing and start no recorder while the block runs.

    An exception of this view ends the stage.
    """
    INSTEAD.append(view)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        INSTEAD.pop()


def carried() -> Callable[[], AbstractContextManager[None]]:
    """Return a context in which another process reports to the view of this one; it can be pickled."""
    return functools.partial(instead, INSTEAD[-1]) if INSTEAD else nullcontext


def recorder(config: Config) -> Recorder:
    """Return a recorder for the views of a configuration: the expected one if it is for these views, or a new one."""
    expected = EXPECTED.pop() if EXPECTED else None
    return expected if expected is not None and expected.tracking == config.tracking else Recorder(config)


def expect(config: Config) -> None:
    """Start a recorder for `opened` early; if it is never opened it ends with this process and leaves no trace."""
    if not EXPECTED and not INSTEAD and (config.tracking.mlflow or config.tracking.wandb):
        EXPECTED.append(Recorder(config))


@contextmanager
def opened(config: Config, record: dict[str, Any]) -> Iterator[View]:
    """Yield the view of a trained model's run while a stage works on it.

    The run ends as FINISHED, FAILED or KILLED (by the user), depending on how the block ends.

    Args:
        config: says which views there are; without any, no process is started.
        record: the content of `model.json`, or the part of it that is known before training.
    """
    if INSTEAD or not (config.tracking.mlflow or config.tracking.wandb):
        yield INSTEAD[-1] if INSTEAD else View()
        return
    view = recorder(config)
    view.open(record=as_recorded(record, config.cell), sampling=config.sampling, cell=str(config.cell))
    state = "FAILED"
    try:
        yield view
        state = "FINISHED"
    except KeyboardInterrupt:
        state = "KILLED"
        raise
    finally:
        view.close(state)


def record_report(config: Config, folder: Path) -> None:
    """Attach a finished report, the folder of `report.html` and `figures/`, to the runs that it is about.

    In the copy of a queued DVC experiment do nothing: most runs there are also in the report of the workspace.
    """
    if workspace() == ROOT and (config.tracking.mlflow or config.tracking.wandb):
        view = recorder(config)
        view.open(artifacts=str(config.path("artifacts")), report=str(folder))
        view.close("FINISHED")
