"""The recorder: `python -m lookalike.tracking`, started by `views`, told of a run by lines of JSON on its input."""

import base64
import contextlib
import io
import json
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.tracking.content import Point, Record
from lookalike.tracking.servers import asked_for, complaint, load, quiet, tell
from lookalike.tracking.workspace import Run, Server, catch_up, show_cells, show_preview, show_stage

FLUSH_SECONDS = 2.0
"""How long losses are kept back, so that many go out at once."""

Message = dict[str, Any]


class Guarded:
    """A run in one view, given up with one line when something of it fails."""

    def __init__(self, place: str, connect: Callable[[], Server], message: Message) -> None:
        self.place, self.failed = place, False
        self.run: Run | None = None
        record = message["record"]
        try:
            # The record of a model that is not trained yet has no count of steps.
            self.run = connect().open(record, training="steps" not in record, sweep=message["sweep"])
        except Exception as error:
            self.give_up(error)

    def give_up(self, error: Exception) -> None:
        self.failed = True
        tell(complaint(self.place, error))

    def do(self, action: Callable[[Run], object]) -> None:
        """Do something with the run, unless an earlier thing failed."""
        if self.run is None or self.failed:
            return
        try:
            action(self.run)
        except Exception as error:
            self.give_up(error)

    def close(self, state: str) -> None:
        """End the run, even one that was given up: it may be that only some of it was refused."""
        if self.run is not None and self.failed:
            with contextlib.suppress(Exception):
                self.run.close(state)
        self.do(lambda run: run.close(state))


class Recording:
    """Passes on to every view what a stage tells."""

    def __init__(self, message: Message) -> None:
        self.record: Record = message["record"]
        self.cell, self.sampling = Path(message["cell"]), message["sampling"]
        self.pending: list[Point] = []
        self.flushed = time.monotonic()
        self.runs = [Guarded(place, connect, message) for place, connect in asked_for(message["tracking"])]

    def take(self, message: Message) -> None:
        """One message but the first and the last."""
        if message["kind"] == "metrics":
            self.pending += [
                Point(key, float(f"{value:.6g}"), message["step"], message["milliseconds"])  # as the files have it
                for key, value in message["values"].items()
            ]
            if time.monotonic() - self.flushed >= FLUSH_SECONDS:
                self.flush()
            return
        self.flush()
        if message["kind"] == "samples":
            samples = np.load(io.BytesIO(base64.b64decode(message["npy"])), allow_pickle=False)
            self.each(lambda run: show_preview(run, self.record, samples, message["step"]))
        else:
            stage, folder = message["stage"], Path(message["folder"])
            self.each(lambda run: catch_up(run, self.record, self.cell, before=stage))
            self.each(lambda run: show_stage(run, self.record, stage, folder, settings=self.sampling))

    def flush(self) -> None:
        """Pass on the losses that were kept back."""
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


def read_lines(inbox: "queue.SimpleQueue[Message | None]") -> None:
    """Empty the pipe, so that the stage never waits; None at its end, or where a line was cut."""
    with contextlib.suppress(ValueError):
        for line in sys.stdin.buffer:
            inbox.put(json.loads(line))
    inbox.put(None)


def record_run(first: Message, inbox: "queue.SimpleQueue[Message | None]") -> None:
    """Record a stage; one that ends without a word was killed."""
    recording, state = Recording(first), "KILLED"
    while any(guarded.run for guarded in recording.runs):
        try:
            message = inbox.get(timeout=FLUSH_SECONDS)
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


def record_report(first: Message) -> None:
    """Record all cells with a report."""
    for place, connect in asked_for(first["tracking"]):
        try:
            for _ in show_cells(connect(), Path(first["artifacts"]), Path(first["report"])):
                pass
        except Exception as error:
            tell(complaint(place, error))


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    quiet()
    inbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
    reader = threading.Thread(target=read_lines, args=[inbox], daemon=True)
    reader.start()
    try:
        serve(inbox)
    finally:
        # Python must not end while a thread waits for its input: where no view is left, that is until the stage ends.
        reader.join()


def serve(inbox: "queue.SimpleQueue[Message | None]") -> None:
    """Get ready, and then record a run or a report, if either comes."""
    if (expected := inbox.get()) is None:
        return
    tracking = expected["tracking"]
    load(tracking)
    if (first := inbox.get()) is None:
        return
    if "report" in first:
        record_report(first | {"tracking": tracking})
    else:
        record_run(first | {"tracking": tracking}, inbox)


if __name__ == "__main__":
    main()
