"""A progress bar for whatever takes longer than a few seconds."""

import io
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")

# One process shows a bar. tqdm's own lock is for several processes, and outlives a process that is killed.
tqdm.set_lock(threading.RLock())

Report = Callable[[str], None]

reports: list[Report] = []
"""Functions that are called with the progress instead of a bar; the last one counts."""


class Reported(tqdm):  # type: ignore[type-arg]
    """A bar that calls a function with a text such as "training 43%" instead of drawing itself."""

    def display(self, *_: Any, **__: Any) -> None:
        if reports:  # a bar may be closed after the block, when a stage has failed
            reports[-1](f"{self.desc} {self.n / self.total:.0%}" if self.total else f"{self.desc} {self.n}")


@contextmanager
def reported(report: Report) -> Iterator[None]:
    """Call a function, at most once per second, with the progress of what runs in the block, and draw no bar."""
    reports.append(report)
    try:
        yield
    finally:
        reports.pop()


def progress(
    items: Iterable[T], description: str, *, total: int | None = None, unit: str = "it", shown: bool = True
) -> "tqdm[T]":
    """Iterate over items with a progress bar.

    The bar is drawn on a terminal only, and not if `shown` is false because another process draws one.
    """
    if shown and reports:
        return Reported(items, desc=description, total=total, file=io.StringIO(), mininterval=1.0)
    disable = None if shown else True
    return tqdm(items, desc=description, total=total, unit=unit, disable=disable, dynamic_ncols=True, leave=False)
