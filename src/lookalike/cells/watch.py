"""Record what jobs have made while they run, and show how far they are."""

import dataclasses
import re
import statistics
import threading
import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from lookalike.cells.look import Look
from lookalike.cells.pipeline import Pipeline
from lookalike.cells.records import Folder, Job, State

POLL_SECONDS = 1.0

PLACE = re.compile(r", (?:all scores |picture )?in \S+$")
"""The end of a stage's line that says where it wrote, which is the same for every job."""

LINE_SECONDS = 30.0
"""Between two reports where there is no terminal."""


@dataclasses.dataclass(kw_only=True)
class Watch:
    """Follows the jobs of one round in a thread, records them with DVC and prints their progress.

    Attributes:
        pipeline: DVC's view of the checkout; only this thread uses it while jobs run.
        folder: where the jobs write their states.
        jobs: the jobs of the round, by name.
        before: how many jobs have ended in earlier rounds.
        later: how many jobs may follow in later rounds.
        workers: how many jobs run at once.
        console: where to print.
        ended: seconds that the jobs took which have ended.
        failed: why jobs failed.
        changed: jobs a dependency of which changed while they ran.
        error: what ended the thread.
    """

    pipeline: Pipeline | Look
    folder: Folder
    jobs: dict[str, Job]
    before: int
    later: int
    workers: int
    console: Console
    ended: dict[str, float] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    changed: list[str] = dataclasses.field(default_factory=list)
    error: BaseException | None = None

    def __post_init__(self) -> None:
        self.token, self.reported, self.over = self.folder.round, time.monotonic(), threading.Event()
        self.thread = threading.Thread(target=self.follow, name="watch", daemon=True)

    def __enter__(self) -> "Watch":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        if self.error is not None:
            raise self.error

    def follow(self) -> None:
        """Look at the states again and again until the round is over."""
        try:
            with Live(console=self.console, refresh_per_second=4, transient=True, auto_refresh=False) as live:
                is_last = False
                while not is_last:
                    is_last = self.over.wait(POLL_SECONDS)
                    states = [state for state in self.folder.states() if state.round == self.token]
                    ended = [state for state in states if state.status != "running" and state.name not in self.ended]
                    for state in ended:
                        self.end(state)
                    if not ended:  # recording takes seconds, after which these states are old
                        self.show(live, [state for state in states if state.status == "running"])
        except BaseException as error:
            self.error = error

    def end(self, state: State) -> None:
        """Record the finished stages of a job that has ended and print one line about it."""
        self.ended[state.name] = state.updated - state.started
        if not record(self.pipeline, self.folder, state):
            self.changed.append(state.name)
            line = "a dependency changed while it ran, so its result is not recorded; it runs again"
        elif state.status == "failed":
            self.failed[state.name] = line = f"failed in {state.stage}: {state.error}"
        elif state.status == "interrupted":
            line = f"interrupted in {state.stage}"
        else:
            said = PLACE.sub("", state.done[-1].said) if state.done else ""
            line = said.partition(": ")[2] or said
            line = f"{line}, {duration(self.ended[state.name])}"
        self.console.print(f"{state.name}: {line} [{self.done} of {self.done + self.left}]", **PLAIN)

    @property
    def done(self) -> int:
        """How many jobs of all rounds have ended."""
        return self.before + len(self.ended)

    @property
    def left(self) -> int:
        """How many jobs have not ended; those of later rounds may turn out to be up to date."""
        return len(self.jobs) - len(self.ended) + self.later

    def show(self, live: Live, running: list[State]) -> None:
        """Show one line per running job and one about the rest; without a terminal, now and then."""
        if self.console.is_terminal:
            live.update(Text("\n".join(self.lines(running))), refresh=True)
        elif time.monotonic() - self.reported > LINE_SECONDS:
            self.reported = time.monotonic()
            for line in self.lines(running):
                self.console.print(line, **PLAIN)

    def lines(self, running: list[State]) -> list[str]:
        """Return one line per running job, and one about what is left."""
        now = time.time()
        lines = [
            f"  {state.name:<32} {state.progress or state.stage:<24} {duration(now - state.started)}"
            for state in running
        ]
        left = self.seconds_left(running)
        time_left = "the time left is not known yet" if left is None else f"about {duration(left)} left"
        waiting = self.left - len(running)
        return [*lines, f"  {self.done} done, {len(running)} running, {waiting} waiting: {time_left}"]

    def seconds_left(self, running: list[State]) -> float | None:
        """Estimate the time left from the jobs of the same data set that have ended; None before the first has."""
        if not self.ended:
            return None
        started = {state.name: state.started for state in running}
        total, now = 0.0, time.time()
        for name in self.jobs.keys() - self.ended.keys():
            alike = [seconds for other, seconds in self.ended.items() if self.jobs[other].data == self.jobs[name].data]
            expected = statistics.fmean(alike or self.ended.values())
            total += max(0.0, expected - (now - started[name])) if name in started else expected
        total += self.later * statistics.fmean(self.ended.values())
        return total / self.workers


PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}
"""How lines are printed that hold names and paths."""


def record(pipeline: Pipeline | Look, folder: Folder, state: State) -> bool:
    """Record the finished stages of a job; return False if a dependency of one has changed since the job began."""
    for done in state.done:
        if done.name in pipeline.stages and not pipeline.record(done):
            folder.forget(state.name)
            return False
    if state.status == "finished":
        folder.forget(state.name)
    return True


def duration(seconds: float) -> str:
    """Return a number of seconds for people."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
