"""What samples are compared by: values as they are, or features stored beside their extractor."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.data import Prepared, Split
from lookalike.errors import UserError

VALUES = "values"
"""The extractor's name where numbers are compared as they are."""


def save_identity(folder: Path) -> None:
    """Write the record of a data set that needs no extractor."""
    write_record(folder, {"name": VALUES, "digest": None})


def write_record(folder: Path, record: dict[str, Any]) -> None:
    (folder / "extractor.json").write_text(json.dumps(record, indent=2) + "\n")


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
        self.record: dict[str, Any] = json.loads(record.read_text())
        self.is_identity = self.record["name"] == VALUES

    def stored(self, split: Split) -> NDArray[Any]:
        """Features of a whole split `[N, D]`: stored by the features stage for validation and test."""
        if self.is_identity:
            return self.prepared.values(split)
        features: NDArray[Any] = np.load(self.folder / f"{split}.npy", allow_pickle=False)
        return features
