"""The cost of a stage, and the versions that it ran with: what differs between machines."""

import resource
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil

from lookalike.workspace.files import write_json
from lookalike.workspace.versions import versions

T = TypeVar("T")

starts: list[float] = []
"""When the stage began that runs in this process, in seconds since the epoch; empty: with the process."""


@contextmanager
def counted_from_now() -> Iterator[None]:
    """Count what a stage costs from now on, in a process that runs several stages."""
    with suppress(OSError):  # Linux alone can forget the peak memory of earlier stages
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    starts.append(time.time())
    try:
        yield
    finally:
        starts.pop()


class Cost:
    """The seconds and the memory of one stage, and the versions that it ran with.

    They differ between runs and machines, so they stand in a file of their own, which is in DVC's cache and not in git.

    `process_seconds` counts from the start of the process (or of the stage, see `counted_from_now`) to the end of the
    stage, `startup_seconds` from there to the start of the work.
    """

    def __init__(self) -> None:
        self.record: dict[str, Any] = {}

    @contextmanager
    def work(self) -> Iterator[None]:
        """Time a block of training, sampling or scoring; several blocks add up."""
        start = time.monotonic()
        self.record.setdefault("startup_seconds", round(since_start(), 3))
        try:
            yield
        finally:
            self.record["work_seconds"] = self.record.get("work_seconds", 0.0) + time.monotonic() - start

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items; time how long each takes to make, and not what is done with it."""
        source = iter(items)
        while True:
            with self.work():
                item = next(source, None)
            if item is None:
                return
            yield item

    def save(self, folder: Path, **more: float) -> None:
        """Write `cost.json`."""
        if "work_seconds" in self.record:
            more["work_seconds"] = self.record["work_seconds"]
        self.record |= {name: round(value, 3) for name, value in more.items()}
        self.record["versions"] = versions()
        self.record |= {"process_seconds": round(since_start(), 3), "peak_memory_mb": round(peak_memory(), 1)}
        write_json(folder / "cost.json", self.record)


def since_start() -> float:
    """Return the seconds since this stage began, imports included."""
    return time.time() - (starts[-1] if starts else psutil.Process().create_time())


def peak_memory() -> float:
    """Return the largest memory that this process has had, in MiB; macOS counts it in bytes, Linux in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
