"""The recorder of stages: `python -m lookalike.tracking`, started by `views`, which sends it lines of JSON.

It records one stage after the other, because a process that runs several needs the imports of MLflow only once. It
answers with one line when a stage is recorded, and ends when its standard input ends.
"""

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lookalike.domain.kinds import load_domain
from lookalike.tracking.content import Point, Record
from lookalike.tracking.servers import Tracker, asked_for, load, quiet
from lookalike.tracking.workspace import Run, catch_up, show_cells, show_preview, show_stage

FLUSH_SECONDS = 2.0
"""How long losses are held back, so that many are sent at once."""

Message = dict[str, Any]
Inbox = queue.SimpleQueue[Message | None]


def complain(tracker: Tracker, error: Exception) -> None:
    """Print the one line that the user of a stage sees about a tracker that failed."""
    problem = tracker.complaint(error)
    print(f"tracking: {problem}; the run goes on, record it later with: lookalike record", file=sys.stderr, flush=True)


class Guarded:
    """A run in one view; after its first error it is given up with one line of complaint."""

    def __init__(self, tracker: Tracker, record: Record) -> None:
        self.tracker, self.failed = tracker, False
        self.run: Run | None = None
        with self.guarding():
            # The record of a model that is not trained yet has no number of steps.
            self.run = tracker.connect().open(record, training="steps" not in record)

    @contextlib.contextmanager
    def guarding(self) -> Iterator[None]:
        """Complain about an error in the block, and do nothing with the run from then on."""
        try:
            yield
        except Exception as error:
            self.failed = True
            complain(self.tracker, error)

    def do(self, action: Callable[[Run], object]) -> None:
        """Do something with the run, unless it was given up."""
        if self.run is not None and not self.failed:
            with self.guarding():
                action(self.run)

    def close(self, state: str) -> None:
        """End the run, even if it was given up: the server may have refused only a part of it."""
        if self.run is not None and self.failed:
            with contextlib.suppress(Exception):
                self.run.close(state)
        self.do(lambda run: run.close(state))


class Recording:
    """Pass everything that a stage reports to every view."""

    def __init__(self, message: Message, tracking: dict[str, Any]) -> None:
        self.record: Record = message["record"]
        self.cell, self.sampling = Path(message["cell"]), message["sampling"]
        self.pending: list[Point] = []
        self.flushed = time.monotonic()
        self.runs = [Guarded(tracker, self.record) for tracker in asked_for(tracking)]

    def take(self, message: Message) -> None:
        """Process one message between the first and the last."""
        if message["kind"] == "metrics":
            self.pending += [
                Point(key, float(f"{value:.6g}"), message["step"], message["milliseconds"])  # as in the files
                for key, value in message["values"].items()
            ]
            if time.monotonic() - self.flushed >= FLUSH_SECONDS:
                self.flush()
            return
        self.flush()
        if message["kind"] == "samples":
            samples = np.array(message["values"], dtype=load_domain(self.record["domain"]).dtype)
            self.each(lambda run: show_preview(run, self.record, samples, message["step"]))
        else:
            stage, folder = message["stage"], Path(message["folder"])
            self.each(lambda run: catch_up(run, self.record, self.cell, before=stage))
            self.each(lambda run: show_stage(run, self.record, stage, folder, settings=self.sampling))

    def flush(self) -> None:
        """Send the losses that were held back."""
        points, self.pending, self.flushed = self.pending, [], time.monotonic()
        if points:
            self.each(lambda run: run.points(points))
        self.each(lambda run: run.tick())

    def each(self, action: Callable[[Run], object]) -> None:
        """Do something in every view."""
        for guarded in self.runs:
            guarded.do(action)

    def close(self, state: str) -> None:
        """End the runs."""
        self.flush()
        for guarded in self.runs:
            guarded.close(state)


def read_lines(inbox: Inbox) -> None:
    """Empty the pipe, so that the stage never waits; put None at its end, or where a line was cut."""
    with contextlib.suppress(ValueError):
        for line in sys.stdin.buffer:
            inbox.put(json.loads(line))
    inbox.put(None)


def received(inbox: Inbox, *, timeout: float | None = None) -> Message | None:
    """Return the next message; None, as often as it is asked for, when there are no more.

    Raises:
        queue.Empty: no message came in time.
    """
    message = inbox.get(timeout=timeout)
    if message is None:
        inbox.put(None)
    return message


def record_run(first: Message, inbox: Inbox, tracking: dict[str, Any]) -> None:
    """Record a stage; a stage that ends without its last message was killed."""
    recording, state = Recording(first, tracking), "KILLED"
    message: Message | None = first
    while any(guarded.run for guarded in recording.runs):
        try:
            message = received(inbox, timeout=FLUSH_SECONDS)
        except queue.Empty:
            recording.flush()
            continue
        if message is None:
            break
        if message["kind"] == "close":
            state = message["state"]
            break
        recording.take(message)
    recording.close(state)
    while message and message["kind"] != "close":  # every view has failed
        message = received(inbox)


def record_report(first: Message, tracking: dict[str, Any]) -> None:
    """Record all cells together with a report."""
    for tracker in asked_for(tracking):
        try:
            for _ in show_cells(tracker.connect(), Path(first["artifacts"]), Path(first["report"])):
                pass
        except Exception as error:
            complain(tracker, error)


def serve(inbox: Inbox, answers: BinaryIO) -> None:
    """Import what the views need and record a run or a report, as often as one is opened."""
    while (expected := received(inbox)) is not None:
        tracking = expected["tracking"]
        load(tracking)
        if (first := received(inbox)) is None:
            return
        if "report" in first:
            record_report(first, tracking)
            received(inbox)  # the message that closes it
        else:
            record_run(first, inbox, tracking)
        with contextlib.suppress(BrokenPipeError):
            answers.write(b"recorded\n")


def main() -> None:
    """Record until standard input ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    quiet()
    inbox: Inbox = queue.SimpleQueue()
    # What a library prints must not pass for an answer.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 1)
    reader = threading.Thread(target=read_lines, args=[inbox], daemon=True)
    reader.start()
    try:
        serve(inbox, answers)
    finally:
        # Python must not exit while a thread reads standard input; if no view is left, that is until the stage ends.
        reader.join()


if __name__ == "__main__":
    main()
