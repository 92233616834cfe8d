"""One job: the stale stages of one cell, run one after the other in a worker of a launcher."""

import contextlib
import functools
import importlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from omegaconf import DictConfig

from lookalike.cells.records import Done, Folder, Job, StageOrder, State, stat_digest
from lookalike.sweeps import devices
from lookalike.workspace import cost, progress
from lookalike.workspace.configuration import Config, compose
from lookalike.workspace.errors import UserError
from lookalike.workspace.interrupts import end_with_parent

HEARTBEAT_SECONDS = 2.0


def run_job(composed: DictConfig) -> None:
    """Run the job that a launcher's configuration names; its state says how it ended, it raises nothing but Ctrl-C."""
    end_with_parent()
    folder = Folder(Path(composed.sweep.folder))
    job, token, sources = folder.order(composed.sweep.job)
    if folder.round != token:
        return  # a cluster started it so late that its command has given it up
    worker = Worker(folder, State(name=job.name, round=token, started=time.time(), pid=os.getpid()))
    with worker.beating(), printing_to(folder.log(job.name)):
        worker.run(job, sources)


class Worker:
    """Runs the stages of a job and keeps its state up to date."""

    def __init__(self, folder: Folder, state: State) -> None:
        self.folder, self.state = folder, state
        self.lock = threading.Lock()
        self.stopped = threading.Event()

    def put(self) -> None:
        """Write the state, unless another command has taken over; the heartbeat does so from another thread."""
        with self.lock:
            if self.folder.round == self.state.round:
                self.folder.put(self.state)

    def run(self, job: Job, sources: dict[str, str]) -> None:
        """Run all stages, up to the first that fails."""
        try:
            for stage in job.stages:
                self.state.stage, self.state.progress = stage.function, ""
                self.put()
                self.run_stage(stage, sources[stage.name])
            self.state.status = "finished"
        except KeyboardInterrupt:
            self.state.status = "interrupted"
            raise
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            self.state.status, self.state.error = "failed", first_line(error)
        finally:
            self.state.progress = ""
            self.put()

    def run_stage(self, order: StageOrder, sources: str) -> None:
        """Run one stage as its script would, and note that it is done."""
        inputs = stat_digest(order.inputs)
        log = self.folder.log(self.state.name)
        print(f"\n{order.name}", flush=True)
        before = log.stat().st_size
        with cost.counted_from_now(), progress.reported(self.report):
            config = compose(order.overrides)
            if config.trainer.accelerator != "cpu" and config.trainer.devices == 1:
                devices.choose(self.folder.path)
            stage_function(order.function)(config)
        said = [line for line in log.read_bytes()[before:].decode(errors="replace").splitlines() if line.strip()]
        self.state.done.append(Done(name=order.name, sources=sources, inputs=inputs, said=said[-1] if said else ""))

    def report(self, text: str) -> None:
        """Note how far the stage is; the next heartbeat writes it."""
        self.state.progress = text

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Show while the block runs that this process is alive, and end it if another command has taken over."""

        def beat() -> None:
            while not self.stopped.wait(HEARTBEAT_SECONDS):
                if self.folder.round != self.state.round:
                    os._exit(1)
                self.put()

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.stopped.set()
            thread.join()


@functools.cache
def stage_function(name: str) -> Callable[[Config], None]:
    """Return the function of a stage."""
    function: Callable[[Config], None] = getattr(importlib.import_module(f"lookalike.stages.{name}"), name)
    return function


@contextlib.contextmanager
def printing_to(log: Path) -> Iterator[None]:
    """Send everything that this process and those that it starts print to a file, from its end on."""
    sys.stdout.flush(), sys.stderr.flush()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    kept = [os.dup(number) for number in (1, 2)]
    for number in (1, 2):
        os.dup2(file, number)
    try:
        with (
            open(os.dup(1), "w", buffering=1, encoding="utf-8") as out,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(out),
        ):
            yield
    finally:
        for number, before in zip((1, 2), kept, strict=True):
            os.dup2(before, number)
            os.close(before)
        os.close(file)


def first_line(error: BaseException) -> str:
    """Return the message of an error in one line."""
    text = next(iter(str(error).splitlines()), "")
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
