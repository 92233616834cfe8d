"""Data sets: a reader a file turns raw files into arrays and a domain; `Prepared` opens what `prepare` wrote."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.core.files import read_json

Array = NDArray[Any]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Raw:
    """What a reader returns: values `[N, *shape]` and class numbers `[N]` by split, and the domain they live on.

    Unlabelled data have no class numbers: arrays of length 0.
    """

    domain: Domain
    values: dict[Split, Array]
    labels: dict[Split, Array]
    expected: dict[str, Any]
    """What the reader checked, in the reader's own words: it stands in the summary."""


def split_at_random(count: int, sizes: list[int], *, seed: int) -> list[NDArray[np.int64]]:
    """Cut a random permutation of `range(count)` into parts of the given sizes; the rest is the last part."""
    order = np.random.default_rng(seed).permutation(count)
    return np.split(order, np.cumsum(sizes))


def check_file(path: Path) -> None:
    """Raise a UserError that says how to get the raw data if a file of it is missing."""
    if not path.is_file():
        raise UserError(f"raw data missing: {path}. `dvc pull data.dvc` brings it from the bundled remote")


def check_md5(path: Path, content: bytes, expected: str) -> None:
    """Raise a UserError that names the file if its content is not what was published."""
    actual = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if actual != expected:
        raise UserError(
            f"raw data altered: {path} has md5 {actual}, published is {expected}. "
            f"Delete the file and run `dvc checkout data.dvc`"
        )


class Prepared:
    """The prepared arrays of one data set, memory-mapped.

    Args:
        folder: `artifacts/<data>/prepared`.

    Raises:
        UserError: the folder is not there or does not hold what `prepare` writes.
    """

    def __init__(self, folder: Path) -> None:
        if not all((folder / name).is_file() for name in ("domain.json", "summary.json")):
            raise UserError(
                f"no prepared data in {folder}: run `python pipelines/prepare.py data={folder.parent.name}` first"
            )
        self.folder = folder
        self.remedy = f"Run `python pipelines/prepare.py data={folder.parent.name}` again"
        fields = [field.name for field in dataclasses.fields(Domain)]
        self.domain = Domain.from_dict(read_json(folder / "domain.json", remedy=self.remedy, keys=fields))
        self.summary = read_json(folder / "summary.json", remedy=self.remedy, keys=["digest"])
        self.digest: str = self.summary["digest"]

    def check_drawn_from(self, reader: dict[str, Any]) -> None:
        """Raise a UserError if these data were drawn from another density than the one that a reader is told."""
        drawn_from, told = self.summary.get("expected", {}).get("density"), reader.get("density")
        if drawn_from is not None and drawn_from != told:
            raise UserError(
                f"data.reader.density={told}: the prepared data were drawn from {drawn_from}. {self.remedy}, and train "
                f"again, or leave the density as it was"
            )

    def values(self, split: Split) -> Array:
        """Values `[N, *shape]` of a split, on disk until they are used."""
        return self._open(f"{split}.npy")

    def grid(self, split: Split) -> Array:
        """Grid points `[N, *shape]` of a split: for images the memory map itself, uint8."""
        values = self.values(split)
        return values if self.domain.kind == "image" else self.domain.to_grid(values)

    def labels(self, split: Split) -> Array:
        """Class numbers `[N]` of a split."""
        return self._open(f"{split}_labels.npy")

    def _open(self, name: str) -> Array:
        try:
            array: Array = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"prepared data damaged: {self.folder / name} ({error}). {self.remedy}") from None
        return array
