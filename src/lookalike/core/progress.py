"""A progress bar for whatever takes longer than a few seconds."""

from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(items: Iterable[T], description: str, *, total: int | None = None, unit: str = "it") -> "tqdm[T]":
    """Iterate with a bar on a terminal; elsewhere (a log file) without."""
    return tqdm(items, desc=description, total=total, unit=unit, disable=None, dynamic_ncols=True, leave=False)
