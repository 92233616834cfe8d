"""What samples are compared by: values as they are, or features stored beside their extractor."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.core.errors import UserError
from lookalike.core.files import read_json, write_json
from lookalike.data import Prepared, Split

VALUES = "values"
"""The extractor's name where numbers are compared as they are."""


def save_identity(folder: Path) -> None:
    """Write the record of a data set that needs no extractor."""
    write_json(folder / "extractor.json", {"name": VALUES, "digest": None})


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
        self.record = read_json(record, remedy="Run the features stage again", keys=["name", "digest"])
        self.is_identity = self.record["name"] == VALUES

    def stored(self, split: Split) -> NDArray[Any]:
        """Features of a whole split `[N, D]`: stored by the features stage for validation and test."""
        if self.is_identity:
            return self.prepared.values(split)
        features: NDArray[Any] = np.load(self.folder / f"{split}.npy", allow_pickle=False)
        return features
