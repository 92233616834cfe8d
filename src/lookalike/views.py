"""The stage's side of tracking: hands what happens to a process of its own that records it (see `tracking`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lookalike.config import Config


class View:
    """Where a stage tells of its run; none of its methods raises, waits or changes a result."""

    def metrics(self, values: dict[str, float], step: int) -> None: ...

    def samples(self, samples: NDArray[Any], step: int) -> None: ...

    def record(self, stage: str, folder: Path) -> None: ...


@contextmanager
def opened(config: Config, record: dict[str, Any]) -> Iterator[View]:
    yield View()
