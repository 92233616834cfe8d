"""What samples are compared by: values as they are, or features stored beside their extractor."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.core.errors import UserError
from lookalike.core.files import read_json, write_json
from lookalike.data import Prepared, Split
from lookalike.metrics.neighbours import apart

VALUES = "values"
"""The extractor's name where numbers are compared as they are."""

MOST = 50_000
"""Training vectors at most among which the nearest to a sample is looked for: of more, a fixed random choice."""


class Training(NamedTuple):
    """Training data to look for copies of.

    Attributes:
        rows: in the training split `[T]`.
        points: what they are compared by `[T, D]`.
        apart: distance of each to the nearest other one `[T]`.
        of: size of the training split.
    """

    rows: NDArray[np.int64]
    points: NDArray[Any]
    apart: NDArray[np.float64]
    of: int


def training_rows(count: int, *, most: int = MOST) -> NDArray[np.int64]:
    """All of `range(count)`, or a fixed random choice of as many as there may be, in order."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).permutation(count)[:most])


def save_training(folder: Path, rows: NDArray[np.int64], points: NDArray[Any]) -> None:
    """Write the rows of some training points `[T, D]` and how far apart these are: the same for all that is scored."""
    np.save(folder / "train_rows.npy", rows, allow_pickle=False)
    np.save(folder / "train_apart.npy", apart(points), allow_pickle=False)


def save_identity(folder: Path, prepared: Prepared) -> dict[str, Any]:
    """Write the record of a data set that needs no extractor, and return it."""
    record = {"name": VALUES, "digest": None, "classes": False}
    write_json(folder / "extractor.json", record)
    rows = training_rows(len(prepared.values("train")))
    save_training(folder, rows, prepared.values("train")[rows])
    return record


class Extractor:
    """Opens `artifacts/<data>/features/extractor`.

    Raises:
        UserError: the features stage has not run.
    """

    def __init__(self, folder: Path, prepared: Prepared) -> None:
        record = folder / "extractor.json"
        if not record.is_file():
            raise UserError(
                f"no features in {folder.parent}: run `python pipelines/features.py data={prepared.domain.name}` first"
            )
        self.folder, self.prepared = folder, prepared
        self.remedy = f"Run `python pipelines/features.py data={prepared.domain.name}` again"
        self.record = read_json(record, remedy=self.remedy, keys=["name", "digest", "classes"])
        self.is_identity = self.record["name"] == VALUES
        self.has_classes: bool = self.record["classes"]

    def stored(self, split: Split) -> NDArray[Any]:
        """Features `[N, D]` of a split, whole: stored by the features stage for validation and test."""
        return self.prepared.values(split) if self.is_identity else self._load(split)

    def training(self) -> Training:
        """What the features stage stored of the training data."""
        rows, between = self._load("train_rows"), self._load("train_apart")
        values = self.prepared.values("train")
        return Training(rows, values[rows] if self.is_identity else self._load("train"), between, len(values))

    def _load(self, name: str) -> NDArray[Any]:
        path = self.folder / f"{name}.npy"
        try:
            array: NDArray[Any] = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"features missing or damaged: {path} ({error}). {self.remedy}") from None
        return array
