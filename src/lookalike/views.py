"""The stage's side of tracking: hands what happens to a process of its own that records it (see `tracking`).

MLflow takes seconds to import and a server may be slow or gone, so none of it happens in a stage. A stage writes lines
of JSON to its recorder's pipe, and waits for it once, at the end. A stage that says early that it will want a recorder
(`expect`) has MLflow imported on another core while it imports torch itself.
"""

import base64
import io
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.core.config import Config

WAIT_SECONDS = 60.0
"""How long a stage that is done waits for its recorder."""

WAIT_INTERRUPTED_SECONDS = 10.0
"""The same for a stage that was interrupted: who interrupts wants it to end."""


class View:
    """Where a stage tells of its run; none of its methods raises, waits or changes a result. This one tells nobody."""

    def metrics(self, values: dict[str, float], step: int) -> None: ...

    def samples(self, samples: NDArray[Any], step: int) -> None: ...

    def record(self, stage: str, folder: Path) -> None: ...


class Recorder(View):
    """Tells a process of its own. A thread does the writing, so that a full pipe holds nobody up."""

    def __init__(self, config: Config) -> None:
        self.outbox: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.process: subprocess.Popen[bytes] | None = None
        try:
            # A session of its own: Ctrl-C reaches the stage, which tells the recorder how it ended.
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "lookalike.tracking"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        except OSError as error:
            complain(f"no recorder could be started ({error.strerror})")
        self.thread = threading.Thread(target=self._write, name="recorder", daemon=True)
        self.thread.start()
        self.tracking = config.tracking
        self._tell("expect", tracking=self.tracking.model_dump())

    def open(self, **message: Any) -> None:
        """What there is to record: a run, or a report."""
        self._tell("open", **message)

    def metrics(self, values: dict[str, float], step: int) -> None:
        """Losses at a step."""
        self._tell("metrics", values=dict(values), step=step, milliseconds=int(time.time() * 1000))

    def samples(self, samples: NDArray[Any], step: int) -> None:
        """Samples `[N, *shape]`, as values of the domain, drawn at a step of training."""
        buffer = io.BytesIO()
        np.save(buffer, samples, allow_pickle=False)
        self._tell("samples", npy=base64.b64encode(buffer.getvalue()).decode(), step=step)

    def record(self, stage: str, folder: Path) -> None:
        """A stage's complete folder; it is read before `close` returns."""
        self._tell("stage", stage=stage, folder=str(folder))

    def close(self, state: str) -> None:
        """Say how the stage ended and wait until all is recorded, but no longer than is sensible."""
        limit = WAIT_INTERRUPTED_SECONDS if state == "KILLED" else WAIT_SECONDS
        deadline = time.monotonic() + limit
        self._tell("close", state=state)
        self.outbox.put(None)
        self.thread.join(limit)
        if self.process is None:
            return
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            complain(f"the recorder is not done after {limit:.0f} s; the run goes on")

    def _tell(self, kind: str, **content: Any) -> None:
        self.outbox.put({"kind": kind} | content)

    def _write(self) -> None:
        """Until the end of the messages or of the recorder, which may have given up."""
        if self.process is None or self.process.stdin is None:
            return
        try:
            with self.process.stdin as pipe:
                while (message := self.outbox.get()) is not None:
                    pipe.write(json.dumps(message, default=float).encode() + b"\n")
                    pipe.flush()
        except OSError:
            return
        except Exception as error:  # a view must not end a stage, whatever it was told
            complain(f"the recorder was not told all ({error!r})")


def complain(problem: str) -> None:
    """One line on what was not recorded, and what records it."""
    print(f"tracking: {problem}, record it later with: python pipelines/record.py", file=sys.stderr, flush=True)


EXPECTED: list[Recorder] = []
"""The recorder that waits for its run, if any."""

INSTEAD: list[View] = []
"""The view that stages in this process tell, whatever their configuration asks for; the last one counts."""


@contextmanager
def instead(view: View) -> Iterator[None]:
    """While the block runs, stages in this process tell this view, and start no recorder.

    A view that raises ends the stage.
    """
    INSTEAD.append(view)
    try:
        yield
    finally:
        INSTEAD.pop()


def recorder(config: Config) -> Recorder:
    """A recorder for the views of a configuration, the one that was expected if there is one for these views."""
    expected = EXPECTED.pop() if EXPECTED else None
    return expected if expected is not None and expected.tracking == config.tracking else Recorder(config)


def expect(config: Config) -> None:
    """Have a recorder ready for `opened`; one that is never opened goes with this process and leaves no trace."""
    if not EXPECTED and not INSTEAD and (config.tracking.mlflow or config.tracking.wandb):
        EXPECTED.append(Recorder(config))


@contextmanager
def opened(config: Config, record: dict[str, Any], *, sweep: str | None = None) -> Iterator[View]:
    """The view of the run of a trained model, while a stage works on it.

    It is told FINISHED, FAILED or KILLED (the user's doing) by how the block ends.

    Args:
        config: says which views there are; without any, no process is started.
        record: what `model.json` holds, or of it what is known before training.
        sweep: the sweep that the run belongs to, a name of your choice that its trials share.
    """
    if INSTEAD or not (config.tracking.mlflow or config.tracking.wandb):
        yield INSTEAD[-1] if INSTEAD else View()
        return
    view = recorder(config)
    view.open(record=record, sampling=config.sampling, sweep=sweep, cell=str(config.cell))
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
    """Attach a finished report, the folder of `report.html` and `figures/`, to the runs that it is about."""
    if config.tracking.mlflow or config.tracking.wandb:
        view = recorder(config)
        view.open(artifacts=str(config.path("artifacts")), report=str(folder))
        view.close("FINISHED")
