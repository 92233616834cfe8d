"""A progress bar for whatever takes longer than a few seconds."""

import threading
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

# One process shows a bar. The lock that tqdm would make is for several, and outlives a process that is killed.
tqdm.set_lock(threading.RLock())


def progress(
    items: Iterable[T], description: str, *, total: int | None = None, unit: str = "it", shown: bool = True
) -> "tqdm[T]":
    """Iterate with a bar on a terminal; elsewhere (a log file), or where another process shows one, without."""
    disable = None if shown else True
    return tqdm(items, desc=description, total=total, unit=unit, disable=disable, dynamic_ncols=True, leave=False)
