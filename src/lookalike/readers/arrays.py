"""Write what a reader found as the memory-mapped arrays that every later stage opens."""

import contextlib
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.domain.domain import Domain
from lookalike.domain.prepared import SPLITS, Split
from lookalike.domain.variables import Array, Ordered
from lookalike.readers.contract import Chunk, Source
from lookalike.workspace.errors import UserError
from lookalike.workspace.files import write_json

MIN_COUNT = 2
"""Smallest number of observations in a split: a standard deviation needs two."""


class GrowingArray:
    """A `.npy` file to which rows are appended; the number of rows need not be known beforehand.

    NumPy pads the header of a `.npy` file so that the first axis can grow in place.

    Args:
        path: the file, which is replaced.
        dtype: type of the numbers.
        shape: shape of one row.
    """

    def __init__(self, path: Path, *, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self.dtype, self.shape, self.count = dtype, shape, 0
        self.hash = hashlib.sha256()
        self.file = path.open("wb")
        self._write_header()

    def close(self) -> None:
        """Write the final number of rows."""
        self.file.seek(0)
        self._write_header()
        self.file.close()

    def append(self, rows: Array) -> None:
        """Write rows `[N, *shape]`."""
        content = np.ascontiguousarray(rows, dtype=self.dtype).data
        self.hash.update(content)
        self.file.write(content)
        self.count += len(rows)

    def digest(self) -> str:
        """Return a hexadecimal digest of type, shape and content."""
        return f"{self.dtype.str} {(self.count, *self.shape)} {self.hash.hexdigest()}"

    def _write_header(self) -> None:
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.count, *self.shape)}
        np.lib.format.write_array_header_1_0(self.file, header)


class Sums:
    """Sums over the grid points of the training data, per variable, from which the domain is fitted."""

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self.last = np.array([v.levels - 1 if isinstance(v, Ordered) else v.outcomes - 1 for v in domain.variables])
        self.count = 0
        self.totals, self.squares = (np.zeros(len(self.last)) for _ in range(2))
        self.at_ends = np.zeros(len(self.last), dtype=np.int64)

    def add(self, grid: Array) -> None:
        """Add grid points `[N, *shape]`."""
        columns = grid.reshape(-1, len(self.last))
        exact = columns.astype(np.float64)
        self.count += len(columns)
        self.totals += exact.sum(axis=0)
        self.squares += np.square(exact).sum(axis=0)
        self.at_ends += ((columns == 0) | (columns == self.last)).sum(axis=0)

    def fitted(self) -> Domain:
        """Return the domain with what its variables learn from the training data."""
        return self.domain.fitted(count=self.count, totals=self.totals, squares=self.squares, at_ends=self.at_ends)


class SplitWriter:
    """Write the arrays of one split and sum up what its summary says."""

    def __init__(self, domain: Domain, split: Split, folder: Path) -> None:
        self.domain, self.split = domain, split
        label_type = np.dtype(np.uint8 if len(domain.labels) <= 2**8 else np.int16)
        grid, labels = folder / f"{split}.npy", folder / f"{split}_labels.npy"
        self.grid = GrowingArray(grid, dtype=domain.grid_dtype, shape=domain.shape)
        self.labels = GrowingArray(labels, dtype=label_type, shape=())
        self.minimum, self.maximum, self.total, self.squares = math.inf, -math.inf, 0.0, 0.0
        self.classes: NDArray[np.int64] = np.zeros(len(domain.labels), dtype=np.int64)

    def append(self, chunk: Chunk) -> Array:
        """Write a chunk and return its grid points.

        Raises:
            UserError: a value is not on the grid, or a label numbers no class.
        """
        grid, values = self.domain.to_grid(chunk.values), chunk.values
        check_labels(self.domain, chunk.labels, count=len(values), split=self.split)
        self.grid.append(grid)
        self.labels.append(chunk.labels)
        self.minimum, self.maximum = min(self.minimum, values.min()), max(self.maximum, values.max())
        self.total += float(values.sum(dtype=np.float64))
        self.squares += float(np.square(values, dtype=np.float64).sum())
        self.classes += np.bincount(chunk.labels.astype(np.int64), minlength=len(self.classes))
        return grid

    def close(self) -> None:
        """Complete the files."""
        self.grid.close()
        self.labels.close()

    def summary(self) -> dict[str, Any]:
        """Return count, range, moments and class balance of what was written."""
        if self.grid.count < MIN_COUNT:
            raise UserError(
                f"{self.domain.name}: the {self.split} split has {self.grid.count} observations, and each split needs "
                f"{MIN_COUNT}"
            )
        numbers = self.grid.count * self.domain.dimensions
        mean = self.total / numbers
        return {
            "count": self.grid.count,
            "minimum": float(self.minimum),
            "maximum": float(self.maximum),
            "mean": round(mean, 4),
            "standard_deviation": round(math.sqrt(max(self.squares / numbers - mean**2, 0.0)), 4),
            "classes": {name: int(count) for name, count in zip(self.domain.labels, self.classes, strict=True)},
        }

    def digest(self) -> str:
        """Return what identifies the content of this split."""
        return f"{self.split} {self.grid.digest()} {self.labels.digest()}\n"


def check_labels(domain: Domain, labels: Array, *, count: int, split: Split) -> None:
    """Raise a UserError unless labels `[N]` number the domain's classes, or are empty where there are no classes."""
    expected, classes = (count if domain.labels else 0), len(domain.labels)
    if labels.shape != (expected,):
        raise UserError(f"{domain.name}: {split} has labels of shape {labels.shape} where {expected} are expected")
    if labels.size and not (labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < classes):
        raise UserError(
            f"{domain.name}: {split} has labels {labels.min()} to {labels.max()} of type {labels.dtype} for {classes} "
            f"classes"
        )


def write(source: Source, folder: Path) -> dict[str, Any]:
    """Write the arrays of all splits, `domain.json` and `summary.json` into a folder; return the summary.

    The data are read once, and memory holds one chunk of them. `{split}.npy` holds grid points `[N, *shape]` and
    `{split}_labels.npy` class numbers `[N]`, of which there are none without classes.

    Raises:
        UserError: a value is not on the grid, a label numbers no class or has no name in UTF-8, or a split has fewer
            than two observations.
    """
    domain = source.domain
    if len(domain.labels) >= 2**15:
        raise UserError(f"{domain.name}: {len(domain.labels)} classes, of which there may be {2**15 - 1}")
    if bad := [label for label in domain.labels if label.encode(errors="replace") != label.encode(errors="ignore")]:
        raise UserError(f"{domain.name}: the name of the class {bad[0]!r} is not UTF-8; rename it")
    sums = Sums(domain)
    with contextlib.ExitStack() as stack:
        writers = {
            split: stack.enter_context(contextlib.closing(SplitWriter(domain, split, folder))) for split in SPLITS
        }
        for chunk in source.chunks():
            grid = writers[chunk.split].append(chunk)
            if chunk.split == "train":
                sums.add(grid)
        splits = {split: writer.summary() for split, writer in writers.items()}
        digest = hashlib.sha256("".join(writer.digest() for writer in writers.values()).encode()).hexdigest()
    summary = {"name": domain.name, "digest": digest, "splits": splits, "expected": source.expected}
    write_json(folder / "domain.json", sums.fitted().to_dict())
    write_json(folder / "summary.json", summary)
    return summary
