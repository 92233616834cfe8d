"""Open the arrays that the `prepare` stage wrote."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from lookalike.domain.domain import Domain
from lookalike.domain.kinds import load_domain
from lookalike.domain.variables import Array
from lookalike.workspace.errors import UserError
from lookalike.workspace.files import read_json

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

MIN_POINTS = 20
"""Smallest number of samples, and of points of the splits that they are compared with."""


class Prepared:
    """The prepared arrays of one data set, memory-mapped.

    Args:
        folder: `artifacts/<data>/prepared`.

    Raises:
        UserError: the folder does not exist or does not hold what `prepare` writes.
    """

    def __init__(self, folder: Path) -> None:
        command = f"lookalike prepare data={folder.parent.name}"
        if not all((folder / name).is_file() for name in ("domain.json", "summary.json")):
            raise UserError(f"no prepared data in {folder}: run `{command}` first")
        self.folder = folder
        self.remedy = f"Run `{command}` again"
        fields = read_json(folder / "domain.json", remedy=self.remedy, keys=["name", "kind", "shape", "labels"])
        try:
            self.domain: Domain = load_domain(fields)
        except UserError as error:
            raise UserError(f"{folder}: {error}. {self.remedy}") from None
        self.summary = read_json(folder / "summary.json", remedy=self.remedy, keys=["digest"])
        self.digest: str = self.summary["digest"]

    def check_drawn_from(self, reader: dict[str, Any]) -> None:
        """Raise a UserError if these data were drawn from another density than a reader section names."""
        drawn_from, asked = self.summary.get("expected", {}).get("density"), reader.get("density")
        if drawn_from is not None and drawn_from != asked:
            raise UserError(
                f"data.reader.density={asked}: the prepared data were drawn from {drawn_from}. {self.remedy}, and "
                f"train again, or leave the density as it was"
            )

    def grid(self, split: Split) -> Array:
        """Return the grid points `[N, *shape]` of a split: the memory map itself."""
        return self._open(f"{split}.npy")

    def values(self, split: Split, rows: slice | Array = slice(None)) -> Array:
        """Return the values `[N, *shape]` of some rows of a split; of a slice of images they stay on the disk."""
        return self.domain.to_values(self.grid(split)[rows])

    def labels(self, split: Split) -> Array:
        """Return the class numbers `[N]` of a split; of unlabelled data an array of length 0."""
        return self._open(f"{split}_labels.npy")

    def _open(self, name: str) -> Array:
        try:
            # Copy on write: torch wants memory that it may write to, and nothing may reach the file.
            array: Array = np.load(self.folder / name, mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"prepared data damaged: {self.folder / name} ({error}). {self.remedy}") from None
        return array
