"""Open what samples are compared with: stored features and their extractor, or the values themselves."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.domain.prepared import Prepared, Split
from lookalike.metrics.neighbours import apart
from lookalike.workspace.errors import UserError
from lookalike.workspace.files import read_json, write_json

VALUES = "values"
"""Name of the extractor that compares values as they are."""

MAX_TRAINING = 50_000
"""Largest number of training rows among which copies are searched; of more, a fixed random subset is used."""


class Training(NamedTuple):
    """Training data among which copies are searched.

    Attributes:
        rows: their rows in the training split `[T]`.
        points: their features `[T, D]`.
        apart: distance of each to the nearest other one `[T]`.
        of: size of the training split.
    """

    rows: NDArray[np.int64]
    points: NDArray[Any]
    apart: NDArray[np.float64]
    of: int


def training_rows(count: int, *, most: int = MAX_TRAINING) -> NDArray[np.int64]:
    """Return all of `range(count)`, or a fixed random subset of `most` of it, in order."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).permutation(count)[:most])


def save_training(folder: Path, rows: NDArray[np.int64], points: NDArray[Any]) -> None:
    """Write the rows of training points `[T, D]` and the distance of each to the nearest other one."""
    np.save(folder / "train_rows.npy", rows, allow_pickle=False)
    np.save(folder / "train_apart.npy", apart(points), allow_pickle=False)


def save_identity(folder: Path, prepared: Prepared) -> dict[str, Any]:
    """Write and return the record of a data set that is compared in its values."""
    record = {"name": VALUES, "digest": None, "classes": False}
    write_json(folder / "extractor.json", record)
    rows = training_rows(len(prepared.grid("train")))
    save_training(folder, rows, prepared.values("train", rows))
    return record


class Extractor:
    """An extractor and stored features, opened from `artifacts/<data>/features/extractor`.

    Raises:
        UserError: the features stage has not run.
    """

    def __init__(self, folder: Path, prepared: Prepared) -> None:
        record = folder / "extractor.json"
        if not record.is_file():
            raise UserError(
                f"no features in {folder.parent}: run `lookalike features data={prepared.domain.name}` first"
            )
        self.folder, self.prepared = folder, prepared
        self.remedy = f"Run `lookalike features data={prepared.domain.name}` again"
        self.record = read_json(record, remedy=self.remedy, keys=["name", "digest", "classes"])
        self.is_identity = self.record["name"] == VALUES
        self.has_classes: bool = self.record["classes"]

    def stored(self, split: Split) -> NDArray[Any]:
        """Return the features `[N, D]` of the whole validation or test split."""
        return self.prepared.values(split) if self.is_identity else self._load(split)

    def training(self) -> Training:
        """Return what the features stage stored about the training data."""
        rows, between = self._load("train_rows"), self._load("train_apart")
        if rows.dtype.kind != "i" or not ((rows >= 0) & (rows < len(self.prepared.grid("train")))).all():
            raise UserError(f"features damaged: {self.folder / 'train_rows.npy'} (no rows of the data). {self.remedy}")
        points = self.prepared.values("train", rows) if self.is_identity else self._load("train")
        return Training(rows, points, between, len(self.prepared.grid("train")))

    def _load(self, name: str) -> NDArray[Any]:
        path = self.folder / f"{name}.npy"
        try:
            array: NDArray[Any] = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"features missing or damaged: {path} ({error}). {self.remedy}") from None
        return array
